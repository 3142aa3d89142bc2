"""`inferry status`: what runs, in which state, and how busy it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.cli.config import DEFAULT_FILE
from inferry.cli.down import Port
from inferry.cli.lifecycle_words import phase_in_words
from inferry.cli.names_table import names_tables
from inferry.core.clock import pause_s
from inferry.core.errors import ConfigError
from inferry.core.home import inferry_home

if TYPE_CHECKING:
    from rich.console import RenderableType

    from inferry.admin.status import DeploymentStatus, Status

COLOURS = {"ready": "green", "failed": "red", "suspect": "yellow", "draining": "yellow", "stopped": "dim"}
WATCH_S = 1.0
REASON_LINES = 12
"""Of why a file was refused; all of it is in the log."""


def status(
    port: Port = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing, once a second.")] = False,
) -> None:
    """Show deployments and replicas: state, since when, requests, tokens per second, restarts."""
    from inferry.admin.client import ControlClient
    from inferry.admin.run_record import find

    record = find(inferry_home(os.environ), port, DEFAULT_FILE)
    client = ControlClient(record)
    if as_json:
        typer.echo(client.status().model_dump_json(indent=2))
        return
    from rich.console import Console

    # In a pipe nothing is cut or broken: whoever reads there counts lines.
    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    if not watch:
        console.print(_table(client.status()))
        return
    from rich.live import Live

    with Live(_table(client.status()), console=console, screen=console.is_terminal) as live:
        while True:
            pause_s(WATCH_S)
            if not record.alive():
                break
            live.update(_table(client.status()))
    raise ConfigError(f"Inferry on port {record.port} (pid {record.pid}) has ended.")


def _table(status: Status) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from inferry.core.clock import SystemClock

    now_s = SystemClock().wall_s()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("DEPLOYMENT", "REPLICA", "STATE", "SINCE", "REQUESTS", "TOKENS/S", "RESTARTS"):
        right = title in ("REQUESTS", "TOKENS/S", "RESTARTS")
        # An id that is cut can't be typed: fold it instead.
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    notes: list[Text] = []
    for deployment in status.deployments:
        label = f"{deployment.name} (SIMULATED)" if deployment.simulated else deployment.name
        if deployment.load is not None and not deployment.replicas:
            table.add_row(label, "-", Text(deployment.load.state, style="dim"), "", "", "", "")
        for index, replica in enumerate(deployment.replicas):
            table.add_row(
                label if index == 0 else "",
                replica.id,
                Text(replica.state, style=COLOURS.get(replica.state, "")),
                _ago(now_s - replica.since),
                f"{replica.requests}" + (f" ({replica.in_flight} now)" if replica.in_flight else ""),
                f"{replica.tokens_per_s:.1f}",
                str(replica.restarts),
            )
            if replica.message and replica.state not in ("ready", "standby"):
                notes.append(Text(f"{replica.id}: {replica.message}", style="yellow"))
        notes += [Text(note, style="yellow") for note in _notes(deployment)]
    head = Text(f"{status.url}/v1  {status.status}  pid {status.pid}  {status.file}", style="bold")
    file_notes = [Text(note, style="red") for note in _file_notes(status)]
    return Group(head, *file_notes, table, *notes, *names_tables(status.names))


def _file_notes(status: Status) -> list[str]:
    """Why what runs is not what the file says, where that is so."""
    if status.file_not_in_force is None:
        return []
    lines = status.file_not_in_force.splitlines()
    cut = ["..."] if len(lines) > REASON_LINES else []
    return [
        "The file on disk is not in force; what ran before goes on:",
        *(f"  {line}" for line in (*lines[:REASON_LINES], *cut)),
    ]


def _notes(deployment: DeploymentStatus) -> Iterator[str]:
    """What goes on with a deployment as a whole."""
    if deployment.load is not None and deployment.load.message:
        yield f"{deployment.name}: {deployment.load.state}: {deployment.load.message}"
    scaling = deployment.scaling
    if scaling is not None:
        yield f"{deployment.name}: {scaling.wanted} wanted of {scaling.min} to {scaling.max}: {scaling.because}"
        yield from (f"{deployment.name}: alert: {alert}" for alert in scaling.alerts)
    elif deployment.scaled_by_hand is not None:
        yield f"{deployment.name}: scaled to {deployment.scaled_by_hand} by hand; the file says another number"
    rollout = deployment.rollout
    if rollout is not None and rollout.phase != "done":
        first_line = rollout.because.partition("\n")[0]
        why = f": {first_line}" if first_line else ""
        phase = phase_in_words(rollout.phase)
        yield f"{deployment.name}: {rollout.reason}, {phase}, {rollout.replaced} of {rollout.total} new{why}"


def _ago(seconds: float) -> str:
    """`12 s`, `3 min`, `5 h`, `2 d`."""
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{max(0, int(seconds / divisor))} {unit}"
    return f"{int(seconds / 86400)} d"
