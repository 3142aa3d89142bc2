"""`inferry up`: start what the deployment file says, in the foreground or detached."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.cli.config import DEFAULT_FILE
from inferry.core.errors import ConfigError, StartFailed
from inferry.core.home import inferry_home

if TYPE_CHECKING:
    from inferry.cli.stack import Place
    from inferry.core.config_file import LoadedFile
    from inferry.core.replica import ReplicaView

POLL_S = 0.1


def up(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="The deployment file.")] = DEFAULT_FILE,
    port: Annotated[
        int | None, typer.Option("--port", "-p", min=0, max=65535, help="Listen here instead; 0 picks one.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Go on in the background.")] = False,
) -> None:
    """Start the engines and the gateway of a deployment file, and keep them alive."""
    from inferry.cli.stack import Place
    from inferry.core.config_file import load_file
    from inferry.gateway.server import bind_socket

    loaded = load_file(file, os.environ)
    host, wanted = loaded.config.gateway.host, loaded.config.gateway.port
    # The port first: it is cheap to find out that it is taken, and models can take long to fetch.
    listener = bind_socket(host, wanted if port is None else port)
    try:
        place = Place(loaded, inferry_home(os.environ), listener, host)
        models = _fetch_models(loaded)
        if detach:
            chosen = place.port
            listener.close()
            _run_detached(file, chosen, place.home)
        else:
            _run_here(place, models)
    finally:
        listener.close()


def _fetch_models(loaded: LoadedFile) -> dict[str, Path | None]:
    """The local path of each deployment's weights, fetched where they are missing."""
    from inferry.cli.models import rich_progress
    from inferry.core.clock import SystemClock
    from inferry.core.deployment import LlamaCppDeployment
    from inferry.core.model_ref import parse_model_ref
    from inferry.models.pull import pull
    from inferry.models.store import ModelStore

    store = ModelStore(inferry_home(os.environ))
    paths: dict[str, Path | None] = {}
    for name, deployment in loaded.config.deployments.items():
        if not isinstance(deployment, LlamaCppDeployment):
            continue
        ref = parse_model_ref(deployment.model)
        try:
            stored = pull(ref, store, progress=rich_progress(), environ=os.environ, clock=SystemClock())
        except ConfigError as error:
            raise type(error)(f"deployments.{name}.model: {error.message}") from error
        paths[name] = stored.path
    return paths


# --- in the foreground --------------------------------------------------------------------------------


def _run_here(place: Place, models: dict[str, Path | None]) -> None:
    import asyncio

    import uvloop

    from inferry.cli.logging_setup import log_to_file
    from inferry.cli.stack import Stack

    log_to_file(place.home / "run" / str(place.port) / "inferry.jsonl")
    announcer = _Announcer(place)

    async def run() -> None:
        stack = Stack(place, models, on_view=announcer.on_view, environ=os.environ)
        announcer.began()
        await stack.run(announcer.settled)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    typer.echo("Stopped; no engine is left running.")


class _Announcer:
    """Says on the terminal what runs where, and what changes."""

    def __init__(self, place: Place) -> None:
        from inferry.core.clock import SystemClock

        self._place = place
        self._clock = SystemClock()
        self._began_s = self._clock.now_s()
        self._said: dict[str, tuple[str, str]] = {}

    def began(self) -> None:
        from inferry import __version__
        from inferry.cli.stack import shown_model
        from inferry.core.deployment import OpenAIDeployment

        place = self._place
        typer.echo(f"inferry {__version__}  {place.url}/v1  serving {place.loaded.path}")
        for name, deployment in place.loaded.config.deployments.items():
            if isinstance(deployment, OpenAIDeployment):
                amount = f"{len(deployment.endpoints)} endpoint(s) of others"
            else:
                amount = f"{deployment.replicas} replica(s)"
            engine = "SIMULATED engine" if deployment.engine == "simulated" else deployment.engine
            typer.echo(f"  {name}: {shown_model(deployment)} on {engine}, {amount}")

    def on_view(self, view: ReplicaView) -> None:
        state = view.state.value
        coming_up = state in ("starting", "warming")
        # While it comes up, its id and place are news once; what each probe says is not.
        news = ("coming up", str(view.pid)) if coming_up else (state, view.message)
        if state == "pending" or (coming_up and view.pid is None and not view.message):
            return
        if self._said.get(view.id) == news:
            return
        self._said[view.id] = news
        where = f"  {view.endpoint.url}" if view.endpoint and state in ("ready", "starting") else ""
        process = f"  pid {view.pid}" if view.pid is not None and state in ("ready", "starting") else ""
        why = f"  {view.message}" if view.message and not (coming_up and view.pid is not None) else ""
        typer.echo(f"  {view.id} {state}{where}{process}{why}")

    def settled(self) -> None:
        seconds = self._clock.now_s() - self._began_s
        name, deployment = next(iter(self._place.loaded.config.deployments.items()))
        question = '{"role": "user", "content": "Where is the Eiffel Tower?"}'
        typer.echo(f"Ready after {seconds:.1f} s. Ask something:\n")
        typer.echo(
            f"  curl {self._place.url}/v1/chat/completions -H 'content-type: application/json' \\\n"
            f'    -d \'{{"model": "{name}", "messages": [{question}], "temperature": 0}}\'\n'
        )
        if deployment.engine == "simulated":
            typer.echo("This deployment is SIMULATED: no model runs, and its words mean nothing.")
        command = _own_command()
        stop = f"'{command} down'" if os.environ.get("INFERRY_DETACHED") else "Ctrl-C"
        typer.echo(f"Or talk to it with '{command} chat'. State: '{command} status'. Stop: {stop}.")


def _own_command() -> str:
    """How this very command can be typed: its path, if it is not the one that the shell would find."""
    here = Path(sys.executable).parent / "inferry"
    found = shutil.which("inferry")
    if not here.exists() or (found is not None and Path(found).samefile(here)):
        return "inferry"
    try:
        return str(here.relative_to(Path.cwd()))
    except ValueError:
        return str(here)


# --- detached -----------------------------------------------------------------------------------------


def _run_detached(file: Path, port: int, home: Path) -> None:
    from inferry.admin.client import ControlClient
    from inferry.admin.run_record import run_folder, running

    folder = run_folder(home, port)
    folder.mkdir(parents=True, exist_ok=True)
    log_path = folder / "inferry.log"
    with log_path.open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "inferry", "up", str(file), "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "INFERRY_DETACHED": "1"},
        )
    said = 0
    while True:
        try:
            code = child.wait(POLL_S)
        except subprocess.TimeoutExpired:
            pass
        else:
            lines = log_path.read_text(errors="replace").strip().splitlines()
            reason = "\n".join(lines[said:]).removeprefix("error: ")
            raise StartFailed(reason or f"it ended with exit code {code} and said nothing; see {log_path}")
        text = log_path.read_bytes().decode(errors="replace")
        whole = text[: text.rfind("\n") + 1].splitlines()
        for line in whole[said:]:
            if not line.startswith("error:"):
                typer.echo(line)
                said += 1
        record = next((record for record in running(home) if record.pid == child.pid), None)
        if record is not None and ControlClient(record).status().settled:
            break
    typer.echo(f"Running in the background, pid {child.pid}; what it says goes to {log_path}")
