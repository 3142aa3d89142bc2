"""An option of a verb that has many: shown in a group of its own, its default told by its words."""

from __future__ import annotations

from typing import Any

import typer


def grouped_option(
    names: str, group: str, says: str, shape: str | None = None, **bounds: Any
) -> typer.models.OptionInfo:
    """`names`: `--rate -r`. `shape`: what stands for the value in the help. `bounds`: as `typer.Option` takes them."""
    found = typer.Option(
        *names.split(), metavar=shape, help=says, rich_help_panel=group, show_default=False, **bounds
    )
    assert isinstance(found, typer.models.OptionInfo)
    return found
