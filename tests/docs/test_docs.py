"""What the pages say is so: links, files, commands, keys, names. Nothing is started here."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from inferry.cli.main import app
from inferry.core.config_file import load_file, parse_text
from inferry.core.errors import ConfigError, EngineError, InferryError, Rejected
from inferry.core.replica import ReplicaState
from inferry.core.request import ROUTES

from .pages import DOCS, ROOT, all_blocks, blocks, inferry_calls, pages, shown_commands, without_blocks

README = ROOT / "README.md"
README_ZH = ROOT / "README.zh-CN.md"
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]*)\)")
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors of a page's headings, as they are made from the words."""
    titles = re.findall(r"^#+ +(.+)$", without_blocks(page), re.M)
    return frozenset(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)


def test_relative_links_lead_somewhere() -> None:
    """Each link that is not to another site names a file that is here, and a heading that is in it."""
    broken: list[str] = []
    for page in pages():
        for target in LINK.findall(without_blocks(page)):
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            if not path.exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
            elif anchor and path.suffix == ".md" and anchor not in anchors(path):
                broken.append(f"{page.relative_to(ROOT)}: {target}: no such heading")
    assert broken == []


def test_the_index_lists_every_page() -> None:
    """docs/README.md links to each page in docs/, and the decisions' list to each decision."""
    for folder in (DOCS, DOCS / "decisions"):
        index = folder / "README.md"
        linked = set(LINK.findall(index.read_text(encoding="utf-8")))
        assert {page.name for page in folder.glob("*.md") if page != index} - linked == set()


# --- deployment files ---------------------------------------------------------------------------------


def deployment_files() -> list[Any]:
    return [
        pytest.param(block, id=block.place)
        for block in all_blocks("yaml")
        if "deployments:" in block.text or "gateway:" in block.text
    ]


@pytest.mark.parametrize("block", [each for each in deployment_files() if not each.values[0].wrong])
def test_deployment_files_are_right(block: Any) -> None:
    """Each deployment file on a page is one that `inferry up` takes, its variables given."""
    environ = dict.fromkeys(VARIABLE.findall(block.text), "value")
    assert parse_text(block.text, Path("inferry.yaml"), environ).config.deployments


@pytest.mark.parametrize("block", [each for each in deployment_files() if each.values[0].wrong])
def test_wrong_files_are_answered_as_shown(block: Any) -> None:
    """A deployment file that a page shows as a mistake is answered with the very lines below it."""
    following = blocks(block.page)[blocks(block.page).index(block) + 1]
    with pytest.raises(ConfigError) as raised:
        parse_text(block.text, Path("inferry.yaml"), {})
    said = f"error: {raised.value.message}"
    # In any order: which problem comes first is of no weight.
    assert sorted(_plain(said)) == sorted(_plain(following.text))


def _plain(text: str) -> list[str]:
    return [line.removeprefix("error: ") for line in text.splitlines()]


def test_example_files_are_right() -> None:
    """Each file in examples/ is one that `inferry up` takes."""
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        assert load_file(path, {}).config.deployments


def test_the_reference_is_what_the_types_say() -> None:
    """No page with a generated part has drifted: `python docs/generate_reference.py` would change nothing."""
    pages_as_generated = runpy.run_path(str(DOCS / "generate_reference.py"))["pages"]()
    assert len(pages_as_generated) == 4
    drifted = [
        page.name for page, text in pages_as_generated.items() if page.read_text(encoding="utf-8") != text
    ]
    assert drifted == []


def test_the_generated_pages_have_every_verb_and_metric() -> None:
    """Nothing that the source names is left out by the programs that write these pages."""
    verbs = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert [verb for verb in map(" ".join, leaf_commands()) if f"### `inferry {verb}`" not in verbs] == []
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    files = ("collector.py", "scaling_families.py", "standing_families.py")
    source = "".join((ROOT / "src" / "inferry" / "gateway" / name).read_text() for name in files)
    named = set(re.findall(r'"(inferry_\w+)"', source))
    assert len(named) > 40
    assert [name for name in sorted(named) if not re.search(rf"`{name}(_total)?`", text)] == []


# --- commands -----------------------------------------------------------------------------------------

COMMANDS: Any = typer.main.get_command(app)


