"""The client in the timed path: connections that stamp what comes before they do anything else with it.

It frames HTTP and reads no body: no JSON, no server-sent events. Bodies are kept as they came, with their times.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import cast

from inferry.bench.http_framing import BadFraming, ResponseReader
from inferry.bench.records import Raw, Verdict
from inferry.core.clock import SystemClock

CONNECT_TIMEOUT_S = 10.0
IDLE_MAX_S = 4.0
"""Below the 5 s after which uvicorn-based engines (vLLM, SGLang) close an idle connection."""
WARM_AT_ONCE = 32
"""Below the queue of new connections (listen(2)) of any server that is meant for load."""
STALE_S = 0.01
IDLE_BEFORE_S = 0.5
"""A server that closes an idle connection may meet the next request on its way (RFC 9112, 9.3.1). That is what it was
if the connection had served before, had been idle for so long (the shortest setting of keep-alive is a second or two)
and is lost so soon after the request, without a byte: the request is sent once more, and the record says so. In all
other cases it is the server that lost the request."""
OWN_LIMITS = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}
"""Errors of connecting that are this machine's own: files and ports have run out."""

_now_s = SystemClock.now_s


class Exchange:
    """One request and what came of it. Times are those of the monotonic clock, until `raw` makes them the run's."""

    __slots__ = (
        "connect_s",
        "due_s",
        "ended_s",
        "first_byte_s",
        "number",
        "pieces",
        "reader",
        "reason",
        "request",
        "resent",
        "sent_s",
        "timers",
        "trouble",
    )

    def __init__(self, number: int, due_s: float, request: bytes) -> None:
        self.number = number
        self.due_s = due_s
        self.request = request
        """Head and body, with the API key in it: never shown."""
        self.sent_s: float | None = None
        """For the first time, if it is sent again."""
        self.resent = False
        self.connect_s = 0.0
        self.first_byte_s: float | None = None
        self.ended_s: float | None = None
        self.pieces: list[tuple[float, bytes]] = []
        self.reader = ResponseReader()
        self.trouble: Verdict | None = None
        self.reason = ""
        self.timers: list[asyncio.TimerHandle] = []
        """Of its deadline, and of the client's leaving: stopped when it ends."""

    def raw(self, start_s: float) -> Raw:
        """As plain data, with times since `start_s`."""
        return Raw(
            number=self.number,
            due_s=self.due_s - start_s,
            sent_s=None if self.sent_s is None else self.sent_s - start_s,
            connect_s=self.connect_s,
            resent=self.resent,
            status=self.reader.status,
            content_type=self.reader.content_type,
            pieces=tuple((at_s - start_s, data) for at_s, data in self.pieces),
            first_byte_s=None if self.first_byte_s is None else self.first_byte_s - start_s,
            ended_s=None if self.ended_s is None else self.ended_s - start_s,
            whole=self.reader.complete,
            trouble=self.trouble,
            reason=self.reason,
        )


