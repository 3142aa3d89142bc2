"""docs/plan.md: each plan on it is asked for again, and each kind of line that it shows is still there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from inferry.cli.main import main

from .pages import DOCS, Shown, blocks, shown_commands

PAGE = DOCS / "plan.md"


def plans() -> list[Shown]:
    return [
        shown
        for block in blocks(PAGE)
        if block.language in ("console", "sh")
        for shown in shown_commands(block)
        if shown.command.startswith("inferry plan") and "|" not in shown.command
    ]


def headings(text: str) -> list[str]:
    """What tables and lists are called: words in capitals at a line's start."""
    return [found[0] for found in re.finditer(r"^[A-Z]{4,}(?: [A-Z]+)*", text, re.M)]


@pytest.mark.parametrize("shown", [pytest.param(each, id=each.command[:70]) for each in plans()])
def test_the_plans_of_the_page_are_answered_as_shown(
    shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same parts in the same order and the same first words; figures change as the formulas get better."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INFERRY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("sys.argv", shlex.split(shown.command))
    with pytest.raises(SystemExit) as ended:
        main()
    out = capsys.readouterr().out
    assert ended.value.code in (0, 1, None)
    assert out.strip()
    whole = shown.output.partition("\n...")[0].strip()
    assert headings(out)[: len(headings(whole))] == headings(whole)
    if whole:
        assert out.splitlines()[0] == whole.splitlines()[0]


def test_the_page_has_all_kinds_of_answers() -> None:
    """One that works, one for rent, one that does not fit and one that is too much."""
    outputs = [shown.output for shown in plans()]
    for words in ("Take ", "requests/s", "does not fit on", "WHAT WOULD DO"):
        assert any(words in output for output in outputs), words
