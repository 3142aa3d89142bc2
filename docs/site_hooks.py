"""Lets the pages be read as a site as they are read on a code host (`make docs`; mkdocs.yml names this file).

A link that leaves docs/ (`../examples/inferry.yaml`, `../CONTRIBUTING.md`) works on a code host, but MkDocs knows
docs/ alone. So what such links lead to comes along, below project/: pages as pages, source files as pages that show
them, large files as they are; and the links are turned to these. Nothing points to an address outside.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[1]
SHOWN_MAX_BYTES = 150_000
"""A larger file is linked to as it is: a page of it would be slow to open."""
LANGUAGES = {
    ".py": "python",
    ".yaml": "yaml",
    ".json": "json",
    ".jsonl": "json",
    ".sh": "bash",
    ".csv": "text",
}
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?(\))")
CODE = re.compile(r"(`+[^`]*`+)")
MERMAID = re.compile(r"^```mermaid\n.*?^```$", re.M | re.S)
# Code hosts draw Mermaid; a site would have to load a program for it, so there it is the picture of the concepts.
PICTURE = "![Clients, gateways, the control process and replicas](../images/concepts.svg)"


def on_files(files: Files, config: Any) -> Files:
    """Add what pages link to outside of docs/, and what these pages link to in turn."""
    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    seen = set(waiting)
    while waiting:
        page = waiting.pop()
        for target in _targets(page):
            if target not in seen:
                seen.add(target)
                if not target.startswith("docs/"):
                    files.append(_file(target, config))
                    waiting += [target] if target.endswith(".md") else []
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn the page's links to where things are in the site."""
    del config, files
    place = _repository_path(page.file.src_uri)

    def turned(match: re.Match[str]) -> str:
        target = _resolved(place, match[2])
        if target is None:
            return match[0]
        there = posixpath.relpath(_site_path(target), posixpath.dirname(page.file.src_uri))
        return f"{match[1]}{there}{match[3] or ''}{match[4]}"

    text = MERMAID.sub(PICTURE, markdown) if place == "README.md" else markdown
    return "".join(piece if is_code else LINK.sub(turned, piece) for piece, is_code in _pieces(text))


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """The text in order, code and prose apart."""
    inside = False
    for line in text.splitlines(keepends=True):
        fence = line.lstrip().startswith("```")
        if fence or inside:
            inside = inside != fence
            yield line, True
        else:
            for number, piece in enumerate(CODE.split(line)):
                # A link whose words are code is cut in two here: its address stands in the second piece.
                yield piece, number % 2 == 1


def _targets(page: str) -> Iterator[str]:
    """What a page of the repository links to in it."""
    for piece, is_code in _pieces((ROOT / page).read_text(encoding="utf-8")):
        if not is_code:
            for match in LINK.finditer(piece):
                target = _resolved(page, match[2])
                if target is not None:
                    yield target


def _resolved(page: str, link: str) -> str | None:
    """From a page's link to a file of the repository, a folder's being its README; None: it is not there, which is
    for MkDocs to say."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    if (ROOT / target).is_dir():
        target += "/README.md"
    return target if not target.startswith("..") and (ROOT / target).is_file() else None


def _site_path(target: str) -> str:
    """Where a file of the repository is among the site's sources."""
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    if target.endswith(".md") or (ROOT / target).stat().st_size > SHOWN_MAX_BYTES:
        return f"project/{target}"
    return f"project/{target}.md"


def _repository_path(site_path: str) -> str:
    """The way back, for pages."""
    if not site_path.startswith("project/"):
        return f"docs/{site_path}"
    inside = site_path.removeprefix("project/")
    return inside if (ROOT / inside).is_file() else inside.removesuffix(".md")


def _file(target: str, config: Any) -> File:
    """A file outside of docs/ as one of the site's."""
    where, path = _site_path(target), ROOT / target
    kept = InclusionLevel.NOT_IN_NAV
    if where == f"project/{target}":
        return File.generated(config, where, abs_src_path=os.fspath(path), inclusion=kept)
    language = LANGUAGES.get(path.suffix, "text")
    text = path.read_text(encoding="utf-8").rstrip("\n")
    content = f"# {path.name}\n\n`{target}`\n\n~~~~ {{.{language}}}\n{text}\n~~~~\n"
    return File.generated(config, where, content=content, inclusion=kept)
