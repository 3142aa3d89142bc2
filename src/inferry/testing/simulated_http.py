"""A small HTTP/1.1 server: one asyncio protocol over httptools, so that it is cheap and can misbehave on command.

Own code in place of uvicorn, since faults need the bare transport (broken chunk framing, a connection cut in
mid-answer, a port that refuses), and load tests need an engine that costs less than the gateway before it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import httptools

HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 64 * 1024 * 1024
IDLE_S = 5.0
"""Keep-alive, as short as vLLM's, so that clients meet the race of a connection closed while idle."""
_PIPELINED_MAX = 8
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_SIGN = b"server: inferry-simulated\r\nx-inferry-simulated: 1\r\n"


class Exchange:
    """One request, and the means to answer it. After the client has gone, answers go nowhere, silently."""

    __slots__ = ("_connection", "_keep_alive", "body", "headers", "method", "on_lost", "path", "streaming")

    def __init__(
        self,
        connection: Connection,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        keep_alive: bool,
    ) -> None:
        self._connection = connection
        self._keep_alive = keep_alive
        self.method = method
        self.path = path
        self.headers = headers
        """Names in small letters."""
        self.body = body
        self.streaming = False
        self.on_lost: Callable[[], None] | None = None
        """Called once if the client goes before the answer is complete."""

    def reply(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        """Send a whole answer."""
        self._connection.write(
            b"HTTP/1.1 %d %b\r\n%bcontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b"
            % (
                status,
                _REASONS.get(status, b""),
                _SIGN,
                content_type.encode(),
                len(body),
                b"" if self._keep_alive else b"connection: close\r\n",
                body,
            )
        )
        self._connection.answered(self._keep_alive)

    def open_stream(self) -> None:
        """Send the head of a stream of events; `send` and `close_stream` follow."""
        self.streaming = True
        self._connection.write(
            b"HTTP/1.1 200 OK\r\n%bcontent-type: text/event-stream; charset=utf-8\r\n"
            b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n%b\r\n"
            % (_SIGN, b"" if self._keep_alive else b"connection: close\r\n")
        )

    def send(self, data: bytes) -> None:
        # Not held back for a slow client: an answer is bounded by the context length.
        self._connection.write(b"%x\r\n%b\r\n" % (len(data), data))

    def close_stream(self, data: bytes) -> None:
        """Send the last data and the end of the stream."""
        self._connection.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        self._connection.answered(self._keep_alive)

    def send_garbage(self) -> None:
        """Send bytes that break HTTP at this place, and close the connection."""
        self._connection.write(
            b"ZZ;this is no chunk\r\n\x00\xff" if self.streaming else b"\x15\x03\x01 no HTTP\r\n\r\n"
        )
        self.cut()

    def cut(self) -> None:
        """Close the connection here, after what was sent so far."""
        self.on_lost = None
        self._connection.cut()


class Register:
    """The connections that are open now."""

    def __init__(self) -> None:
        self._open: set[Connection] = set()
        self.empty = asyncio.Event()
        self.empty.set()

    def add(self, connection: Connection) -> None:
        self._open.add(connection)
        self.empty.clear()

    def remove(self, connection: Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self.empty.set()

    def cut_all(self) -> None:
        """Close each after what was sent so far."""
        for connection in tuple(self._open):
            connection.cut()

    def abort_all(self) -> None:
        """Drop each with whatever is unsent."""
        for connection in tuple(self._open):
            connection.abort()


class Connection(asyncio.Protocol):
    """Parses requests and hands them to `answer`, one at a time per connection."""

    def __init__(self, answer: Callable[[Exchange], None], register: Register) -> None:
        self._answer = answer
        self._register = register
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._current: Exchange | None = None
        self._queue: deque[Exchange] = deque()
        self._idle: asyncio.TimerHandle | None = None
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0

    # --- from the transport ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without being a subclass
        self._register.add(self)
        self._wait_idle()

    def data_received(self, data: bytes) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            self.abort()
            raise  # a mistake of ours, not of the client's: it must not look like a 400
        except httptools.HttpParserUpgrade:
            self._refuse(400, b"This server does not upgrade connections.")
        except httptools.HttpParserError as error:
            if self._transport is not None:
                self._refuse(400, f"Invalid HTTP request received: {error}".encode())

    def connection_lost(self, exc: Exception | None) -> None:
        self._register.remove(self)
        self._transport = None
        if self._idle is not None:
            self._idle.cancel()
        self._queue.clear()
        current, self._current = self._current, None
        if current is not None and current.on_lost is not None:
            current.on_lost()

    # --- from the parser ------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._reset()

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(431, b"Request header fields too large.")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > BODY_BYTES_MAX:
            self._refuse(413, b"Request body too large.")
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        exchange = Exchange(
            self,
            self._parser.get_method().decode(),
            self._url.partition(b"?")[0].decode("latin-1"),
            self._headers,
            b"".join(self._body),
            self._parser.should_keep_alive(),
        )
        if self._current is None:
            self._begin(exchange)
        elif len(self._queue) < _PIPELINED_MAX:
            self._queue.append(exchange)
        else:
            self.cut()

    # --- from the exchange ----------------------------------------------------------------------------

    def _begin(self, exchange: Exchange) -> None:
        self._current = exchange
        self._answer(exchange)

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def answered(self, keep_alive: bool) -> None:
        """The current answer is complete."""
        self._current = None
        if self._transport is None:
            return
        if not keep_alive:
            self._transport.close()
        elif self._queue:
            # Not at once: a long row of pipelined requests would go deep into the stack.
            asyncio.get_running_loop().call_soon(self._begin_next)
        else:
            self._wait_idle()

    def _begin_next(self) -> None:
        if self._queue and self._current is None and self._transport is not None:
            self._begin(self._queue.popleft())

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection with whatever is unsent."""
        if self._transport is not None:
            self._transport.abort()

    def _wait_idle(self) -> None:
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._close_idle)

    def _close_idle(self) -> None:
        if self._current is None:
            self.cut()

    def _refuse(self, status: int, text: bytes) -> None:
        if self._current is not None:  # in the middle of an earlier answer: nothing may stand there
            self.cut()
            return
        self.write(
            b"HTTP/1.1 %d %b\r\n%bcontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status, _REASONS[status], _SIGN, len(text), text)
        )
        self.cut()
