"""Runs the gateway on uvicorn: one listening socket, bound before anything else is started."""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import uvicorn

from inferry.core.errors import ConfigError
from inferry.core.gateway_settings import Gateway as GatewaySettings
from inferry.gateway.asgi import GatewayApp
from inferry.gateway.gateway import Gateway
from inferry.gateway.in_turn import InTurn
from inferry.gateway.protocol import KEEP_ALIVE_S, InferenceProtocol
from inferry.gateway.tls import TlsReload

CHECK_S = 1.0
CHECK_PARTS = 10


def bind_sockets(
    host: str, port: int, count: int = 1, setting: str = "gateway.listen"
) -> list[socket.socket]:
    """`count` bound sockets that share HOST:PORT; raises ConfigError that says who has the port, and the way out.

    Several share it by SO_REUSEPORT: the kernel spreads connections over them. Other programs of the same user
    could join such a port unnoticed, so it is bound once alone before, which fails if somebody has it.
    """
    first = _bind(host, port, setting, shared=False)
    if count == 1:
        return [first]
    port = int(first.getsockname()[1])
    first.close()
    return [_bind(host, port, setting, shared=True) for _ in range(count)]


def _bind(host: str, port: int, setting: str, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        where = f"{host}:{port}"
        if error.errno == errno.EADDRINUSE:
            other = port + 1 if port < 65535 else port - 1
            option = f"--port {other}, or " if setting == "gateway.listen" else ""
            raise ConfigError(
                f"{where} is taken by another program. Choose another port ({option}{setting} "
                f"in the file), or stop the other one ('inferry status' lists what Inferry runs)."
            ) from error
        if error.errno == errno.EACCES:
            raise ConfigError(
                f"No permission to listen on {where}: ports below 1024 are for root. Choose a port above."
            ) from error
        raise ConfigError(f"Can't listen on {where}: {error.strerror or error}.") from error
    listener.setblocking(False)
    return listener


class EmbeddedServer(uvicorn.Server):
    """A uvicorn server that leaves signals to the program around it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class GatewayServer:
    """The gateway on the network, from a bound socket to the end of the drain."""

    def __init__(
        self,
        gateway: Gateway,
        listener: socket.socket,
        *,
        metrics: Callable[[], Awaitable[bytes]] | None = None,
        relay_in_protocol: bool = True,
    ) -> None:
        """`metrics`: see GatewayApp. `relay_in_protocol`: False sends inference requests through ASGI too, for the
        conformance suite."""
        self._gateway = gateway
        protocol = functools.partial(InferenceProtocol, gateway=gateway, relay=relay_in_protocol)
        self._listener = listener
        tls = self._tls = None if gateway.settings.tls is None else TlsReload(gateway.settings.tls)
        config = uvicorn.Config(
            GatewayApp(gateway, metrics),
            http=protocol,  # type: ignore[arg-type] # uvicorn calls it like the class
            ws="none",
            loop="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ssl_context_factory=None if tls is None else lambda _config, _default: tls.context,
            timeout_keep_alive=int(KEEP_ALIVE_S),
            timeout_graceful_shutdown=max(1, round(gateway.settings.drain_s)),
        )
        self._server = EmbeddedServer(config)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def started(self) -> bool:
        return self._server.started

    @property
    def connections(self) -> int:
        """Of clients, busy or not."""
        return len(self._server.server_state.connections)

    async def wait_started(self) -> None:
        """Returns when connections are accepted."""
        await self._server.listening.wait()

    async def run(self) -> None:
        """Serve until `shut_down`; returns when the last connection is closed or the drain time is over."""
        async with asyncio.TaskGroup() as group:
            sweeps = [
                group.create_task(self._gateway.tick_forever()),
                group.create_task(self._check_forever()),
            ]
            await self._server.serve(sockets=[self._listener])
            for sweep in sweeps:
                sweep.cancel()
        await self._gateway.close()

    async def _check_forever(self) -> None:
        loop = asyncio.get_running_loop()
        in_turn = InTurn[object](CHECK_PARTS)
        while True:
            for _ in range(CHECK_PARTS):
                await asyncio.sleep(CHECK_S / CHECK_PARTS)
                now_s = loop.time()
                for connection in in_turn.next(self._server.server_state.connections):
                    if isinstance(connection, InferenceProtocol):
                        connection.check_trickle(now_s)
            if self._tls is not None:
                self._tls.check()

    def configure(self, settings: GatewaySettings) -> None:
        """The gateway serves by other settings now: follow it. TLS may change its files, but not come or go."""
        if self._tls is not None and settings.tls is not None:
            self._tls.follow(settings.tls)

    def shut_down(self, *, at_once: bool = False) -> None:
        """Take no new connections; let running answers finish within `gateway.drain_s`, or cut them."""
        self._gateway.closing = True
        # As the settings are now, not as they were at the start.
        self._server.config.timeout_graceful_shutdown = max(1, round(self._gateway.settings.drain_s))
        self._server.should_exit = True
        if at_once:
            self._server.force_exit = True
            self._gateway.abort_all()
