"""`inferry engines`: which engines there are, what is known of them, and how each is started."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import typer

from inferry.cli import engines_command, engines_doctor, engines_probe
from inferry.core.errors import ConfigError
from inferry.core.suggest import did_you_mean

# inferry.engines is imported inside the verbs: `inferry --help` needs none of it.

app = typer.Typer(no_args_is_help=True, help="Choose, compare, start and check engines.")
app.command("command")(engines_command.command)
app.command("doctor")(engines_doctor.doctor)
app.command("probe")(engines_probe.probe)

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command(name="list")
def list_engines(as_json: AsJson = False) -> None:
    """Show the engines: what each is for, and whether it is on this machine."""
    from inferry.cli.engines_here import engine_here
    from inferry.engines.facts import engine_facts

    rows: list[dict[str, Any]] = []
    for name, known in engine_facts().items():
        here = engine_here(name, os.environ)
        rows.append(
            {
                "engine": name,
                "title": known.title,
                "for": known.text("purpose"),
                "hardware": known.text("hardware"),
                "state": known.text("state"),
                "here": None if here is None else {"where": here.where, "version": here.version},
            }
        )
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from inferry.cli.engines_table import list_text

    typer.echo(list_text(rows, _columns()))


@app.command()
def compare(
    engines: Annotated[
        list[str] | None, typer.Argument(metavar="[ENGINE]...", help="Only these.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show engines side by side, each fact and figure with its source."""
    from inferry.cli.engines_table import compare_json, compare_text
    from inferry.engines.facts import engine_facts

    every = engine_facts()
    for name in engines or ():
        if name not in every:
            raise ConfigError(f"There is no engine '{name}'.{did_you_mean(name, every)}")
    chosen = [every[name] for name in dict.fromkeys(engines or every)]
    typer.echo(json.dumps(compare_json(chosen), indent=2) if as_json else compare_text(chosen, _columns()))


def _columns() -> int:
    import shutil

    return min(shutil.get_terminal_size((100, 24)).columns, 140)
