"""`inferry lora`: LoRA adapters, loaded and dropped while engines run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.cli.config import DEFAULT_FILE
from inferry.cli.down import Port
from inferry.core.home import inferry_home

if TYPE_CHECKING:
    from inferry.admin.lora_client import LoraClient

app = typer.Typer(no_args_is_help=True, help="LoRA adapters, loaded and dropped while engines run.")
Deployment = Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="One with 'lora_live: true'.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Clients send DEPLOYMENT/NAME as `model`.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("load")
def load(
    deployment: Deployment,
    name: Name,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder with adapter_config.json.")],
    port: Port = None,
    as_json: AsJson = False,
) -> None:
    """Load an adapter at every replica, and at those that start later. It lives as long as Inferry does."""
    answer = _client(port).load(deployment, name, str(path.expanduser().absolute()))
    if as_json:
        typer.echo(answer.model_dump_json())
        return
    where = ", ".join(answer.replicas) or "no replica yet: each gets it when it starts"
    typer.echo(f"Loaded at {where}. Clients send '{deployment}/{name}' as model.")


@app.command("unload")
def unload(deployment: Deployment, name: Name, port: Port = None, as_json: AsJson = False) -> None:
    """Take an adapter's name away from clients, and drop it at every replica."""
    answer = _client(port).unload(deployment, name)
    typer.echo(
        answer.model_dump_json() if as_json else f"Dropped at {', '.join(answer.replicas) or 'no replica'}."
    )


@app.command("list")
def list_adapters(port: Port = None, as_json: AsJson = False) -> None:
    """Show the adapters of the file, and those that were loaded since."""
    adapters = _client(port).adapters()
    if as_json:
        import json

        typer.echo(json.dumps([each.model_dump() for each in adapters], indent=2))
        return
    if not adapters:
        typer.echo("No deployment has an adapter.")
    for each in adapters:
        source = "from the file" if each.from_file else "loaded by hand"
        typer.echo(f"{each.model or f'{each.deployment}: {each.name}'}  {each.path}  {source}")
        for replica_id, reason in each.missing.items():
            typer.echo(f"  not at {replica_id}: {reason}")


def _client(port: int | None) -> LoraClient:
    from inferry.admin.lora_client import LoraClient
    from inferry.admin.run_record import find

    return LoraClient(find(inferry_home(os.environ), port, DEFAULT_FILE))
