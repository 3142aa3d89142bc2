"""Builds the whole stack from a deployment file: adapters, fleet, gateway, control API. And runs it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from inferry import __version__
from inferry.admin.api import make_control_app
from inferry.admin.run_record import RunRecord, new_socket_path, publish, run_folder, withdraw
from inferry.admin.status import Status, StatusBoard
from inferry.cli.config import shown_model
from inferry.core.clock import SystemClock
from inferry.core.config_file import LoadedFile
from inferry.core.errors import ConfigError, StartFailed
from inferry.core.replica import ReplicaView
from inferry.engines.registry import adapter_for
from inferry.fleet.fleet import DeploymentPlan, Fleet
from inferry.gateway.gateway import Gateway
from inferry.gateway.served import ServedDeployment
from inferry.gateway.server import EmbeddedServer, GatewayServer
from inferry.runtime.local import LocalRuntime

SAMPLE_S = 1.0
_HUB_TOKENS = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}
_ENGINES_NEED = {"HOME", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "USER"}
"""No secrets, and programs miss them; a file may well say `${HOME}/models/...`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instance runs: fixed before anything is started."""

    loaded: LoadedFile
    home: Path
    listener: socket.socket
    host: str

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


class Stack:
    """One running Inferry. Built on the event loop; `run` returns when it has been shut down."""

    def __init__(
        self,
        place: Place,
        model_paths: Mapping[str, Path | None],
        *,
        on_view: Callable[[ReplicaView], None],
        environ: Mapping[str, str],
    ) -> None:
        self._place = place
        self._on_view = on_view
        config = place.loaded.config
        clock = SystemClock()
        adapters = {name: adapter_for(name, deployment) for name, deployment in config.deployments.items()}
        self.gateway = Gateway(
            config.gateway,
            [
                ServedDeployment(
                    name=name,
                    aliases=deployment.aliases,
                    engine=deployment.engine,
                    simulated=adapters[name].simulated,
                    upstream_model=adapters[name].served_name,
                    routes=adapters[name].routes,
                    asks_usage=adapters[name].reports_stream_usage,
                    policy=deployment.routing.policy,
                )
                for name, deployment in config.deployments.items()
            ],
            clock=clock,
            loop=asyncio.get_running_loop(),
            on_replica_failure=lambda replica_id, reason: self.fleet.report_failure(replica_id, reason),
        )
        self.runtime = LocalRuntime(
            run_folder(place.home, place.port) / "logs", engine_environ(environ, place.loaded)
        )
        self.fleet = Fleet(
            [
                DeploymentPlan(name, deployment, adapters[name], model_paths.get(name))
                for name, deployment in config.deployments.items()
            ],
            self.runtime,
            clock,
            random.Random(),
            self._view_changed,
            environ,
        )
        self.server = GatewayServer(self.gateway, place.listener)
        self._clock = clock
        self._socket_path = new_socket_path()
        self.record = RunRecord(
            port=place.port,
            pid=os.getpid(),
            url=place.url,
            file=str(place.loaded.path.resolve()),
            socket=str(self._socket_path),
            started_wall_s=clock.wall_s(),
        )
        self._board = StatusBoard(
            self.gateway,
            clock,
            about={
                "version": __version__,
                "pid": self.record.pid,
                "file": self.record.file,
                "url": self.record.url,
                "started": self.record.started_wall_s,
            },
            models={name: shown_model(deployment) for name, deployment in config.deployments.items()},
        )
        self._stop = asyncio.Event()
        self._at_once = False
        self._settled = False

    # --- what the outside may do ----------------------------------------------------------------------

    def shut_down(self, at_once: bool = False) -> None:
        """Begin to end: first call drains; a second call (or `at_once`) cuts answers and kills engines."""
        if self._stop.is_set() or at_once:
            self._at_once = True
            self.server.shut_down(at_once=True)
            self.runtime.kill_now()
        self._stop.set()

    def status(self) -> Status:
        return self._board.status(self.fleet.views(), settled=self._settled)

    # --- life -----------------------------------------------------------------------------------------

    async def run(self, on_settled: Callable[[], None]) -> None:
        """Serve until shut down. `on_settled` is called once every replica is ready or has failed for good.

        Raises StartFailed when a deployment of ours has no replica that came up. Whatever happens, nothing
        that was started is left behind.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup: the end of the terminal is not meant for us. (SIGINT is also ignored at the start, under a
            # script's `&`; but whoever sends it to this very process means it.)
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self.shut_down)
        control = self._control_server()
        failure: StartFailed | None = None
        try:
            control_socket = self._control_socket()
            publish(self._place.home, self.record)
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(self.server.run())
                group.create_task(control.serve(sockets=[control_socket]))
                sampling = group.create_task(self._sample_forever())
                running = group.create_task(self.fleet.run())
                try:
                    failure = await self._until_stopped(on_settled)
                finally:
                    # In reverse: no new requests, drain, then the engines, then the rest.
                    self.server.shut_down(at_once=self._at_once or failure is not None)
                    await asyncio.wait([serving])
                    await self.fleet.stop()
                    await asyncio.wait([running])
                    control.should_exit = True
                    sampling.cancel()
        finally:
            await self.runtime.close()
            withdraw(self._place.home, self.record)
        if failure is not None:
            raise failure

    async def _until_stopped(self, on_settled: Callable[[], None]) -> StartFailed | None:
        async with asyncio.TaskGroup() as group:
            stop = group.create_task(self._stop.wait())
            settling = group.create_task(self.fleet.wait_settled())
            try:
                await asyncio.wait([stop, settling], return_when=asyncio.FIRST_COMPLETED)
                if self._stop.is_set():
                    return None
                if (failure := self._failed_start()) is not None:
                    return failure
                self._settled = True
                on_settled()
                await self._stop.wait()
                return None
            finally:
                stop.cancel()
                settling.cancel()

    def _failed_start(self) -> StartFailed | None:
        """Not a single replica of some deployment of ours came up."""
        dead = {
            name
            for name, deployment in self.gateway.deployments.items()
            if deployment.engine != "openai" and not deployment.balancer.usable()
        }
        failures = self.fleet.failures()
        return StartFailed("\n".join(failures)) if dead and failures else None

    async def _sample_forever(self) -> None:
        while True:
            self._board.sample(self.fleet.views())
            await asyncio.sleep(SAMPLE_S)

    def _view_changed(self, view: ReplicaView) -> None:
        self.gateway.apply(view)
        if not self._at_once:  # engines that we kill ourselves are no news
            self._on_view(view)

    # --- control API ----------------------------------------------------------------------------------

    def _control_socket(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self._socket_path))
            listener.listen(64)
        except OSError as error:
            listener.close()
            raise ConfigError(
                f"The control socket {self._socket_path} can't be made: {error.strerror or error}. "
                "Name another folder in TMPDIR."
            ) from error
        listener.setblocking(False)
        return listener

    def _control_server(self) -> uvicorn.Server:
        app = make_control_app(status=self.status, shut_down=self.shut_down, pid=self.record.pid)
        return EmbeddedServer(
            uvicorn.Config(
                app,
                loop="none",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )


def engine_environ(environ: Mapping[str, str], loaded: LoadedFile) -> dict[str, str]:
    """The environment for engines: ours, without what is for us alone. Variables that the file refers to may be
    keys for others' endpoints; a model's hub token is not needed once the model is here."""
    ours = (loaded.variables - _ENGINES_NEED) | _HUB_TOKENS
    return {name: value for name, value in environ.items() if name not in ours}