def leaf_commands(command: Any = COMMANDS, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Each verb, with the word before it where there is one."""
    for name, each in command.commands.items():
        if hasattr(each, "commands"):
            yield from leaf_commands(each, (*path, name))
        else:
            yield (*path, name)


def problem_with(words: list[str], *, with_values: bool) -> str | None:
    """What is wrong with the words after `inferry`. Without values, only verbs and options are looked at."""
    command, rest = COMMANDS, list(words)
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        name = rest.pop(0)
        verb_left_out = getattr(command, "default_verb", None)
        if name not in command.commands and verb_left_out is not None:
            name, rest = verb_left_out, [name, *rest]
        if name not in command.commands:
            return f"there is no verb '{name}'"
        command = command.commands[name]
    known = {option for each in command.params for option in each.opts} | {"--help", "-h"}
    for word in rest:
        option = word.partition("=")[0]
        if option.startswith("-") and option not in known:
            return f"there is no option '{option}'"
    if with_values and not hasattr(command, "commands") and not {"--help", "-h"} & set(rest):
        try:
            command.make_context("inferry", rest)
        except Exception as error:  # noqa: BLE001 - whose class it is changes with typer's version
            return str(error)
    return None


def test_commands_in_blocks_exist() -> None:
    """Each `inferry` in a shell block has a verb, options and values that the command line takes."""
    wrong: list[str] = []
    seen = 0
    for block in all_blocks("sh", "bash", "console"):
        for shown in shown_commands(block):
            for call in inferry_calls(shown.command):
                seen += 1
                if problem := problem_with(call, with_values=True):
                    wrong.append(f"{block.place}: {shown.command}: {problem}")
    assert wrong == []
    assert seen > 15


def test_commands_in_text_exist() -> None:
    """Each `inferry VERB ...` that a sentence names has a verb and options that the command line has."""
    wrong = [
        f"{page.relative_to(ROOT)}: {span}: {problem}"
        for page in pages()
        for span in re.findall(r"`inferry ([^`]+)`", without_blocks(page))
        if "..." not in span
        for verb in span.split()[0].split("|")
        if (problem := problem_with([verb, *span.split()[1:]], with_values=False))
    ]
    assert wrong == []


def test_every_verb_is_on_a_page() -> None:
    """There is no verb that only `--help` knows."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages())
    missing = [verb for verb in map(" ".join, leaf_commands()) if not re.search(rf"inferry {verb}\b", text)]
    assert missing == []


def test_make_targets_exist() -> None:
    """Each `make TARGET` on a page is in the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named: set[str] = set()
    for page in pages():
        named |= set(re.findall(r"`make ([a-z]+)", without_blocks(page)))
    for block in all_blocks("sh", "console"):
        named |= set(re.findall(r"^make ([a-z]+)", block.text, re.M))
    assert {"up", "test", "check"} <= named
    assert named - targets == set()


# --- names that pages must know -----------------------------------------------------------------------


def codes(branch: type[InferryError]) -> set[str]:
    """The error codes of a branch of the tree that a client may meet."""
    below = {code for each in branch.__subclasses__() for code in codes(each)}
    return below or {branch.code}


def test_the_gateway_page_has_every_name() -> None:
    """Routes, error codes and metrics of the gateway are all on its page."""
    text = (DOCS / "gateway.md").read_text(encoding="utf-8")
    source = (ROOT / "src" / "inferry" / "gateway" / "collector.py").read_text()
    metrics = set(re.findall(r'"(inferry_\w+)"', source))
    assert len(metrics) >= 8
    assert [path for path in ROUTES if f"POST {path}`" not in text] == []
    assert [code for code in sorted(codes(Rejected) | codes(EngineError)) if f"`{code}`" not in text] == []
    assert [name for name in sorted(metrics) if f"`{name}" not in text] == []


def test_the_operation_page_has_every_state() -> None:
    """The table of states is complete."""
    text = (DOCS / "operate.md").read_text(encoding="utf-8")
    assert [state.value for state in ReplicaState if f"| `{state.value}` |" not in text] == []


def test_the_map_names_every_file() -> None:
    """A new file of the product gets a place on the map."""
    text = (DOCS / "map.md").read_text(encoding="utf-8")
    files = (path.relative_to(ROOT).as_posix() for path in (ROOT / "src" / "inferry").rglob("*.py"))
    missing = [
        name
        for name in files
        if not name.endswith(("__init__.py", "__main__.py")) and f"`{name}`" not in text
    ]
    assert missing == []


# --- two languages ------------------------------------------------------------------------------------


def test_both_readmes_have_the_same_code() -> None:
    """README.md and README.zh-CN.md show the same blocks, in the same order."""
    english, chinese = ([(each.language, each.text) for each in blocks(page)] for page in (README, README_ZH))
    assert english == chinese


def test_both_readmes_are_in_step() -> None:
    """Both have the same headings in number and level, the same table rows, and the same links."""

    def shape(page: Path, other: Path) -> tuple[list[str], int, set[str]]:
        text = without_blocks(page)
        rows = len(re.findall(r"^\|", text, re.M))
        return re.findall(r"^#+", text, re.M), rows, set(LINK.findall(text)) - {other.name}

    assert shape(README, README_ZH) == shape(README_ZH, README)


def test_the_readmes_link_to_each_other() -> None:
    """Who reads one finds the other."""
    assert f"]({README_ZH.name})" in README.read_text(encoding="utf-8")
    assert f"]({README.name})" in README_ZH.read_text(encoding="utf-8")
