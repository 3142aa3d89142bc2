"""The client in the timed path, against a stand-in server that answers as it is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trustme

from inferry.bench import http_client
from inferry.bench.http_client import Client, Connection, Exchange
from inferry.bench.records import Raw, Verdict
from inferry.core.clock import SystemClock

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
REQUEST = b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class StandIn:
    """Counts connections, and has each one served by `answer`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.connections = 0
        self._open = 0
        self.idle = asyncio.Event()
        """Nobody is connected any more."""
        self.left = asyncio.Event()
        """A client has closed its connection."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open += 1
        self.idle.clear()
        try:
            await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        self._open -= 1
        if not self._open:
            self.idle.set()


async def heads(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        yield await reader.readuntil(b"\r\n\r\n")


class Sent:
    """What has ended, in order."""

    def __init__(self) -> None:
        self.client: Client
        self.raws: list[Raw] = []
        self._ended = asyncio.Queue[Raw]()

    def on_end(self, exchange: Exchange) -> None:
        self._ended.put_nowait(exchange.raw(0.0))

    async def ask(self, timeout_s: float | None = None, leave_after_s: float | None = None) -> Raw:
        exchange = Exchange(len(self.raws), SystemClock.now_s(), REQUEST)
        self.client.send(exchange, timeout_s, leave_after_s)
        self.raws.append(await self._ended.get())
        return self.raws[-1]


@asynccontextmanager
async def asking(
    answer: Answer, server_tls: ssl.SSLContext | None = None, client_tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Sent, StandIn]]:
    stand_in, sent = StandIn(answer), Sent()
    server = await asyncio.start_server(stand_in.serve, "127.0.0.1", 0, ssl=server_tls)
    port: int = server.sockets[0].getsockname()[1]
    sent.client = Client(("127.0.0.1", port), sent.on_end, client_tls, "localhost" if client_tls else None)
    try:
        yield sent, stand_in
    finally:
        await sent.client.close()
        if stand_in.connections:
            await stand_in.idle.wait()
        server.close()
        await server.wait_closed()


async def well(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async for _ in heads(reader):
        writer.write(OK)


async def test_a_connection_serves_one_request_after_the_other() -> None:
    """Answers that end in order leave their connection open for the next request; times are in their order."""
    async with asking(well) as (sent, stand_in):
        for _ in range(3):
            raw = await sent.ask()
            assert raw.sent_s is not None
            assert raw.first_byte_s is not None
            assert raw.ended_s is not None
            assert raw.due_s <= raw.sent_s <= raw.first_byte_s == raw.pieces[0][0] == raw.ended_s
            assert (raw.status, raw.whole, raw.trouble) == (200, True, None)
        assert stand_in.connections == sent.client.opened == 1
    assert sent.raws[0].connect_s > 0
    assert sent.raws[1].connect_s == 0


async def test_the_first_connection_can_be_open_before() -> None:
    """What was opened ahead is used, and its connecting is in no request's time."""
    async with asking(well) as (sent, stand_in):
        await sent.client.warm(2)
        assert (await sent.ask()).connect_s == 0
        assert stand_in.connections == 2


async def test_each_read_is_a_piece_with_its_own_time() -> None:
    """Two writes with a pause are two pieces; the later one is later by that pause, and chunks' framing is gone."""

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"3\r\ntwo\r\n4\r\nmore\r\n0\r\n\r\n")

    async with asking(slowly) as (sent, _):
        raw = await sent.ask()
    (first_s, one), (second_s, two) = raw.pieces
    assert (one, two) == (b"one", b"twomore")
    assert second_s - first_s > 0.045


async def test_large_answers_come_whole_and_in_large_reads() -> None:
    """8 MB with a length: nothing stops reading in between, and no read is cut to a few KB by a buffer of ours."""
    size = 8 << 20

    async def much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + bytes(size))
        await writer.drain()

    async with asking(much) as (sent, _):
        raw = await sent.ask()
    assert raw.whole
    assert sum(len(data) for _, data in raw.pieces) == size
    assert max(len(data) for _, data in raw.pieces) > 64 << 10


async def test_an_answer_that_is_cut_is_not_whole() -> None:
    """The connection ends before the length is reached: no trouble of the client's own, and not whole."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK[:-1])

    async with asking(cut) as (sent, _):
        raw = await sent.ask()
    assert (raw.status, raw.whole, raw.trouble) == (200, False, None)
    assert raw.pieces[0][1] == b"o"


async def test_a_body_may_end_with_its_connection() -> None:
    """Without a length, the connection's orderly end makes the answer whole."""

    async def to_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall")

    async with asking(to_close) as (sent, _):
        raw = await sent.ask()
    assert raw.whole
    assert b"".join(data for _, data in raw.pieces) == b"all"


async def test_what_is_not_http_is_malformed() -> None:
    """The client says so, and leaves."""

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        await reader.readexactly(1)

    async with asking(other) as (sent, _):
        raw = await sent.ask()
    assert raw.trouble is Verdict.MALFORMED
    assert "not HTTP" in raw.reason


async def served_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes a second request on the same connection, and closes it without a byte."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK)
    await reader.readuntil(b"\r\n\r\n")


