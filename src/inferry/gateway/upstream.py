"""Connections to one replica: a small HTTP/1.1 client that hands response bytes on as they come.

A connection belongs to one exchange at a time. The parser's callbacks run inside `data_received`; the
exchange is told once per read (`on_upstream_data`), so that what came in one read goes out in one write.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Protocol, cast

import httptools

from inferry.core.errors import EngineBroke, EngineError, EngineUnreachable
from inferry.core.name_lookup import NameLookup
from inferry.core.replica import Endpoint
from inferry.core.request import ROUTES

IDLE_EXPIRY_S = 4.0
"""Below the 5 s after which uvicorn-based engines (vLLM, SGLang) close an idle connection."""
IDLE_MAX = 256
HEADER_BYTES_MAX = 64 * 1024

Headers = list[tuple[bytes, bytes]]


class Receiver(Protocol):
    """What an exchange offers to the connection that serves it."""

    def on_connected(self, connection: UpstreamConnection) -> None: ...

    def on_upstream_head(self, status: int, headers: Headers, length: int | None) -> None:
        """`length`: of the body, in bytes; None when it ends with a last chunk or the connection."""

    def on_upstream_data(self, data: bytes, complete: bool) -> None: ...

    def on_upstream_failed(self, error: EngineError, stale: bool) -> None:
        """`stale`: an idle connection turned out to be closed; the replica itself may be well."""


class UpstreamConnection(asyncio.Protocol):
    """One connection. `receiver` is the exchange it works for, or None while it idles in the pool."""

    __slots__ = (
        "_complete",
        "_head_seen",
        "_header_bytes",
        "_headers",
        "_keep_alive",
        "_length",
        "_parser",
        "_parts",
        "_surplus",
        "_until_eof",
        "idle_since_s",
        "lost",
        "pool",
        "receiver",
        "reused",
        "transport",
    )  # fmt: skip

    def __init__(self, pool: UpstreamPool) -> None:
        self.pool = pool
        self.transport: asyncio.Transport = None  # type: ignore[assignment] # set before any use
        self.receiver: Receiver | None = None
        self.reused = False
        self.lost = False
        self.idle_since_s = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self._headers: Headers = []
        self._header_bytes = 0
        self._parts: list[bytes] = []
        self._length: int | None = None
        self._head_seen = False
        self._until_eof = False
        self._complete = False
        self._keep_alive = False
        self._surplus = False

    # --- used by the exchange -------------------------------------------------------------------------

    def send(self, receiver: Receiver, head: bytes, body: bytes) -> None:
        """Send one request; its answer goes to `receiver`."""
        self.receiver = receiver
        if len(body) < 16384:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)

    def abandon(self) -> None:
        """Nobody wants the rest of the answer: close at once, so that the engine stops generating."""
        self.receiver = None
        self.pool.busy.discard(self)
        if not self.lost:
            self.transport.abort()

    # --- asyncio.Protocol -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked by isinstance: uvloop's transports are no subclass of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        receiver = self.receiver
        if receiver is None:
            # An answer that nobody asked for: never let it meet the next request.
            self.pool.forget(self)
            self.transport.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(EngineBroke(f"it sent something that is not HTTP ({error})"), stale=False)
            return
        if self.receiver is not receiver:  # told to stop by the head
            return
        if not self._head_seen:
            # The parser gives a header only once it is whole, so a long one is counted here.
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES_MAX:
                self._fail(EngineBroke("the head of its answer does not end"), stale=False)
                return
        parts = self._parts
        if parts or self._complete:
            complete = self._complete
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            self._parts = []
            if complete:
                self._give_back()
            receiver.on_upstream_data(body, complete)

    def eof_received(self) -> bool:
        if self.receiver is not None and self._until_eof:
            receiver = self.receiver
            self.receiver = None
            self.pool.busy.discard(self)
            receiver.on_upstream_data(b"", True)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        # The parser holds methods of this: without the cycle, both are freed now, and not by a collector that may
        # come after thousands of them.
        del self._parser
        self.pool.forget(self)
        if self.receiver is None:
            return
        if self._head_seen:
            self._fail(EngineBroke("its connection closed in the middle of the answer"), stale=False)
        else:
            self._fail(EngineUnreachable("its connection closed before an answer began"), stale=self.reused)

    # --- httptools callbacks --------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            self._surplus = True  # a second answer to one request: it must not reach anybody

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > HEADER_BYTES_MAX:
            raise ValueError("headers too long")
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._surplus:
            return
        status = self._parser.get_status_code()
        if status > 599:
            raise ValueError(f"status {status}")  # the parser's error says that it is not HTTP
        if status < 200:  # 100 Continue and the like: the real head follows
            self._headers = []
            return
        chunked = False
        for name, value in self._headers:
            if name == b"content-length":
                # Checked by the parser already: digits, and not together with chunked coding.
                self._length = int(value)
            elif name == b"transfer-encoding":
                chunked = b"chunked" in value.lower()
        if status in (204, 304):
            self._length = 0
        self._head_seen = True
        self._until_eof = self._length is None and not chunked
        if self.receiver is not None:
            self.receiver.on_upstream_head(status, self._headers, self._length)

    def on_body(self, data: bytes) -> None:
        if not self._surplus:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        if self._head_seen and not self._surplus:
            self._complete = True
            # Asked now, because the parser forgets the message's headers right after.
            self._keep_alive = self._parser.should_keep_alive()

    # --- endings --------------------------------------------------------------------------------------

    def _give_back(self) -> None:
        keep = self._keep_alive and not self._until_eof and not self._surplus
        self.receiver = None
        self.pool.busy.discard(self)
        if keep and not self.pool.closed and not self.lost and len(self.pool.idle) < IDLE_MAX:
            self._reset()
            self.idle_since_s = self.pool.loop.time()
            self.reused = True
            self.pool.idle.append(self)
        else:
            self.transport.close()

    def _fail(self, error: EngineError, stale: bool) -> None:
        receiver, self.receiver = self.receiver, None
        self.pool.busy.discard(self)
        if not self.lost:
            self.transport.abort()
        if receiver is not None:
            receiver.on_upstream_failed(error, stale)


class Dialing:
    """The receiver of a dial, until it is forgotten: what comes of it then is for the next who needs a connection."""

    __slots__ = ("receiver",)

    def __init__(self, receiver: Receiver) -> None:
        self.receiver: Receiver | None = receiver

    def on_connected(self, connection: UpstreamConnection) -> None:
        if self.receiver is None:
            connection.pool.put_back(connection)
        else:
            self.receiver.on_connected(connection)

    def on_upstream_failed(self, error: EngineError, stale: bool) -> None:
        if self.receiver is not None:
            self.receiver.on_upstream_failed(error, stale)


class UpstreamPool:
    """All connections to one endpoint. Opened when needed; idle ones are reused, the latest first."""

    def __init__(
        self,
        endpoint: Endpoint,
        loop: asyncio.AbstractEventLoop,
        connect_timeout_s: float,
        names: NameLookup,
    ) -> None:
        self.endpoint = endpoint
        self.loop = loop
        self.idle: deque[UpstreamConnection] = deque()
        self.busy: set[UpstreamConnection] = set()
        self.closed = False
        self._connect_timeout_s = connect_timeout_s
        self._names = names
        self._dials: set[asyncio.Task[None]] = set()
        self._ssl = ssl.create_default_context() if endpoint.tls else None
        default_port = 443 if endpoint.tls else 80
        host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
        if endpoint.port != default_port:
            host = f"{host}:{endpoint.port}"
        lines = [f"host: {host}", *(f"{name}: {value}" for name, value in endpoint.headers)]
        head_lines = "".join(f"{line}\r\n" for line in lines)
        self.heads = {
            path: f"POST {endpoint.target(path)} HTTP/1.1\r\n{head_lines}".encode("latin-1")
            for path in ("", *ROUTES)
        }
        """How each POST to this endpoint begins, by the route's path (`` for none): its first line, and the headers
        that all have."""

    def take_idle(self) -> UpstreamConnection | None:
        """A connection that is open and not expired, or None."""
        oldest_s = self.loop.time() - IDLE_EXPIRY_S
        while self.idle:
            connection = self.idle.pop()
            if connection.idle_since_s >= oldest_s and not connection.transport.is_closing():
                self.busy.add(connection)
                return connection
            connection.transport.close()
        return None

    def dial(self, receiver: Receiver | Dialing) -> None:
        """Open a connection for `receiver`, which hears of it by on_connected or on_upstream_failed."""
        task = self.loop.create_task(self._dial(receiver))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _dial(self, receiver: Receiver | Dialing) -> None:
        endpoint = self.endpoint
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connection = await self._connect(await self._names.addresses(endpoint.host))
        except TimeoutError:
            receiver.on_upstream_failed(
                EngineUnreachable(f"no connection within {self._connect_timeout_s:g} s"), False
            )
        except OSError as error:
            receiver.on_upstream_failed(EngineUnreachable(_plain(error)), False)
        else:
            self.busy.add(connection)
            receiver.on_connected(connection)

    async def _connect(self, addresses: Sequence[str]) -> UpstreamConnection:
        """To the first address that takes it. Raises the OSError of the last one."""
        server_name = None if self._ssl is None else self.endpoint.host
        for address in addresses[:-1]:
            with contextlib.suppress(OSError):
                return await self._connect_to(address, server_name)
        return await self._connect_to(addresses[-1], server_name)

    async def _connect_to(self, address: str, server_name: str | None) -> UpstreamConnection:
        _, connection = await self.loop.create_connection(
            lambda: UpstreamConnection(self),
            address,
            self.endpoint.port,
            ssl=self._ssl,
            server_hostname=server_name,
        )
        return connection

    def put_back(self, connection: UpstreamConnection) -> None:
        """A fresh connection that nobody needs any more."""
        self.busy.discard(connection)
        if self.closed:
            connection.transport.close()
            return
        connection.idle_since_s = self.loop.time()
        connection.reused = True
        self.idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        self.busy.discard(connection)
        if connection.receiver is None and connection in self.idle:
            self.idle.remove(connection)

    def close_idle(self) -> None:
        """Close connections that have idled too long; called now and then."""
        oldest_s = self.loop.time() - IDLE_EXPIRY_S
        while self.idle and self.idle[0].idle_since_s < oldest_s:
            self.idle.popleft().transport.close()

    def close(self) -> None:
        """No more reuse. Running exchanges finish; idle connections close now."""
        self.closed = True
        while self.idle:
            self.idle.pop().transport.close()

    async def wait_closed(self) -> None:
        """Cut everything and wait for dials to end; at shutdown only."""
        self.close()
        for connection in list(self.busy):
            connection.abandon()
        for task in list(self._dials):
            task.cancel()
        if self._dials:
            await asyncio.wait(self._dials)


def _plain(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return error.strerror or str(error) or type(error).__name__
