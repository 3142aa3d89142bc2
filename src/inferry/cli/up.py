"""`inferry up`: start what the deployment file says, in the foreground or detached."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.cli.config import DEFAULT_FILE
from inferry.core.errors import ConfigError, StartFailed
from inferry.core.home import inferry_home

if TYPE_CHECKING:
    from inferry.cli.place import Place
    from inferry.core.config_file import LoadedFile

POLL_S = 0.1
END_S = 20.0
"""For an instance that is given up while it starts: engines may have loaded much, and have 10 s to end."""


def up(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The deployment file.")] = DEFAULT_FILE,
    port: Annotated[
        int | None, typer.Option("--port", "-p", min=0, max=65535, help="Listen here instead; 0 picks one.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Go on in the background.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print each replica's launch command; start nothing.")
    ] = False,
) -> None:
    """Start the engines and the gateway of a deployment file, and keep them alive."""
    from inferry.cli.config_check import errors_placed
    from inferry.core.config_file import load_file

    loaded = load_file(file, os.environ)
    with errors_placed(loaded):
        if dry_run:
            from inferry.cli.dry_run import dry_run_text

            typer.echo(dry_run_text(file, loaded, port, os.environ), nl=False)
        else:
            _start(file, loaded, port, detach)


def _start(file: Path, loaded: LoadedFile, port: int | None, detach: bool) -> None:
    from inferry.admin.run_record import make_run_folder
    from inferry.cli.config_extras import check_extras
    from inferry.cli.models import rich_progress
    from inferry.cli.place import Place
    from inferry.cli.weights import check_engines, fetch_models
    from inferry.core.gateway_settings import split_listen
    from inferry.gateway.server import bind_sockets

    check_extras(loaded.config)
    check_engines(loaded.config, os.environ)
    host, wanted = loaded.config.gateway.host, loaded.config.gateway.port
    # The port first: it is cheap to find out that it is taken, and models can take long to fetch.
    chosen_port = wanted if port is None else port
    try:
        listeners = bind_sockets(host, chosen_port, loaded.config.gateway.workers)
    except ConfigError as error:
        _explain_own_port(chosen_port)
        raise error
    try:
        admin = loaded.config.admin.listen
        admin_listeners = [] if admin is None else bind_sockets(*split_listen(admin), setting="admin.listen")
        listeners += admin_listeners
        place = Place(
            loaded,
            inferry_home(os.environ),
            listeners[: loaded.config.gateway.workers],
            host,
            admin_listeners,
        )
        make_run_folder(place.home, place.port)
        models = fetch_models(loaded.config, place.home, os.environ, rich_progress())
        if detach:
            chosen = place.port
            _close(listeners)
            _say_first_key(loaded, place.home)
            _run_detached(file, chosen, place.home)
        else:
            _run_here(place, models)
    finally:
        _close(listeners)


def _close(listeners: list[socket.socket]) -> None:
    for listener in listeners:
        listener.close()


def _explain_own_port(port: int) -> None:
    """If it is Inferry itself that has the port, say which, and how to end it."""
    from inferry.admin.run_record import running

    for record in running(inferry_home(os.environ)):
        if record.port == port:
            raise ConfigError(
                f"Port {port} is taken: Inferry serves {record.file} there already (pid {record.pid}). End it with "
                f"'inferry down --port {port}', or choose another port with --port."
            ) from None


# --- in the foreground --------------------------------------------------------------------------------


def _run_here(place: Place, models: dict[str, Path | None]) -> None:
    import asyncio

    import uvloop

    from inferry.admin.run_record import map_home_errors, run_folder
    from inferry.cli.announcer import Announcer
    from inferry.cli.logging_setup import log_to_file
    from inferry.cli.short_pauses import keep_pauses_short
    from inferry.cli.speaker import Speaker
    from inferry.cli.stack import Stack

    with map_home_errors(place.home):
        log_to_file(run_folder(place.home, place.port) / "inferry.jsonl")
    with Speaker(_stdout_fd()) as speaker:
        announcer = Announcer(place.url, place.loaded, speaker.say)

        async def run() -> None:
            stack = Stack(
                place,
                models,
                on_view=announcer.on_view,
                on_first_key=announcer.on_first_key,
                say=speaker.say,
                environ=os.environ,
            )

            def on_settled() -> None:
                announcer.settled()
                keep_pauses_short()  # again: the store, the control API and more have been loaded since

            keep_pauses_short()
            announcer.began()
            await stack.run(on_settled)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())
        announcer.stopped()


def _stdout_fd() -> int | None:
    """None if we were started with stdout closed: its number may belong to another file by now."""
    return None if sys.stdout is None else sys.stdout.fileno()


# --- detached -----------------------------------------------------------------------------------------


def _run_detached(file: Path, port: int, home: Path) -> None:
    from inferry.admin.run_record import map_home_errors, run_folder
    from inferry.cli.speaker import Speaker

    log_path = run_folder(home, port) / "inferry.log"
    with map_home_errors(home):
        log = log_path.open("wb")
    with log:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "inferry", "up", str(file), "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "INFERRY_DETACHED": "1"},
        )
    try:
        with Speaker(_stdout_fd()) as speaker:
            _await_settled(child, home, _Said(log_path, speaker.say), log_path)
            speaker.say(f"Running in the background, pid {child.pid}; what it says goes to {log_path}")
    except BaseException:  # Ctrl-C above all: nothing may stay behind that nobody has been told of
        _end(child)
        raise


def _say_first_key(loaded: LoadedFile, home: Path) -> None:
    """The first admin key is made and shown here: what the child says goes to a file, which is no place for it."""
    from inferry.cli.bookkeeping import FIRST_KEY

    wanted = loaded.config.gateway.auth == "keys" or loaded.config.admin.listen is not None
    if not wanted or os.environ.get(FIRST_KEY) == "none":
        return
    from inferry.cli.announcer import first_key_text
    from inferry.core.clock import SystemClock
    from inferry.ledger.database import default_url, open_database
    from inferry.ledger.keys import KeyStore

    database = open_database(loaded.config.ledger.url or default_url(home))
    try:
        database.migrate()
        first = KeyStore(database, SystemClock()).ensure_admin_key()
    finally:
        database.close()
    if first is not None:
        typer.echo(first_key_text(first.text))


def _await_settled(child: subprocess.Popen[bytes], home: Path, said: _Said, log_path: Path) -> None:
    """Passes on what the child says until all its replicas are up. Raises StartFailed when it ends instead."""
    from inferry.admin.client import ControlClient
    from inferry.admin.run_record import running

    while True:
        try:
            code = child.wait(POLL_S)
        except subprocess.TimeoutExpired:
            pass
        else:
            reason = said.rest().removeprefix("error: ")
            raise StartFailed(reason or f"it ended with exit code {code} and said nothing; see {log_path}")
        record = next((record for record in running(home) if record.pid == child.pid), None)
        settled = record is not None and ControlClient(record).status().settled
        said.go_on()  # asked before, so that nothing it said until then is missed
        if settled:
            return


def _end(child: subprocess.Popen[bytes]) -> None:
    """End it in good order; at once when that takes too long, or at the next Ctrl-C. Its engines go with it."""
    if child.poll() is not None:
        return
    child.terminate()
    typer.echo(f"Stopping what had been started, pid {child.pid}.", err=True)
    try:
        child.wait(END_S)
    except subprocess.TimeoutExpired:
        typer.echo("It takes too long: killed.", err=True)
    finally:
        child.kill()
        child.wait()


class _Said:
    """Passes on what the child says, line by line, up to the error that it may end with."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path = path
        self._say = say
        self._lines_said = 0

    def go_on(self) -> None:
        text = self._path.read_text(errors="replace")
        for line in text[: text.rfind("\n") + 1].splitlines()[self._lines_said :]:
            if line.startswith("error:"):
                return
            self._say(line)
            self._lines_said += 1

    def rest(self) -> str:
        return "\n".join(self._path.read_text(errors="replace").strip().splitlines()[self._lines_said :])
