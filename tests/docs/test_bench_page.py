"""The bench's page has what the verb and the verdicts have."""

from __future__ import annotations

import inspect

from inferry.bench.records import Verdict
from inferry.cli import bench

from .pages import DOCS

TEXT = (DOCS / "bench.md").read_text(encoding="utf-8")


def test_every_option_is_explained() -> None:
    """There is no option of `inferry bench` that only `--help` knows."""
    named = inspect.signature(bench.bench).parameters.keys() - {"target", "files"}
    options = ["--" + name.replace("_", "-") for name in named]
    assert [
        option for option in sorted(options) if f"`{option} " not in TEXT and f"`{option}`" not in TEXT
    ] == []


def test_every_verdict_is_explained() -> None:
    """Each way in which a request can end is in the table."""
    assert [each.value for each in Verdict if f"| `{each.value}` |" not in TEXT] == []


def test_every_exit_code_is_explained() -> None:
    """CI is told by the page what each code means."""
    codes = [value for name, value in vars(bench).items() if name.startswith("EXIT_")]
    assert len(codes) >= 4
    assert [code for code in codes if f"| {code} |" not in TEXT] == []
