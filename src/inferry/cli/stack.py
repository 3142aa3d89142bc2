"""Builds the whole stack from a deployment file, in the control process: fleet, gateway processes, control API.

The gateway's processes (cli/gateway_worker.py) do nothing but serve; whatever could hold up a request runs here.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from inferry import __version__
from inferry.admin.api import ReloadAnswer, make_control_app
from inferry.admin.lifecycle_api import make_lifecycle_router
from inferry.admin.load_api import make_load_router
from inferry.admin.lora_api import make_lora_router
from inferry.admin.readings_api import local_only, make_readings_router
from inferry.admin.run_record import RunRecord, new_socket_path, publish, run_folder, withdraw
from inferry.admin.status import Status, StatusBoard
from inferry.cli.autoscaling import Autoscaling
from inferry.cli.bookkeeping import FIRST_KEY, Bookkeeping
from inferry.cli.children_environ import children_environ
from inferry.cli.cluster_following import follow_cluster
from inferry.cli.config import shown_model
from inferry.cli.control_server import admin_server, control_server, control_socket
from inferry.cli.dashboard_side import DashboardSide
from inferry.cli.first_start import failed_start
from inferry.cli.gateway_numbers import GatewayNumbers
from inferry.cli.launch_foresight import foresee_here, launch_notes
from inferry.cli.leadership import leadership_of
from inferry.cli.limit_counts import make_limit_bank
from inferry.cli.models_on_demand import ModelsOnDemand
from inferry.cli.place import Place
from inferry.cli.reload import Reloader
from inferry.cli.runtime_choice import make_runtime
from inferry.cli.scheduled_backups import scheduled_backups
from inferry.cli.serving import make_serving
from inferry.cli.standing_figures import StandingFigures
from inferry.core.clock import SystemClock
from inferry.core.deployment import DeploymentFile
from inferry.core.errors import StartFailed
from inferry.core.replica import ReplicaView
from inferry.fleet.engine_loads import EngineLoads
from inferry.fleet.fleet import Fleet
from inferry.fleet.gpu_readings import gpu_readings
from inferry.gateway.collector import metrics_page
from inferry.gateway.key_news import KeyNews
from inferry.gateway.messages import (
    AdaptersChanged,
    HandOver,
    LeasesWanted,
    ReplicaGone,
    ReplicaLoads,
    Setup,
)
from inferry.gateway.snapshot import Snapshot
from inferry.gateway.workers import GatewayWorkers


class Stack:
    """One running Inferry. Built on the event loop; `run` returns when it has been shut down."""

    def __init__(
        self,
        place: Place,
        model_paths: Mapping[str, Path | None],
        *,
        on_view: Callable[[ReplicaView], None],
        on_first_key: Callable[[str], None],
        say: Callable[[str], None],
        environ: Mapping[str, str],
    ) -> None:
        """`on_first_key` gets the text of the first admin key, if one is made: nobody will have it again."""
        self._place = place
        self._on_view = on_view
        self._on_first_key = on_first_key
        self._say = say
        self._folder = run_folder(place.home, place.port)
        clock = self._clock = SystemClock()
        serving = make_serving(place.loaded.config, model_paths)
        self._books = Bookkeeping(
            place.loaded.config,
            place.home,
            clock,
            on_keys=KeyNews(lambda news: self.gateways.tell(news)).on_keys,
            views=lambda: self.fleet.views(),
            makes_first_key=environ.get(FIRST_KEY) != "none",
            backups=scheduled_backups(place, environ, clock),
        )
        self._bank = make_limit_bank(
            place.loaded.config.gateway.shared_limits, clock, self._books.used_before
        )
        for_children = children_environ(environ, place.loaded)
        leadership = leadership_of(place.loaded.config, place.home, place.port, clock, environ)
        leads = (lambda: True) if leadership is None else (lambda: not leadership.leader())
        self.runtime = make_runtime(place.loaded, self._folder / "logs", environ, leads)
        self.fleet = Fleet(
            serving.plans,
            self.runtime,
            clock,
            random.Random(),
            self._view_changed,
            environ,
            on_gone=self._replica_gone,
        )
        numbers = self._numbers = GatewayNumbers(clock)
        self.fleet.set_in_flight(numbers.held_by)
        self.fleet.set_served(numbers.served_by)
        self.fleet.set_say(lambda line: say(f"  {line}"))
        self.fleet.set_hand_over(
            lambda replica_id, because: self.gateways.tell(HandOver(replica_id, because))
        )
        self.gateways = GatewayWorkers(
            place.listeners,
            setup=self._setup,
            environ=for_children,
            log_folder=self._folder / "logs",
            on_replica_failure=self.fleet.report_failure,
            on_leases=self._grant_leases,
            on_progress=self.fleet.note_progress,
            on_worker_gone=self._bank.forget,
            on_load_wanted=lambda name: self._models.want(name),
            metrics_page=self._metrics_page,
            drain_s=lambda: self.reloader.serving.config.gateway.drain_s,
        )
        self._loads = EngineLoads(
            self.fleet.readings, lambda loads: self.gateways.tell(ReplicaLoads(loads)), clock, gpu_readings()
        )
        self.reloader = Reloader(
            place.loaded,
            serving,
            gateways=self.gateways,
            fleet=self.fleet,
            home=place.home,
            environ=environ,
            prepare=self._prepare,
        )
        self._notes = launch_notes(self.fleet, lambda: self.reloader.serving, place.home, clock)
        self._models = ModelsOnDemand(self.fleet, self.gateways, lambda: self.reloader.serving, clock)
        self.scaling = Autoscaling(
            self.fleet,
            self.gateways,
            lambda: self.reloader.serving,
            self._loads.readings,
            clock,
            self._folder,
            leadership,
            foresee_here(lambda: self.reloader.serving, place.home),
        )
        self._figures = StandingFigures(
            lambda: self.reloader.serving.config,
            self._books.spent,
            lambda: self._books.behind_s,
            self._loads.readings,
            clock,
        )
        self.fleet.lora.names = lambda: self.reloader.serving.config.names
        self.fleet.lora.on_change = lambda: self.gateways.tell(AdaptersChanged(self.fleet.lora.models()))
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
            clock,
            about={
                "version": __version__,
                "pid": self.record.pid,
                "file": self.record.file,
                "url": self.record.url,
                "started": self.record.started_wall_s,
            },
        )
        self._dashboard = DashboardSide(
            lambda: self._status_by(self._numbers.snapshot), self._loads.readings, self._books, clock, place
        )
        self._stop = asyncio.Event()
        self._at_once = False
        self._settled = False

    # --- what the outside may do ----------------------------------------------------------------------

    def shut_down(self, at_once: bool = False) -> None:
        """Begin to end: first call drains; a second call (or `at_once`) cuts answers and kills engines."""
        if self._stop.is_set() or at_once:
            self._at_once = True
            self.gateways.drain(at_once=True)
            self.runtime.kill_now()
        self._stop.set()

    async def status(self) -> Status:
        return self._status_by(await self.gateways.snapshot())

    def _status_by(self, snapshot: Snapshot) -> Status:
        config = self.reloader.serving.config
        return self._board.status(
            self.fleet.views(),
            snapshot,
            self.reloader.serving.served,
            {name: shown_model(deployment) for name, deployment in config.deployments.items()},
            settled=self._settled,
            generation=self.reloader.serving.generation,
            draining=self._stop.is_set(),
            loads=self._models.states(),
            lifecycle=self.fleet.lifecycle,
            names=config.names,
            file_not_in_force=self.reloader.not_in_force,
            scaling=self.scaling.scaler.states(),
        )

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
        app = make_control_app(
            status=self.status,
            shut_down=self.shut_down,
            reload=self._reload,
            pid=self.record.pid,
            keys=self._books.store,
            on_keys_change=self._books.read_keys,
            clock=self._clock,
            lifecycle=make_lifecycle_router(
                self.fleet.lifecycle, lambda: self.reloader.serving.config.gateway.drain_s, self._undo
            ),
        )
        for router in (
            make_lora_router(self.fleet.lora),
            make_readings_router(self._loads.readings),
            self.scaling.make_router(),
            make_load_router(self._models.load, self._models.unload),
            *self._dashboard.routers(),
        ):
            app.include_router(router)
        control = control_server(local_only(app))
        admin = admin_server(self._place.loaded.config.admin, app, self._books.keyring, self._clock)
        if admin is not None:
            self._books.asks_keys = True
        failure: StartFailed | None = None
        try:
            listener = control_socket(self._socket_path)
            publish(self._place.home, self.record)
            async with asyncio.TaskGroup() as group:
                running = group.create_task(self.fleet.run())
                beside = [
                    group.create_task(self._keep_books()),
                    group.create_task(self._bank.run()),
                    group.create_task(self._models.run()),
                    group.create_task(self._loads.run()),
                    group.create_task(self._notes.run()),
                    group.create_task(self.scaling.run(self._books.is_open)),
                    group.create_task(self._sample_forever()),
                    group.create_task(self.reloader.watch_forever(self._say)),
                    group.create_task(follow_cluster(self.runtime, self.fleet, self._place.loaded.config)),
                ]
                serving = group.create_task(self._serve())
                group.create_task(control.serve(sockets=[listener]))
                if admin is not None:
                    group.create_task(admin.serve(sockets=self._place.admin_listeners))
                try:
                    failure = await self._until_stopped(on_settled)
                finally:
                    # In reverse: no new requests, drain, then the engines, then the rest.
                    self.gateways.drain(at_once=self._at_once or failure is not None)
                    await asyncio.wait([serving])
                    self.runtime.let_go()
                    await self.fleet.stop()
                    await asyncio.wait([running])
                    self._dashboard.end_pages()
                    control.should_exit = True
                    if admin is not None:
                        admin.should_exit = True
                    for task in beside:
                        task.cancel()
        finally:
            self.gateways.kill_now()
            await self.runtime.close()
            await self.scaling.close()
            await self._dashboard.close()
            await self._books.close()
            withdraw(self._place.home, self.record)
        if failure is not None:
            raise failure

    async def _keep_books(self) -> None:
        first_key = await self._books.open()
        if first_key is not None:
            self._on_first_key(first_key)
        await self._books.run()

    async def _serve(self) -> None:
        if self._books.asks_keys:  # no request may come before the keys are known
            await self._books.is_open.wait()
        await self.gateways.run()

    async def _until_stopped(self, on_settled: Callable[[], None]) -> StartFailed | None:
        async with asyncio.TaskGroup() as group:
            stop = group.create_task(self._stop.wait())
            settling = group.create_task(self._wait_settled())
            try:
                await asyncio.wait([stop, settling], return_when=asyncio.FIRST_COMPLETED)
                if self._stop.is_set():
                    return None
                served = self.reloader.serving.served
                if failure := failed_start(served, self.fleet.views(), self.fleet.failures()):
                    return failure
                self._settled = True
                on_settled()
                await self._stop.wait()
                return None
            finally:
                stop.cancel()
                settling.cancel()

    async def _wait_settled(self) -> None:
        if self._books.asks_keys:
            await self._books.is_open.wait()
        await self.gateways.wait_started()
        await self.fleet.wait_settled()

    async def _sample_forever(self) -> None:
        while True:
            snapshot = await self._numbers.ask(self.gateways.snapshot)
            self._board.sample(self.fleet.views(), snapshot)
            self._dashboard.on_numbers(snapshot)
            await asyncio.sleep(self._numbers.pause_s)

    # --- changes of the file --------------------------------------------------------------------------

    async def _reload(self) -> ReloadAnswer:
        done = await self.reloader.reload()
        return ReloadAnswer(generation=done.generation, changes=done.changes, by_watcher=done.by_watcher)

    async def _undo(self, name: str) -> str:
        if self.fleet.lifecycle.is_under_way(name):
            return await self.fleet.lifecycle.undo(name)
        return "\n".join((await self.reloader.undo(name)).changes)

    async def _prepare(self, config: DeploymentFile) -> None:
        if config.gateway.auth == "keys" and not self._books.asks_keys:
            await self._books.is_open.wait()
            # No admin key is made here: what a detached instance says goes to a file.
            await self._books.ask_keys(make_admin=False)

    def _replica_gone(self, replica_id: str) -> None:
        self._numbers.forget(replica_id)
        self._dashboard.on_gone(replica_id)
        self.scaling.scaler.on_gone(replica_id)
        self.gateways.tell(ReplicaGone(replica_id))

    def _view_changed(self, view: ReplicaView) -> None:
        self._numbers.on_view(view)
        self._dashboard.on_view(view)
        self.gateways.tell(view)
        self._models.on_view(view)
        self.scaling.scaler.on_view(view)
        self._books.look_at(view)
        if not self._at_once:  # engines that we kill ourselves are no news
            self._on_view(view)

    # --- for the gateway processes --------------------------------------------------------------------

    def _setup(self, name: str) -> Setup:
        return Setup(
            name=name,
            configuration=self.reloader.serving.for_gateway,
            keys=self._books.keys,
            views=tuple(self.fleet.views()),
            workers=len(self._place.listeners),
            log_path=self._folder / f"{name}.jsonl",
            journal_folder=self._books.journal_folder,
            adapters=self.fleet.lora.models(),
        )

    async def _metrics_page(self) -> bytes:
        more = (*self.scaling.families(), *await self._figures.families())
        return metrics_page(await self.gateways.snapshot(), self.fleet.views(), more)

    async def _grant_leases(self, name: str, wanted: LeasesWanted) -> object:
        return await self._bank.serve(name, wanted.wishes, wanted.returns)
