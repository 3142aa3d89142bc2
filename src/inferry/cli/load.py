"""`inferry load` and `inferry unload`: models that load on demand, by hand."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.cli.config import DEFAULT_FILE
from inferry.cli.down import Port
from inferry.core.home import inferry_home

if TYPE_CHECKING:
    from inferry.admin.load_client import LoadClient

Deployment = Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="One with 'load: on_demand'.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def load(deployment: Deployment, port: Port = None, as_json: AsJson = False) -> None:
    """Load a model that loads on demand now; others make room for it. Returns when it serves."""
    answer = _client(port).load(deployment)
    typer.echo(answer.model_dump_json() if as_json else answer.message)


def unload(deployment: Deployment, port: Port = None, as_json: AsJson = False) -> None:
    """End a model's engines once they have finished their requests; the next request loads it again."""
    answer = _client(port).unload(deployment)
    typer.echo(answer.model_dump_json() if as_json else answer.message)


def _client(port: int | None) -> LoadClient:
    from inferry.admin.load_client import LoadClient
    from inferry.admin.run_record import find

    return LoadClient(find(inferry_home(os.environ), port, DEFAULT_FILE))
