"""The pages as a site: built without a warning, no dead link, nothing loaded from elsewhere.

Slow: the site's tools are installed first, unless INFERRY_TEST_ENGINES names a folder that has them.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import venv
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from .pages import DOCS, ROOT

LOCK = ROOT / "locks" / "docs.txt"
VERBATIM = ("code", "pre", "script", "style", "title")
MARKUP = re.compile(r"`|\*\*|\]\(|^\s*\|.*\|\s*$", re.M)
"""What a reader must not see: Markdown that was not taken for such."""
LOADS = {
    ("script", "src"),
    ("img", "src"),
    ("source", "src"),
    ("iframe", "src"),
    ("link", "href"),
    ("object", "data"),
}


class Page(HTMLParser):
    """What a page loads, where its links lead, which places it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.classes: set[str] = set()
        self.raw: list[str] = []
        self._inside: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_endtag(self, tag: str) -> None:
        if tag in VERBATIM and self._inside:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside and MARKUP.search(data):
            self.raw.append(data.strip()[:80])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in VERBATIM:
            self._inside.append(tag)
        for name, value in attrs:
            if value is None:
                continue
            if name == "id":
                self.ids.add(value)
            elif name == "class":
                self.classes.update(value.split())
            elif (tag, name) in LOADS:
                self.loads.append(value)
            elif (tag, name) == ("a", "href"):
                self.links.append(value)


def nav_pages(entry: object) -> set[str]:
    """The pages that a part of mkdocs.yml's `nav:` names."""
    match entry:
        case str():
            return {entry}
        case list():
            return {page for each in entry for page in nav_pages(each)}
        case dict():
            return {page for each in entry.values() for page in nav_pages(each)}
    raise TypeError(f"a nav entry is text, a list or names, and not {entry!r}")


def test_the_navigation_has_every_page() -> None:
    """A page that is not in mkdocs.yml would be found by search alone; one that is gone can't be built."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").replace("!!python/object/apply:", "!")
    text = re.sub(r"slugify: .*", "slugify: left out }", text)
    nav = {page for page in nav_pages(yaml.safe_load(text)["nav"]) if not page.startswith("project/")}
    assert nav == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}


@pytest.fixture(scope="session")
def mkdocs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, installed from the lock; kept where INFERRY_TEST_ENGINES names a folder, under the lock's hash."""
    kept = os.environ.get("INFERRY_TEST_ENGINES")
    name = f"docs-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"
    folder = (Path(kept) if kept else tmp_path_factory.mktemp("site-tools")) / name
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        done = subprocess.run(
            [folder / "bin" / "pip", "--disable-pip-version-check", "install", "-q", "--require-hashes", "-r", LOCK],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "complete").touch()
    return folder / "bin" / "mkdocs"


@pytest.fixture(scope="session")
def site(mkdocs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [mkdocs, "build", "--strict", "--site-dir", folder],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


@cache
def page(path: Path) -> Page:
    return Page(path)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_links_in_the_site_lead_somewhere(site: Path) -> None:
    """Each link and each thing that a page loads is a file of the site, with the place that is named in it."""
    broken: list[str] = []
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 100
    for path in pages:
        if path.name == "404.html":  # its addresses begin at the root of a server
            continue
        for link in {*page(path).links, *page(path).loads}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                broken.append(f"{path.relative_to(site)}: {link}")
            elif (
                parts.fragment
                and target.suffix == ".html"
                and unquote(parts.fragment) not in page(target).ids
            ):
                broken.append(f"{path.relative_to(site)}: {link}: no such place")
    assert broken == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """No script, style, font or picture of another host, and no diagram for which the theme would fetch a program."""
    outside = [
        f"{path.relative_to(site)}: {each}"
        for path in site.rglob("*.html")
        for each in page(path).loads
        if urlsplit(each).netloc
    ]
    outside += [
        f"{path.relative_to(site)}: {each}"
        for path in site.rglob("*.css")
        for each in re.findall(
            r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")]+)", path.read_text(encoding="utf-8")
        )
    ]
    assert outside == []
    assert [path for path in site.rglob("*.html") if "mermaid" in page(path).classes] == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_pages_lead_to_outside_of_docs_comes_along(site: Path) -> None:
    """Source files and the project's own pages are in the site, with their text."""
    assert "make check" in (site / "project" / "CONTRIBUTING.html").read_text(encoding="utf-8")
    assert "deployments" in (site / "project" / "examples" / "inferry.yaml.html").read_text(encoding="utf-8")
    accuracy = page(site / "accuracy.html").links
    assert [link for link in accuracy if link.startswith("project/benchmarks/data/")]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_lists_are_lists(site: Path) -> None:
    """No list or table is swallowed by the paragraph above it, as MkDocs' Markdown does where a code host's does not."""
    swallowed = [
        f"{path.relative_to(site)}: {match[0][:60]!r}"
        for path in site.rglob("*.html")
        for match in re.finditer(
            r"<p>(?:(?!</p>).)*\n(?:[-*] |\d+\. |\|)(?:(?!</p>).)*</p>", path.read_text(), re.S
        )
    ]
    assert swallowed == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_markup_is_left(site: Path) -> None:
    """No fence, table, link or bold text is shown as it was written, and a numbered list goes on behind a block."""
    assert {
        str(path.relative_to(site)): page(path).raw for path in site.rglob("*.html") if page(path).raw
    } == {}
    numbered = re.findall(r"<ol>", (site / "release.html").read_text(encoding="utf-8"))
    assert len(numbered) == 1
