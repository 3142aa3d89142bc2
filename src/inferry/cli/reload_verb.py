"""`inferry reload`: apply the changed deployment file to the running instance."""

from __future__ import annotations

from typing import Annotated

import typer

from inferry.cli.down import Port
from inferry.cli.lifecycle_words import client_of
from inferry.cli.rollout_steps import showing_steps


def reload(
    port: Port = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Read the deployment file again and apply it, whole or not at all; says what changed."""
    client = client_of(port)
    with showing_steps(client, lambda view: view.reason == "the file has changed", as_json):
        done = client.reload()
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
