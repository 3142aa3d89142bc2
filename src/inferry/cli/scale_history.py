"""`inferry scale history`: what happened to the numbers of replicas, and why; from the journal, so also when nothing runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.cli.config import DEFAULT_FILE
from inferry.cli.down import Port
from inferry.cli.lifecycle_words import AsJson
from inferry.cli.scale_words import counted, event_lines, since_wall_s
from inferry.core.clock import SystemClock
from inferry.core.errors import ConfigError, UnknownReplica
from inferry.core.home import inferry_home

if TYPE_CHECKING:
    from pathlib import Path

    from inferry.admin.scaling_view import HistoryView


def history(
    deployment: Annotated[
        str | None, typer.Argument(metavar="DEPLOYMENT", help="Only of this one.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="90s, 30m, 6h, 2d ago; or a UTC date or time."),
    ] = None,
    port: Port = None,
    as_json: AsJson = False,
) -> None:
    """Show every change, alert and number by hand: when, by which rule, by which figures, and what became of it.

    Works also when Inferry has ended: it reads what was written down.
    """
    wall_s = None if since is None else since_wall_s(since, SystemClock().wall_s())
    found = _read(port, deployment, wall_s)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    for event in found.events:
        for line in event_lines(event):
            typer.echo(line)
    if not found.events:
        typer.echo(
            f"Nothing happened{f' to {deployment!r}' if deployment else ''}{' since then' if since else ''}."
        )
    if found.damaged:
        typer.echo(
            f"note: {counted(found.damaged, 'line')} of the journal can't be read (cut by a kill or a full disk)",
            err=True,
        )


def _read(port: int | None, deployment: str | None, since_s: float | None) -> HistoryView:
    from inferry.admin.run_record import find, run_folder, running
    from inferry.admin.scaling_client import ScalingClient
    from inferry.admin.scaling_view import view_past
    from inferry.fleet.scaling_journal import read_journal

    home = inferry_home(os.environ)
    ports = [each.port for each in running(home)]
    if port in ports or (ports and port is None):
        return ScalingClient(find(home, port, DEFAULT_FILE)).history(deployment, since_s)
    folder = run_folder(home, _ended_port(home, port))
    try:
        past = read_journal(folder)
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: can't be read: {error.strerror or error}") from error
    try:
        return view_past(past, deployment=deployment, since=since_s)
    except UnknownReplica as error:
        raise ConfigError(error.message) from None


def _ended_port(home: Path, port: int | None) -> int:
    """Of what has ended, the port whose journal is meant. Raises ConfigError with the way out."""
    from inferry.fleet.scaling_journal import journal_ports

    ports = journal_ports(home / "run")
    if port in ports:
        return port
    known = ", ".join(map(str, ports))
    if not ports:
        raise ConfigError(
            f"Nothing of scaling was written down below {home}. It begins with 'inferry up' and a deployment with "
            "'scaling'."
        )
    if port is not None:
        raise ConfigError(f"Nothing of scaling was written down on port {port}, but on: {known}.")
    if len(ports) > 1:
        raise ConfigError(
            f"Nothing runs, and several journals are left, by port: {known}. Say which with --port."
        )
    return ports[0]
