"""`inferry down`: end a running instance and wait until it is gone."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from inferry.cli.config import DEFAULT_FILE
from inferry.core.clock import pause_s
from inferry.core.home import inferry_home

Port = Annotated[
    int | None, typer.Option("--port", "-p", min=1, max=65535, help="Which one, if several run.")
]


def down(
    port: Port = None,
    now: Annotated[
        bool, typer.Option("--now", help="Cut running answers instead of finishing them.")
    ] = False,
) -> None:
    """Stop what `inferry up` started: finish running answers, then end the engines."""
    from inferry.admin.client import ControlClient
    from inferry.admin.run_record import find

    record = find(inferry_home(os.environ), port, DEFAULT_FILE)
    ControlClient(record).shut_down(at_once=now)
    while record.alive():
        pause_s(0.1)
    typer.echo(f"Stopped: {record.url} (pid {record.pid})")
