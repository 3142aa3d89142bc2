"""What `inferry up` says on the terminal: what runs where, what changes, and how to ask the first question."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from inferry import __version__
from inferry.cli.config import shown_model
from inferry.cli.names_table import in_words
from inferry.core.clock import SystemClock
from inferry.core.config_file import LoadedFile
from inferry.core.kubernetes_settings import KubernetesSettings
from inferry.core.remote_engines import OpenAIDeployment
from inferry.core.replica import ReplicaState, ReplicaView

_COMING_UP = (ReplicaState.STARTING, ReplicaState.WARMING)
_WAIT_MARK = "; starts again"


class Announcer:
    """Says one line per piece of news; what repeats itself is said once.

    `say` must neither block nor raise: it is called on the event loop.
    """

    def __init__(self, url: str, loaded: LoadedFile, say: Callable[[str], None]) -> None:
        self._url = url
        self._say = say
        self._loaded = loaded
        self._clock = SystemClock()
        self._began_s = self._clock.now_s()
        self._views: dict[str, ReplicaView] = {}
        self._said: dict[str, str] = {}

    def began(self) -> None:
        self._say(f"inferry {__version__}  {self._url}/v1  serving {self._loaded.path}")
        for name, deployment in self._loaded.config.deployments.items():
            if deployment.runs_elsewhere and deployment.endpoints is not None:
                amount = f"{len(deployment.endpoints)} endpoint(s) of others"
            elif not isinstance(deployment, OpenAIDeployment):
                amount = f"{deployment.replicas} replica(s)"
                if deployment.standby:
                    amount += f" and {deployment.standby} on standby"
                if deployment.on_demand:
                    amount += ", loaded on demand"
            engine = "SIMULATED engine" if deployment.engine == "simulated" else deployment.engine
            self._say(f"  {name}: {shown_model(deployment)} on {engine}, {amount}")
        for name, public in self._loaded.config.names.items():
            self._say(f"  {name}: {in_words(public)}")
        admin = self._loaded.config.admin
        if admin.listen is not None:
            scheme = "http" if admin.tls is None else "https"
            self._say(f"  admin API: {scheme}://{admin.listen}, for keys with scope admin or read-only")

    def on_view(self, view: ReplicaView) -> None:
        before = self._views.get(view.id)
        self._views[view.id] = view
        line = self._line(view, was=before.state if before else None)
        if line is not None and self._said.get(view.id) != line:
            self._said[view.id] = line
            self._say(f"  {view.id} {line}")

    def _line(self, view: ReplicaView, was: ReplicaState | None) -> str | None:
        place = f"  {view.endpoint.url}" if view.endpoint else ""
        process = f"  pid {view.pid}" if view.pid is not None else ""
        match view.state:
            case ReplicaState.PENDING:
                # The reason was said when it failed.
                _, mark, wait = view.message.partition(_WAIT_MARK)
                return f"starts again{wait}" if mark else None
            case state if state in _COMING_UP:
                # Its place is news; what each probe says while the model loads is not.
                if process:
                    return f"starting{place}{process}"
                return f"starting{place}  {view.message}" if view.message else None
            case ReplicaState.FAILED:
                # When it is given up, the same reason comes again, longer: that is for the error at the end.
                return None if was is ReplicaState.FAILED else f"failed  {view.message.splitlines()[0]}"
            case ReplicaState.READY:
                return f"{'standby' if view.standby else 'ready'}{place}{process}"
            case state:
                return f"{state.value}  {view.message}".rstrip()

    def on_first_key(self, text: str) -> None:
        self._say(first_key_text(text))

    def stopped(self) -> None:
        runtime = self._loaded.config.runtime
        stays = isinstance(runtime, KubernetesSettings) and runtime.keep
        self._say("Stopped; pods stay as they are." if stays else "Stopped; no engine is left running.")

    def settled(self) -> None:
        """Every replica of ours is up or given up: say what can be asked now."""
        seconds = self._clock.now_s() - self._began_s
        ready = {view.deployment for view in self._views.values() if view.state is ReplicaState.READY}
        deployments = self._loaded.config.deployments
        ready |= {name for name, deployment in deployments.items() if deployment.on_demand}
        silent = [name for name in deployments if name not in ready]
        command = own_command()
        for name in silent:
            self._say(f"Nothing of '{name}' answers yet.")
        if silent == list(deployments):
            self._say(f"Listening after {seconds:.1f} s.")
        else:
            name = next(name for name in deployments if name in ready)
            question = '{"role": "user", "content": "Where is the Eiffel Tower?"}'
            asks_keys = self._loaded.config.gateway.auth == "keys"
            if asks_keys:
                self._say(
                    f"Requests need a key: '{command} keys create --tenant NAME' makes one. "
                    "Put it into INFERRY_KEY (export INFERRY_KEY=...)."
                )
            header = ' -H "authorization: Bearer $INFERRY_KEY"' if asks_keys else ""
            self._say(
                f"Ready after {seconds:.1f} s. Ask something:\n\n"
                f"  curl {self._url}/v1/chat/completions{header} -H 'content-type: application/json' \\\n"
                f'    -d \'{{"model": "{name}", "messages": [{question}], "temperature": 0}}\'\n'
            )
            if deployments[name].engine == "simulated":
                self._say(f"'{name}' is SIMULATED: no model runs, and its words mean nothing.")
            self._say(f"Or talk to it with '{command} chat'.")
        stop = f"'{command} down'" if os.environ.get("INFERRY_DETACHED") else "Ctrl-C"
        self._say(f"State: '{command} status'. Stop: {stop}.")


def first_key_text(text: str) -> str:
    return (
        "The first admin key, shown only now. It is for the admin API of other machines; 'inferry keys' on this one "
        "needs none:\n"
        f"  {text}"
    )


def own_command() -> str:
    """How this very command can be typed: its path, if it is not the one that the shell would find."""
    here = Path(sys.executable).parent / "inferry"
    found = shutil.which("inferry")
    if not here.exists() or (found is not None and Path(found).samefile(here)):
        return "inferry"
    try:
        return str(here.relative_to(Path.cwd()))
    except ValueError:
        return str(here)
