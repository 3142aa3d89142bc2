"""The simulator's page has what the verb has."""

from __future__ import annotations

import dataclasses
import inspect

from inferry.cli import simulate
from inferry.cli.simulate_failures import KINDS
from inferry.simulate.timing import EngineTiming

from .pages import DOCS

TEXT = (DOCS / "simulate.md").read_text(encoding="utf-8")


def test_every_option_is_explained() -> None:
    """There is no option of `inferry simulate` that only `--help` knows."""
    named = {
        name.removesuffix("_").removeprefix("as_") for name in inspect.signature(simulate.simulate).parameters
    }
    options = ["--" + name.replace("_", "-") for name in named - {"files"}]
    assert [each for each in sorted(options) if f"`{each} " not in TEXT and f"`{each}`" not in TEXT] == []


def test_every_failure_and_figure_is_explained() -> None:
    """All kinds of failures, and all that a timing by hand may hold."""
    assert [kind for kind in KINDS if f"| `{kind}` |" not in TEXT] == []
    assert [each.name for each in dataclasses.fields(EngineTiming) if f"  {each.name}: " not in TEXT] == []
