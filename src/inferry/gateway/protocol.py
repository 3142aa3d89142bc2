"""The fast front: uvicorn's HTTP protocol class, with inference routes relayed inside the protocol.

A POST to an inference route never becomes an ASGI scope, task or message: its exchange is fed from the
parser's callbacks, and writes its answer to the transport. Every other request goes the ordinary way. The
class leans on uvicorn's internals (`cycle`, `pipeline`, `flow`, `on_response_complete`), which is why uvicorn
is pinned exactly; tests/e2e/test_gateway_http.py says whether an upgrade breaks it.

Requests that a client pipelines behind a running one take the ordinary ASGI way too: they must wait for their
turn anyway, and uvicorn has the queue for them.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from inferry.core.errors import BodyTooLarge, InferryError, RequestTimeout
from inferry.core.request import Route
from inferry.gateway.exchange import Exchange
from inferry.gateway.fronts.front import Front
from inferry.gateway.fronts.front_exchange import open_exchange
from inferry.gateway.fronts.table import ENTRANCES_BYTES
from inferry.gateway.gateway import Gateway

HEADER_BYTES_MAX = 64 * 1024
REQUEST_TIMEOUT_S = 60.0
"""For a request's head and body to come in: ends connections that trickle to hold them open."""
KEEP_ALIVE_S = 75.0
"""For a connection between two requests: above the 60 s of most load balancers, so that they close first."""
DISCARD_BYTES_MAX = 64 * 1024 * 1024


