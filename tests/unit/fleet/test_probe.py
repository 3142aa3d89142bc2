"""Asking over real sockets, and what comes back when the other side misbehaves."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
import trustme

from inferry.core import name_lookup
from inferry.core.local_engines import SimulatedDeployment
from inferry.core.replica import Endpoint
from inferry.engines.adapter import ProbeReading, Verdict, WarmupRequest
from inferry.engines.simulated import SimulatedAdapter
from inferry.fleet.probe import HttpProber, Unreachable, WarmUpTrouble

ADAPTER = SimulatedAdapter("sim", SimulatedDeployment(engine="simulated"))
Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[[Answer], Awaitable[Endpoint]]


@pytest.fixture
async def prober() -> AsyncIterator[HttpProber]:
    prober = HttpProber()
    yield prober
    await prober.close()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server that hands each request's head to a function that writes whatever it likes."""
    servers: list[asyncio.Server] = []

    async def start(answer: Answer) -> Endpoint:
        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await answer(await reader.readuntil(b"\r\n\r\n"), writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            finally:
                writer.close()

        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        servers.append(server)
        port = server.sockets[0].getsockname()[1]
        return Endpoint("127.0.0.1", port, headers=(("Authorization", "Bearer k3y"),))

    yield start
    for server in servers:
        server.close()


def says(text: str) -> Answer:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(text.encode())
        await writer.drain()

    return answer


def ok(body: str) -> str:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}"


async def test_probe_asks_the_right_question(prober: HttpProber, serve: Serve) -> None:
    """The adapter's path is asked with the replica's key, on a connection that is not kept."""
    heads: list[bytes] = []

    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        heads.append(head.lower())
        writer.write(ok("").encode())

    reading = await prober.probe(ADAPTER, await serve(answer), 2)
    assert reading == ProbeReading(Verdict.READY, "answers")
    assert heads[0].startswith(b"get /health http/1.1")
    assert b"authorization: bearer k3y" in heads[0]
    assert b"connection: close" in heads[0]


async def test_nobody_there(prober: HttpProber) -> None:
    """A closed port is told in plain words."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    reading = await prober.probe(ADAPTER, Endpoint("127.0.0.1", port), 2)
    assert reading == Unreachable("refuses connections")


async def test_silence(prober: HttpProber, serve: Serve) -> None:
    """A server that accepts and says nothing costs the timeout, and no more."""

    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)

    reading = await prober.probe(ADAPTER, await serve(answer), 0.1)
    assert reading == Unreachable("gives no answer within 0.1 s", silent=True)


@pytest.mark.parametrize(
    "text", ["", "SSH-2.0-OpenSSH_9\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"]
)
async def test_rubbish(prober: HttpProber, serve: Serve, text: str) -> None:
    """Cut answers and other protocols are an unreachable replica with a reason, not an exception."""
    reading = await prober.probe(ADAPTER, await serve(says(text)), 2)
    assert isinstance(reading, Unreachable)
    assert reading.reason


async def test_an_endless_answer_is_cut(prober: HttpProber, serve: Serve) -> None:
    """A page without end neither fills the memory nor takes forever."""

    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    reading = await prober.probe(ADAPTER, await serve(answer), 10)
    assert isinstance(reading, ProbeReading)


async def test_warm_up_reports_what_went_wrong(prober: HttpProber, serve: Serve) -> None:
    """A refused warm-up gives status and the engine's words; a good one gives nothing."""
    request = WarmupRequest("/v1/completions", b"{}")
    refusal = "HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\n\r\nno tokens"
    trouble = await prober.warm_up(await serve(says(refusal)), request, 2)
    assert trouble == WarmUpTrouble("/v1/completions answers 400: no tokens")
    assert await prober.warm_up(await serve(says(ok("{}"))), request, 2) is None
    absent = await prober.warm_up(
        await serve(says("HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n")), request, 2
    )
    assert absent is not None
    assert absent.missing


async def test_metrics_or_nothing(prober: HttpProber, serve: Serve) -> None:
    """A metrics page comes back under our names, and under its own what was asked for; an error page is no metrics."""
    metrics = await prober.metrics(ADAPTER, await serve(says(ok("vllm:generation_tokens_total 5\n"))), 2)
    assert metrics is not None
    assert (metrics.tokens_generated, metrics.own) == (5, {})
    asked = await prober.metrics(ADAPTER, await serve(says(ok("a:b 0.5\na:c 1\n"))), 2, {"a:b", "a:d"})
    assert asked is not None
    assert asked.own == {"a:b": 0.5}
    broken = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
    assert await prober.metrics(ADAPTER, await serve(says(broken)), 2) is None


async def test_a_fault_in_the_network_layer_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that dies while its socket is set up can surface as an AttributeError: still only a bad probe."""

    class Broken(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise AttributeError("'NoneType' object has no attribute 'getpeername'")

    prober = HttpProber()
    await prober.close()
    async with httpx.AsyncClient(transport=Broken()) as client:
        monkeypatch.setattr(prober, "_client", client)
        reading = await prober.probe(ADAPTER, Endpoint("127.0.0.1", 9), 1.0)
    assert reading == Unreachable("its connection broke while it was opened")


async def test_a_name_with_several_addresses_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second address is tried where nobody listens at the first; Host and the certificate are the name's, and a
    certificate for another name is refused."""
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("engine.test").configure_cert(ours)
    authority.configure_trust(theirs)
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    monkeypatch.setattr(name_lookup, "look_up", lambda host: ["127.0.0.2", "127.0.0.1"])
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=ours)
    port = server.sockets[0].getsockname()[1]
    prober = HttpProber(verify=theirs)
    try:
        await prober.probe(ADAPTER, Endpoint("engine.test", port, tls=True), 5.0)
        assert f"\r\nHost: engine.test:{port}\r\n".encode() in heads[0]
        other = await prober.probe(ADAPTER, Endpoint("other.test", port, tls=True), 5.0)
        assert isinstance(other, Unreachable)
        assert "not valid for 'other.test'" in other.reason
        assert len(heads) == 1
    finally:
        await prober.close()
        server.close()