class Connection(asyncio.Protocol):
    """Serves one exchange at a time; without one it idles in its client's pool."""

    __slots__ = ("_client", "_sent_s", "_transport", "exchange", "idle_since_s", "lost", "used")

    def __init__(self, client: Client) -> None:
        self._client = client
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set before any use
        self.exchange: Exchange | None = None
        self._sent_s = 0.0
        self.used = False
        """An answer came on it."""
        self.lost = False
        self.idle_since_s = 0.0

    def send(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._sent_s = _now_s()
        if exchange.sent_s is None:
            exchange.sent_s = self._sent_s
        self._transport.write(exchange.request)

    def leave(self) -> None:
        """Close at once, whatever was under way."""
        self.exchange = None
        if not self.lost:
            self._transport.abort()

    # --- asyncio.Protocol -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of asyncio's
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        now_s = _now_s()
        self._client.reads += 1
        exchange = self.exchange
        if exchange is None:
            self._client.forget(self)  # an answer that nobody asked for: it must not meet the next request
            self._transport.abort()
            return
        if exchange.first_byte_s is None:
            exchange.first_byte_s = now_s
        reader = exchange.reader
        try:
            body = reader.feed(data)
        except BadFraming as error:
            self._end(exchange, now_s, Verdict.MALFORMED, str(error))
            return
        if body:
            exchange.pieces.append((now_s, body))
        if reader.complete:
            self._end(exchange, now_s, None, "")

    def connection_lost(self, exc: Exception | None) -> None:
        now_s = _now_s()
        self.lost = True
        exchange = self.exchange
        if exchange is None:
            self._client.forget(self)
            return
        if exchange.first_byte_s is None:
            if self._was_stale(now_s):
                self.exchange = None
                exchange.resent = True
                self._client.send_anew(exchange)
            else:
                self._end(exchange, now_s, Verdict.CONNECT, "the connection was lost before an answer began")
        elif exc is None and exchange.reader.connection_ended():
            self._end(exchange, now_s, None, "")
        else:
            # Whether the answer itself was at its end is for those to say who read the body.
            self._end(exchange, now_s, None, f"the connection was lost{f' ({exc})' if exc else ''}")

    def _was_stale(self, now_s: float) -> bool:
        idle_s = self._sent_s - self.idle_since_s
        return self.used and idle_s >= IDLE_BEFORE_S and now_s - self._sent_s < STALE_S

    def _end(self, exchange: Exchange, now_s: float, trouble: Verdict | None, reason: str) -> None:
        self.exchange = None
        reader = exchange.reader
        if reader.complete and trouble is None and reader.keep_alive and not reader.surplus and not self.lost:
            self.used = True
            self.idle_since_s = now_s
            self._client.give_back(self)
        elif not self.lost:
            self._transport.abort()
        self._client.end(exchange, now_s, trouble, reason)


class Client:
    """A pool of connections to one server. Made and used on one running loop."""

    def __init__(
        self,
        address: tuple[str, int],
        on_end: Callable[[Exchange], None],
        tls: ssl.SSLContext | None = None,
        tls_name: str | None = None,
    ) -> None:
        """`address`: resolved already, so that no name is looked up in the timed path."""
        self._address = address
        self._on_end = on_end
        self._tls = tls
        self._tls_name = tls_name
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._busy: dict[Exchange, Connection | None] = {}
        """None: it waits for its own new connection."""
        self._connecting: set[asyncio.Task[None]] = set()
        self.opened = 0
        self.sends = 0
        """Requests, whether or not a connection was found."""
        self.reads = 0
        """Of sockets: how often something came."""

    @property
    def under_way(self) -> int:
        return len(self._busy)

    async def warm(self, connections: int) -> None:
        """Open so many, to be used first. What can't be opened is left: requests will meet the same trouble."""
        for left in range(connections, 0, -WARM_AT_ONCE):
            async with asyncio.TaskGroup() as tasks:
                opening = [tasks.create_task(self._warm_one()) for _ in range(min(left, WARM_AT_ONCE))]
            if not all(task.result() for task in opening):
                return

    async def _warm_one(self) -> bool:
        try:
            connection = await self._connect()
        except OSError:  # TimeoutError is one
            return False
        connection.idle_since_s = _now_s()
        if not connection.lost:
            self._idle.append(connection)
        return True

    def send(
        self, exchange: Exchange, timeout_s: float | None = None, leave_after_s: float | None = None
    ) -> None:
        """Send now, on an open connection or a new one. `on_end` hears of the end, whatever it is."""
        self.sends += 1
        later = self._loop.call_later
        if timeout_s is not None:
            reason = f"no end within {timeout_s:g} s"
            exchange.timers.append(later(timeout_s, self.drop, exchange, Verdict.TIMEOUT, reason))
        if leave_after_s is not None:
            reason = f"the client left after {leave_after_s:.3f} s, as planned"
            exchange.timers.append(later(leave_after_s, self.drop, exchange, Verdict.ABANDONED, reason))
        connection = self._take_idle()
        if connection is None:
            self.send_anew(exchange)
            return
        self._busy[exchange] = connection
        connection.send(exchange)

    def send_anew(self, exchange: Exchange) -> None:
        """Send on a connection of its own."""
        self._busy[exchange] = None
        task = self._loop.create_task(self._connect_and_send(exchange))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def drop(self, exchange: Exchange, trouble: Verdict, reason: str) -> None:
        """End it from our side, and leave its connection. Nothing happens when it has ended."""
        if exchange not in self._busy:
            return
        connection = self._busy[exchange]
        if connection is not None:
            connection.leave()
        self.end(exchange, _now_s(), trouble, reason)

    def drop_all(self, trouble: Verdict, reason: str) -> None:
        for exchange in list(self._busy):
            self.drop(exchange, trouble, reason)

    async def close(self) -> None:
        """Leave everything; what is under way ends unheard."""
        for task in list(self._connecting):
            task.cancel()
        if self._connecting:
            await asyncio.wait(self._connecting)
        for connection in (*self._idle, *self._busy.values()):
            if connection is not None:
                connection.leave()
        self._idle.clear()
        self._busy.clear()
        await asyncio.sleep(0)

    # --- for connections ------------------------------------------------------------------------------

    def give_back(self, connection: Connection) -> None:
        self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def end(self, exchange: Exchange, now_s: float, trouble: Verdict | None, reason: str) -> None:
        del self._busy[exchange]
        for timer in exchange.timers:
            timer.cancel()
        exchange.timers.clear()
        exchange.request = b""
        exchange.ended_s = now_s
        exchange.trouble = trouble
        exchange.reason = reason
        self._on_end(exchange)

    # --- connecting -----------------------------------------------------------------------------------

    def _take_idle(self) -> Connection | None:
        """The one used last: the others may expire."""
        if not self._idle:
            return None
        connection = self._idle.pop()
        if _now_s() - connection.idle_since_s <= IDLE_MAX_S:
            return connection
        for old in (connection, *self._idle):
            old.leave()
        self._idle.clear()
        return None

    async def _connect(self) -> Connection:
        self.opened += 1
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await self._loop.create_connection(
                lambda: Connection(self), *self._address, ssl=self._tls, server_hostname=self._tls_name
            )
        return connection

    async def _connect_and_send(self, exchange: Exchange) -> None:
        began_s = _now_s()
        trouble = Verdict.CONNECT
        try:
            connection = await self._connect()
        except TimeoutError:
            reason = f"no connection within {CONNECT_TIMEOUT_S:g} s"
        except OSError as error:
            reason = f"no connection: {error.strerror or error}"
            if error.errno in OWN_LIMITS:
                trouble = Verdict.UNSENT
        else:
            if exchange not in self._busy:  # dropped meanwhile
                connection.leave()
                return
            if not exchange.resent:  # else it is after the first sending
                exchange.connect_s = _now_s() - began_s
            self._busy[exchange] = connection
            connection.send(exchange)
            return
        if exchange in self._busy:
            self.end(exchange, _now_s(), trouble, reason)
