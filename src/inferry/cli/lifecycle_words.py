"""What the verbs scale, drain, restart and rollout have in common: whom they ask, and how they answer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.cli.config import DEFAULT_FILE
from inferry.core.home import inferry_home

if TYPE_CHECKING:
    from inferry.admin.lifecycle_api import DoneView
    from inferry.admin.lifecycle_client import LifecycleClient
    from inferry.admin.scaling_client import ScalingClient

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Target = Annotated[
    str, typer.Argument(metavar="REPLICA|DEPLOYMENT", help="A replica's id, or all of a deployment.")
]

Grace = Annotated[
    float | None,
    typer.Option(
        "--grace", metavar="S", min=0, max=86400, help="Seconds to finish in; default: gateway.drain_s."
    ),
]

_PHASES = {
    "rolling_back": "being taken back",
    "rolled_back": "taken back",
    "stuck": "taken back in part only",
}


def phase_in_words(phase: str) -> str:
    """How far a rollout is, for people."""
    return _PHASES.get(phase, phase)


def client_of(port: int | None) -> LifecycleClient:
    """The running instance that is meant."""
    from inferry.admin.lifecycle_client import LifecycleClient
    from inferry.admin.run_record import find

    return LifecycleClient(find(inferry_home(os.environ), port, DEFAULT_FILE))


def scaling_client_of(port: int | None) -> ScalingClient:
    """The same, for its scaling."""
    from inferry.admin.run_record import find
    from inferry.admin.scaling_client import ScalingClient

    return ScalingClient(find(inferry_home(os.environ), port, DEFAULT_FILE))


def show(done: DoneView, as_json: bool) -> None:
    typer.echo(done.model_dump_json(indent=2) if as_json else done.message)
