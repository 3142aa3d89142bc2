"""One gateway process: serves requests on its socket, and does what the control process says over the link."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from inferry.core.clock import Clock
from inferry.core.errors import InferryError
from inferry.core.leases import Return, Wish
from inferry.core.replica import ReplicaView
from inferry.gateway.admission import OnGrants
from inferry.gateway.filters.filter_set import FilterSet
from inferry.gateway.gateway import Gateway, compile_filters
from inferry.gateway.link import Link, LinkLost
from inferry.gateway.messages import (
    AdaptersChanged,
    Commit,
    Configuration,
    Drain,
    HandOver,
    KeysChanged,
    LeasesWanted,
    LoadWanted,
    MetricsWanted,
    Prepare,
    Progress,
    ReplicaFailed,
    ReplicaGone,
    ReplicaLoads,
    Setup,
    SnapshotWanted,
    Started,
)
from inferry.gateway.parked import LoadNews
from inferry.gateway.server import GatewayServer
from inferry.gateway.tls import load_tls
from inferry.ledger.request_log import RequestLog

log = structlog.get_logger()

METRICS_TIMEOUT_S = 5.0
LOOK_S = 1.0


class GatewayWorker:
    """From the first message on the link to the end of the drain."""

    def __init__(
        self,
        link_socket: socket.socket,
        listener: socket.socket,
        clock: Clock,
        on_setup: Callable[[Setup], None],
        each_second: Callable[[int, int], None] = lambda requests, connections: None,
    ) -> None:
        """`on_setup`: what the process around it does with the first message, before anything is served.
        `each_second`: what it does now and then, told how many requests are under way and how many clients'
        connections are open."""
        self._link_socket = link_socket
        self._listener = listener
        self._clock = clock
        self._on_setup = on_setup
        self._each_second = each_second
        self._link = Link(self._on_message, self._on_lost)
        self._ready: asyncio.Future[GatewayServer] = asyncio.get_running_loop().create_future()
        self._gateway: Gateway | None = None
        self._server: GatewayServer | None = None
        self._preparing: Configuration | None = None
        self._prepared: tuple[Configuration, dict[str, FilterSet]] | None = None

    async def run(self) -> None:
        """Serve until the control process says to end, or is gone."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self._link, sock=self._link_socket)
        server = await self._ready
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(server.run())
            starting = group.create_task(server.wait_started())
            looking = group.create_task(self._look_forever())
            await asyncio.wait([serving, starting], return_when=asyncio.FIRST_COMPLETED)
            self._link.say(Started())
            await asyncio.wait([serving])
            starting.cancel()
            looking.cancel()
        self._link.close()

    async def _look_forever(self) -> None:
        assert self._gateway is not None
        assert self._server is not None
        while True:
            await asyncio.sleep(LOOK_S)
            self._each_second(len(self._gateway.active), self._server.connections)

    def _begin(self, setup: Setup) -> None:
        """Build everything at once: what comes next on the link is about it."""
        self._on_setup(setup)
        configuration = setup.configuration
        gateway = self._gateway = Gateway(
            configuration.settings,
            configuration.served,
            clock=self._clock,
            loop=asyncio.get_running_loop(),
            on_replica_failure=lambda replica_id, reason: self._link.say(ReplicaFailed(replica_id, reason)),
            on_progress=lambda replicas: self._link.say(Progress(replicas)),
            on_load_wanted=lambda deployment: self._link.say(LoadWanted(deployment)),
            tenants=configuration.tenants,
            names=configuration.names,
            leases=_LinkedBank(self._link),
            request_log=RequestLog(setup.journal_folder, setup.name),
            workers=setup.workers,
            generation=configuration.generation,
        )
        gateway.callers.replace_keys(setup.keys)
        gateway.set_adapters(setup.adapters)
        for view in setup.views:
            gateway.apply(view)
        self._server = GatewayServer(gateway, self._listener, metrics=self._metrics_page)
        self._ready.set_result(self._server)

    async def _metrics_page(self) -> bytes:
        page: bytes = await self._link.ask(MetricsWanted(), METRICS_TIMEOUT_S)
        return page

    # --- the link -------------------------------------------------------------------------------------

    def _on_message(self, message: Any, number: int | None) -> None:
        if self._gateway is None or self._server is None:
            assert isinstance(message, Setup), f"{type(message).__name__} before Setup"
            try:
                self._begin(message)
            except Exception as error:  # noqa: BLE001 - it ends this process, and is the reason that is shown
                self._ready.set_exception(error)
            return
        match message:
            case ReplicaView():
                self._gateway.apply(message)
            case LoadNews():
                self._gateway.on_load_news(message)
            case AdaptersChanged():
                self._gateway.set_adapters(message.adapters)
            case ReplicaGone():
                self._gateway.gone(message.replica_id)
            case HandOver():
                self._gateway.hand_over(message.replica_id, message.because)
            case ReplicaLoads():
                self._gateway.learn(message.loads)
            case KeysChanged():
                self._gateway.callers.change_keys(message.put, message.gone)
            case SnapshotWanted():
                self._reply(number, self._gateway.snapshot())
            case Prepare():
                self._prepare(message.configuration, number)
            case Commit():
                self._commit(message.generation)
                self._reply(number, None)
            case Drain():
                self._server.shut_down(at_once=message.at_once)

    def _reply(self, number: int | None, value: object) -> None:
        assert number is not None
        self._link.reply(number, value)

    def _on_lost(self) -> None:
        """The control process is gone, and the engines with it: nothing is left to serve with."""
        if self._server is not None:
            self._server.shut_down(at_once=True)
        elif not self._ready.done():
            self._ready.set_exception(ConnectionError("the control process ended"))

    # --- changes of the file --------------------------------------------------------------------------

    def _prepare(self, configuration: Configuration, number: int | None) -> None:
        """In a thread, since long lists of terms take seconds; requests are served meanwhile."""
        self._preparing = configuration

        def on_done(done: asyncio.Future[dict[str, FilterSet]]) -> None:
            problem = None
            try:
                filters = done.result()
            except InferryError as error:
                problem = error.message
            except Exception as error:
                log.exception("prepare_broke")
                problem = f"A gateway process could not prepare the change ({error}); nothing was changed."
            else:
                if self._preparing is configuration:  # else nobody waits for it any more
                    self._prepared = (configuration, filters)
            self._reply(number, problem)

        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, _compile, configuration).add_done_callback(on_done)

    def _commit(self, generation: int) -> None:
        assert self._prepared is not None
        prepared, filters = self._prepared
        assert prepared.generation == generation
        assert self._gateway is not None
        self._gateway.configure(
            prepared.settings, prepared.served, prepared.tenants, generation, filters, prepared.names
        )
        assert self._server is not None
        self._server.configure(prepared.settings)
        log.info("configuration_applied", generation=generation)


def _compile(configuration: Configuration) -> dict[str, FilterSet]:
    """Raises ConfigError for what can't be used."""
    filters = compile_filters(configuration.served)
    if configuration.settings.tls is not None:
        load_tls(configuration.settings.tls)
    return filters


class _LinkedBank:
    """The bank of limits, at the other end of the link."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def exchange(self, wishes: Sequence[Wish], returns: Sequence[Return], on_grants: OnGrants) -> None:
        self._link.call(
            LeasesWanted(wishes, returns),
            lambda grants: on_grants(None if isinstance(grants, LinkLost) else grants),
        )
