"""The pages and what stands in their fenced blocks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WRONG_MARK = "<!-- wrong on purpose -->"


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `wrong`: the page says that it is a mistake, and the next block shows what is said."""

    page: Path
    line: int
    language: str
    text: str
    wrong: bool

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True, slots=True)
class Shown:
    """A command of a console block, and what the page shows below it."""

    block: Block
    command: str
    output: str


@cache
def pages() -> tuple[Path, ...]:
    """Every page of the project."""
    return (*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")))


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    start: int | None = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        wrong = start > 0 and lines[start - 1] == WRONG_MARK
        text = "\n".join(lines[start + 1 : number]) + "\n"
        found.append(Block(page, start + 1, lines[start][3:].strip(), text, wrong))
        start = None
    assert start is None, f"{page}: the block that begins in line {start} has no end"
    return tuple(found)


def all_blocks(*languages: str) -> list[Block]:
    """Blocks of these languages, of all pages."""
    return [block for page in pages() for block in blocks(page) if block.language in languages]


def without_blocks(page: Path) -> str:
    """The page's prose."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def shown_commands(block: Block) -> list[Shown]:
    """What a console block types after `$ `, each with its output; of a shell block, each line."""
    text = block.text.replace("\\\n", " ")
    if block.language != "console":
        return [Shown(block, line, "") for line in text.splitlines() if line.strip()]
    shown: list[Shown] = []
    for line in text.splitlines(keepends=True):
        if line.startswith("$ "):
            shown.append(Shown(block, line[2:].rstrip("\n"), ""))
        elif shown:
            shown[-1] = Shown(block, shown[-1].command, shown[-1].output + line)
    return shown


# To these, `inferry` is a namespace, a release or an image; what they run inside comes after `--`, or the container.
_OTHERS = {"kubectl", "helm"}


def inferry_calls(command: str) -> Iterator[list[str]]:
    """The words after each `inferry` in a shell line, up to the next pipe, bracket or semicolon."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    call: list[str] | None = None
    theirs = False
    for word in lexer:
        if set(word) <= set("();<>|&"):
            if call is not None:
                yield call
            call, theirs = None, False
        elif call is not None:
            call.append(word)
        elif word in _OTHERS:
            theirs = True
        elif word == "--":
            theirs = False
        elif not theirs and (word == "inferry" or word.endswith("/inferry")):
            call = []
    if call is not None:
        yield call