class _RelayTurn:
    """Stands where uvicorn keeps the current request's cycle while an exchange has the connection."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self) -> None:
        self.response_complete = True
        self.keep_alive = True
        self.disconnected = False
        self.message_event = asyncio.Event()


class InferenceProtocol(HttpToolsProtocol):
    """One client connection, and the sink of the exchange that runs on it."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        gateway: Gateway,
        relay: bool = True,
    ) -> None:
        """`relay`: False sends inference requests through ASGI too, for the conformance suite."""
        super().__init__(config, server_state, app_state, _loop)
        self._gateway = gateway
        self._relay = relay
        self._exchange: Exchange | None = None
        self._turn = _RelayTurn()
        # Of the request that comes in:
        self._receiving = False
        self._body = bytearray()
        self._discarded_bytes = 0
        self._awaits_head = True
        self._head_moved = False
        self._head_bytes = 0
        """Received of a head that is not whole yet; then, of trailers."""
        self._read_bytes = 0
        self._upgrading = False
        self._discarding = False
        self._in_line: list[RequestResponseCycle] = []
        self.receiving_since_s: float | None = None
        # Of the response that goes out:
        self._head = b""
        self._server_headers: list[tuple[bytes, bytes]] | None = None
        self._server_head = b""
        self._chunked = False
        self._framed = False
        self.idle_since_s: float | None = None
        """Since its last answer; uvicorn's own timer, set and cancelled for each request, costs more than all else
        here."""

    # --- connection -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.receiving_since_s = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        self.receiving_since_s = None
        self._drop_exchange()
        self._drop_line()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.idle_since_s = None
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        was_awaiting, self._head_moved = self._awaits_head, False
        self._read_bytes = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
            return
        # The parser gives a header only once it is whole, so a long one is counted here.
        if was_awaiting and not self._head_moved:
            self._head_bytes += len(data)
            if self._head_bytes > HEADER_BYTES_MAX:
                self.send_400_response("The request's head is too long.")

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.pipeline:
            self.flow.resume_reading()
        if self._exchange is not None:
            self._exchange.resume()

    def send_400_response(self, msg: str) -> None:
        if self.transport.is_closing():
            return
        # Garbage behind requests that came in whole: a 400 would land inside or before their answers.
        busy = (self._exchange is not None and not self._receiving) or any(
            not cycle.response_complete and (cycle.response_started or not cycle.more_body)
            for cycle in self._in_line
        )
        self._drop_exchange()
        self._drop_line()
        if busy:
            self.transport.abort()
        else:
            super().send_400_response(msg)

    def _drop_line(self) -> None:
        """Tell all ordinary requests that nobody reads; uvicorn tells only the one that came last."""
        for cycle in self._in_line:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self._in_line.clear()

    def _drop_exchange(self) -> None:
        self._receiving = False
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._turn.response_complete = True
            exchange.on_client_lost()

    def check_trickle(self, now_s: float) -> None:
        """End a connection that has idled too long, or whose request takes too long to come in."""
        if self.idle_since_s is not None and now_s - self.idle_since_s > KEEP_ALIVE_S:
            self.transport.close()
            return
        if self.receiving_since_s is None or now_s - self.receiving_since_s < REQUEST_TIMEOUT_S:
            return
        if self.flow.read_paused or (self._exchange is not None and not self._receiving):
            return  # it can't come in, or waits behind an answer that runs
        if self._receiving and self._exchange is not None:
            self._refuse(RequestTimeout(f"The request was not complete after {REQUEST_TIMEOUT_S:g} s."))
        self.transport.close()

    # --- parser callbacks -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        # The ASGI scope is only built when an ordinary request needs it.
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self.receiving_since_s = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._awaits_head:
            self.headers.append((name.lower(), value))
            return
        # A trailer: no header of the request (RFC 9110, 6.5.1).
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEADER_BYTES_MAX:
            raise ValueError("request trailer too long")  # the parser turns it into a 400

    def on_headers_complete(self) -> None:
        self._awaits_head = False
        self._head_moved = True
        headers, version = self.headers, self.parser.get_http_version()
        named = dict(headers)
        self._check_head(named, version)
        self._head_bytes = 0
        self.expect_100_continue = named.get(b"expect", b"").lower() == b"100-continue"
        if self.parser.should_upgrade():
            self._upgrading = True  # data_received takes it from here
            return
        entrance = self._relayed_entrance()
        if entrance is None or not (self.cycle is None or self.cycle.response_complete):
            self._start_ordinary()
            return
        turn = self._turn
        turn.response_complete = False
        turn.keep_alive = self.parser.should_keep_alive()
        self._chunked = version == "1.1"
        self.cycle = turn  # type: ignore[assignment]
        gateway = self._gateway
        peer = None if self.client is None else self.client[0]
        arrival = gateway.edge.arrive(b"POST", headers, peer)
        self._exchange = exchange = open_exchange(entrance, gateway, self, arrival, headers)
        self._receiving = True
        if self.flow.write_paused:
            # Earlier answers lie unread: neither fetch another one nor take more requests.
            exchange.pause()
            self.flow.pause_reading()
        if (error := exchange.open()) is not None:
            self._refuse_and_discard(error)
            return
        length = named.get(b"content-length")
        if length is not None and int(length) > gateway.settings.body_max_bytes:
            self._refuse_too_large(f"{int(length):,} bytes")
            return
        if self.expect_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _check_head(self, named: dict[bytes, bytes], version: str) -> None:
        """What RFC 9112 (2.3, 3.2) forbids and the parser lets pass, or too much; raising makes it a 400."""
        headers = self.headers
        if len(named) == len(headers):
            hosts = int(b"host" in named)
        else:
            hosts = [name for name, _ in headers].count(b"host")
        if hosts > 1 or (hosts == 0 and version == "1.1") or version not in ("1.1", "1.0"):
            raise ValueError("no version, or not exactly one Host")
        may_be_long = self._head_bytes + self._read_bytes > HEADER_BYTES_MAX
        if may_be_long and sum(len(name) + len(value) for name, value in headers) > HEADER_BYTES_MAX:
            raise ValueError("request head too long")

    def _relayed_entrance(self) -> Route | Front | None:
        if not self._relay or self.parser.get_method() != b"POST":
            return None
        return ENTRANCES_BYTES.get(self.url) or ENTRANCES_BYTES.get(self.url.partition(b"?")[0])

    def _start_ordinary(self) -> None:
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers.extend(headers)
        super().on_headers_complete()
        assert isinstance(self.cycle, RequestResponseCycle)
        self._in_line = [cycle for cycle in self._in_line if not cycle.response_complete]
        self._in_line.append(self.cycle)

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Serve a request that offers another protocol (`Upgrade: h2c`) as if it had not, body and all.

        The parser stops at such a head, so its request is given once more to a new parser.
        """
        self._upgrading = False
        method = self.parser.get_method()
        self.parser = httptools.HttpRequestParser(self)
        self._awaits_head = True
        if method == b"CONNECT":
            self.send_400_response("There is no CONNECT here.")
            return
        lines = [b"%b %b HTTP/1.1" % (method, self.url)]
        for name, value in self.headers:
            if name not in (b"upgrade", b"connection", b"http2-settings"):
                lines.append(name + b": " + value)
        self.data_received(b"\r\n".join([*lines, b"", b""]) + rest)

    def on_body(self, body: bytes) -> None:
        if self._discarding:
            self._discarded_bytes += len(body)
            if self._discarded_bytes > DISCARD_BYTES_MAX:
                self.transport.close()
        elif self._receiving:
            self._body += body
            if len(self._body) > self._gateway.settings.body_max_bytes:
                self._refuse_too_large("more")
        elif isinstance(self.cycle, RequestResponseCycle):
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        self._awaits_head = True
        self.receiving_since_s = None
        if self._discarding:
            self._discarding = False
            self.transport.close()
        elif self._receiving:
            self._receiving = False
            body = bytes(self._body)
            self._body.clear()
            assert self._exchange is not None
            self._exchange.begin(body)
        elif isinstance(self.cycle, RequestResponseCycle):
            super().on_message_complete()

    def _refuse_too_large(self, size: str) -> None:
        limit = int(self._gateway.settings.body_max_bytes)
        self._refuse_and_discard(
            BodyTooLarge(
                f"The request body is too long: {size}, and the limit is {limit:,} bytes (gateway.body_max_bytes)."
            )
        )

    def _refuse_and_discard(self, error: InferryError) -> None:
        self._refuse(error)
        # The answer is out. Closing with unread bytes would reset the connection and could destroy it on its
        # way, so read on for a while.
        self._discarding = not self.transport.is_closing()

    def _refuse(self, error: InferryError) -> None:
        assert self._exchange is not None
        self._receiving = False
        self._body.clear()
        self._turn.keep_alive = False
        self._exchange.reject(error)

    # --- ClientSink -----------------------------------------------------------------------------------

    def start(self, status: int, header_lines: bytes, length: int | None) -> None:
        self._framed = length is not None or self._chunked
        if length is not None:
            self._chunked = False
            framing = b"content-length: %d\r\n" % length
        elif self._chunked:
            framing = b"transfer-encoding: chunked\r\n"
        else:
            framing = b""
            self._turn.keep_alive = False  # HTTP/1.0: the end of the body is the end of the connection
        if not self._turn.keep_alive:
            framing += b"connection: close\r\n"
        self._head = STATUS_LINE[status] + self._server_lines() + header_lines + framing + b"\r\n"

    def _server_lines(self) -> bytes:
        """Of the server, the date among them: uvicorn makes a new list of them each second."""
        headers = self.server_state.default_headers
        if headers is not self._server_headers:
            self._server_headers = headers
            self._server_head = b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._server_head

    def write(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._head:
            data = self._head + data
            self._head = b""
        self.transport.write(data)

    def end(self, data: bytes = b"") -> None:
        if self._chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        if self._head:
            data = self._head + data
            self._head = b""
        if data and not self.transport.is_closing():
            self.transport.write(data)
        self._exchange = None
        self._turn.response_complete = True
        if self.receiving_since_s is not None:
            self.receiving_since_s = self.loop.time()  # the next request has waited for this answer
        elif not self._turn.keep_alive:
            self.transport.close()
        if self.pipeline or self.flow.read_paused:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.idle_since_s = self.loop.time()

    def cut(self) -> None:
        self._exchange = None
        self._turn.response_complete = True
        if self.transport.is_closing():
            return
        if self._head:
            self.transport.write(self._head)
            self._head = b""
        # Where the framing shows that something is missing, let what is under way arrive; where the end of
        # the connection would look like the end of the answer, only a reset tells.
        if self._framed and not self.flow.write_paused:
            self.transport.close()
        else:
            self.transport.abort()
