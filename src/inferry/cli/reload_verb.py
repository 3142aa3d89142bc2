"""`inferry reload`: apply the changed deployment file to the running instance."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from inferry.cli.config import DEFAULT_FILE
from inferry.cli.down import Port
from inferry.core.home import inferry_home


def reload(
    port: Port = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Read the deployment file again and apply it, whole or not at all; says what changed."""
    from inferry.admin.client import ControlClient
    from inferry.admin.run_record import find

    done = ControlClient(find(inferry_home(os.environ), port, DEFAULT_FILE)).reload()
    if as_json:
        typer.echo(done.model_dump_json())
        return
    if not done.changes:
        typer.echo(f"Nothing to do: the file says what is in force already (generation {done.generation}).")
        return
    when = " already, when the file was saved" if done.by_watcher else ""
    typer.echo(f"Applied{when}, generation {done.generation}:")
    for line in done.changes:
        typer.echo(f"  {line}")
