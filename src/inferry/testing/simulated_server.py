"""The port of a simulated engine: opens it, closes it when a fault says so, ends in order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from inferry.core.clock import Clock, SystemClock
from inferry.testing.simulated_app import Options, SimulatedApp
from inferry.testing.simulated_generation import Powers
from inferry.testing.simulated_http import Connection, Register

_CLOSE_WAIT_S = 1.0
_REOPEN_INTERVAL_S = 0.1


def kill_this_process() -> None:
    """End as by `kill -9`: no cleanup, no goodbye on open connections."""
    os.kill(os.getpid(), signal.SIGKILL)


class SimulatedServer:
    """One simulated engine on one port. Create it inside the running loop that shall serve it."""

    def __init__(
        self,
        options: Options,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        crash: Callable[[], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Without `crash`, the crash fault closes port and connections for good and leaves the process."""
        self.app = SimulatedApp(
            options, clock or SystemClock(), Powers(crash or self._play_dead, self._refuse_for)
        )
        self._host = host
        self._port = port
        self._register = Register()
        self._listener: asyncio.Server | None = None
        self._reopening: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The real one, also where 0 was asked for."""
        return self._port

    @property
    def base_url(self) -> str:
        """`http://HOST:PORT`, without `/v1`."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def open(self) -> None:
        """Listen. Raises OSError when the port can't be had."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Connection(self.app.answer, self._register), self._host, self._port, backlog=4096
        )
        self._port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, end running answers with `abort`, and close all connections."""
        if self._reopening is not None:
            self._reopening.cancel()
            await asyncio.wait([self._reopening])
        self._stop_listening()
        self.app.generator.abort_all()
        self._register.cut_all()
        try:
            async with asyncio.timeout(_CLOSE_WAIT_S):
                await self._register.empty.wait()
        except TimeoutError:  # a client that doesn't read its answer holds its connection open
            self._register.abort_all()
            await self._register.empty.wait()
        self.app.close()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _play_dead(self) -> None:
        self._stop_listening()
        self._register.abort_all()

    def _refuse_for(self, seconds: float) -> None:
        self._stop_listening()
        self._register.cut_all()
        if self._reopening is not None:
            self._reopening.cancel()
        self._reopening = asyncio.get_running_loop().create_task(self._reopen_after(seconds))

    async def _reopen_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        while True:
            try:
                await self.open()
            except OSError:  # someone else has the port for the moment
                await asyncio.sleep(_REOPEN_INTERVAL_S)
            else:
                return


@asynccontextmanager
async def running_simulated_engine(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    served_name: str = "simulated",
    context_tokens: int = 8192,
    parallel: int = 64,
    ttft_s: float = 0.0,
    itl_s: float = 0.0,
    faults: bool = True,
    seed: int = 0,
    key: str | None = None,
) -> AsyncIterator[str]:
    """A simulated engine in this process and loop; gives its base URL, without `/v1`.

    For tests: instant and with faults unless told otherwise. The crash fault only plays dead here: port and
    connections close, the process lives on.
    """
    options = Options(
        served_name=served_name,
        context_tokens=context_tokens,
        parallel=parallel,
        ttft_s=ttft_s,
        itl_s=itl_s,
        faults=faults,
        seed=seed,
        key=key,
    )
    server = SimulatedServer(options, host=host, port=port)
    await server.open()
    try:
        yield server.base_url
    finally:
        await server.close()