async def test_a_kept_connection_that_was_closed_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that closes a connection that was idle just then: the request goes out again, once, and says so.

    It counts from when it was sent for the first time, and the new connection is no part of what came before.
    """
    monkeypatch.setattr(http_client, "IDLE_BEFORE_S", 0.0)
    monkeypatch.setattr(http_client, "STALE_S", 10.0)
    sendings: list[float] = []
    send = Connection.send

    def noting(self: Connection, exchange: Exchange) -> None:
        send(self, exchange)
        sendings.append(self._sent_s)

    monkeypatch.setattr(Connection, "send", noting)
    async with asking(served_once) as (sent, stand_in):
        assert not (await sent.ask()).resent
        again = await sent.ask()
        assert again.whole
        assert again.resent
        assert stand_in.connections == 2
    _, first_s, second_s = sendings
    assert first_s < second_s
    assert (again.sent_s, again.connect_s) == (first_s, 0.0)


@pytest.mark.parametrize(("idle_before_s", "stale_s"), [(60.0, 10.0), (0.0, 0.0)])
async def test_a_request_that_the_server_lost_is_not_sent_again(
    monkeypatch: pytest.MonkeyPatch, idle_before_s: float, stale_s: float
) -> None:
    """A kept connection that was in use all the time, or is lost when the server has had the request for a while."""
    monkeypatch.setattr(http_client, "IDLE_BEFORE_S", idle_before_s)
    monkeypatch.setattr(http_client, "STALE_S", stale_s)
    async with asking(served_once) as (sent, stand_in):
        await sent.ask()
        lost = await sent.ask()
        assert (lost.trouble, lost.resent) == (Verdict.CONNECT, False)
        assert stand_in.connections == 1


async def test_a_request_lost_on_a_connection_that_never_served_is_not_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was opened ahead is no kept connection: a server that closes it at its first request lost that."""
    monkeypatch.setattr(http_client, "IDLE_BEFORE_S", 0.0)
    monkeypatch.setattr(http_client, "STALE_S", 10.0)

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with asking(never) as (sent, stand_in):
        await sent.client.warm(1)
        assert (await sent.ask()).trouble is Verdict.CONNECT
        assert stand_in.connections == 1


async def test_a_lost_request_is_a_failure() -> None:
    """A new connection that is closed without a byte is the server's fault, and is not tried again."""

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with asking(never) as (sent, stand_in):
        raw = await sent.ask()
        assert raw.trouble is Verdict.CONNECT
        assert raw.sent_s is not None
        assert stand_in.connections == 1


async def test_more_than_an_answer_spoils_its_connection() -> None:
    """Bytes behind an answer's end never meet the next request."""

    async def twofold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for _ in heads(reader):
            writer.write(OK + OK)

    async with asking(twofold) as (sent, stand_in):
        for _ in range(2):
            assert (await sent.ask()).pieces[0][1] == b"ok"
        assert stand_in.connections == 2


async def test_deadline_and_leaving_close_the_connection() -> None:
    """A request that takes too long, or whose client leaves as planned, ends so, and the server sees it."""

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK[:-1])
        await reader.readexactly(1)

    async with asking(half) as (sent, stand_in):
        late = await sent.ask(timeout_s=0.05)
        await stand_in.left.wait()
        stand_in.left.clear()
        gone = await sent.ask(timeout_s=5, leave_after_s=0.02)
        await stand_in.left.wait()
    assert late.trouble is Verdict.TIMEOUT
    assert gone.trouble is Verdict.ABANDONED
    assert late.pieces
    assert "0.05 s" in late.reason


async def test_nobody_there_is_a_failed_connection() -> None:
    """A port where nobody listens: CONNECT, in words."""
    async with asking(well) as (sent, _):
        sent.client._address = ("127.0.0.1", 1)
        raw = await sent.ask()
    assert raw.trouble is Verdict.CONNECT
    assert raw.sent_s is None
    assert "no connection" in raw.reason


async def test_the_machines_own_limit_is_not_the_servers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that this machine refuses, for want of files or ports, leaves its request UNSENT."""
    loop = asyncio.get_running_loop()

    async def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    async with asking(well) as (sent, _):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "create_connection", refuse)
            raw = await sent.ask()
    assert raw.trouble is Verdict.UNSENT
    assert "Too many open files" in raw.reason


async def test_connections_idle_for_long_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers close idle connections after some seconds; we leave them before."""
    monkeypatch.setattr(http_client, "IDLE_MAX_S", 0.0)
    async with asking(well) as (sent, stand_in):
        for _ in range(2):
            assert (await sent.ask()).whole
        assert stand_in.connections == 2


async def test_https_is_spoken_and_certificates_are_checked() -> None:
    """With a certificate of an authority that the client knows, all is as without TLS; with another, CONNECT."""
    authority, other = trustme.CA(), trustme.CA()
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_tls)
    known, unknown = ssl.create_default_context(), ssl.create_default_context()
    authority.configure_trust(known)
    other.configure_trust(unknown)
    async with asking(well, server_tls, known) as (sent, _):
        assert (await sent.ask()).whole
    async with asking(well, server_tls, unknown) as (sent, _):
        raw = await sent.ask()
    assert raw.trouble is Verdict.CONNECT
    assert "certificate" in raw.reason
