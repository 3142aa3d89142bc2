"""Clients that are slow on purpose: each is ended in time, and meanwhile costs nobody else anything."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from inferry.core.outcome import Ending
from inferry.gateway import protocol, server

from .gateway_harness import (
    CHAT_BODY,
    CHAT_STREAM,
    SSE_HEAD,
    Seen,
    chunk,
    json_answer,
    post,
    raw,
    running_gateway,
    split_response,
    upstream,
)

LIMIT_S = 0.6


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests must be in after LIMIT_S instead of a minute, and that is looked at often."""
    monkeypatch.setattr(protocol, "REQUEST_TIMEOUT_S", LIMIT_S)
    monkeypatch.setattr(server, "CHECK_S", 0.05)


async def plain(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(json_answer(b"{}"))
    await writer.drain()


async def trickle(port: int, first: bytes, data: bytes) -> tuple[bytes, int]:
    """Send `first`, then `data` byte by byte until the other side has enough; its answer, and how many it took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = bytearray()

    async def collect() -> None:
        with contextlib.suppress(OSError):  # a reset: we were still sending
            while piece := await reader.read(65536):
                answer.extend(piece)

    sent = 0
    writer.write(first)
    try:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            end = group.create_task(collect())
            for sent in range(len(data)):
                writer.write(data[sent : sent + 1])
                await asyncio.wait([end], timeout=0.01)
                if end.done():
                    break
    finally:
        writer.transport.abort()
    return bytes(answer), sent


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/health"])
async def test_a_head_that_trickles_in_is_ended(path: str) -> None:
    """A byte now and then keeps no connection open, however steadily it comes."""
    async with upstream(plain) as engine, running_gateway([engine.port]) as running:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Slow: ".encode()
        answer, sent = await trickle(running.port, head, b"a" * 5000)
        assert sent < 4999
        assert b"200" not in answer[:20]
        assert engine.seen == []


async def test_a_body_that_trickles_in_is_408() -> None:
    """The client is told what was wrong, and counted; no engine hears of it."""
    async with upstream(plain) as engine, running_gateway([engine.port]) as running:
        request = post("/v1/chat/completions", CHAT_BODY + b" " * 5000)
        answer, sent = await trickle(running.port, request[:-5000], request[-5000:])
        assert sent < 4999
        status, headers, _ = split_response(answer)
        assert (status, headers["connection"]) == (408, "close")
        outcome = await running.outcome()
        assert (outcome.ending, outcome.error_code) == (Ending.REJECTED, "request_timeout")
        assert engine.seen == []


async def test_chunks_that_trickle_in_are_408_too() -> None:
    """A chunked body has no announced end; its time is limited all the same."""
    async with upstream(plain) as engine, running_gateway([engine.port]) as running:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer, _ = await trickle(running.port, head, b"1\r\n{\r\n" * 1000)
        assert answer.startswith(b"HTTP/1.1 408")
        assert engine.seen == []


async def test_a_connection_that_says_nothing_is_ended() -> None:
    """Hundreds of silent connections are closed in time, and others are served meanwhile."""
    async with upstream(plain) as engine, running_gateway([engine.port]) as running:
        silent = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(200)]
        try:
            answer = await raw(running.port, post("/v1/chat/completions", CHAT_BODY))
            assert answer.startswith(b"HTTP/1.1 200")
            async with asyncio.timeout(10):
                for reader, _ in silent:
                    assert await reader.read() == b""
        finally:
            for _, writer in silent:
                writer.transport.abort()


async def test_a_long_answer_is_no_slow_request() -> None:
    """The limit is on what comes in: a stream may go out for much longer."""

    async def long(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD)
        for number in range(10):
            writer.write(chunk(b"data: %d\n\n" % number))
            await writer.drain()
            await asyncio.sleep(2 * LIMIT_S / 10)
        writer.write(b"0\r\n\r\n")

    async with upstream(long) as engine, running_gateway([engine.port]) as running:
        answer = await raw(running.port, post("/v1/chat/completions", CHAT_STREAM))
        assert b"data: 9" in answer
        assert (await running.outcome()).ending is Ending.COMPLETED


async def test_a_client_that_never_reads_is_ended_and_stops_the_engine() -> None:
    """Once its buffers are full, nothing more is fetched for it, and after the idle time it is cut off."""
    written = 0

    async def flood(seen: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(SSE_HEAD)
        piece = chunk(b"data: " + b"x" * 60_000 + b"\n\n")
        while not seen.closed.is_set():
            writer.write(piece)
            await writer.drain()
            written += len(piece)
            await asyncio.sleep(0)

    async with upstream(flood) as engine, running_gateway([engine.port], idle_timeout_s=1.0) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1024)
        try:
            writer.write(post("/v1/chat/completions", CHAT_STREAM))
            outcome = await running.outcome()
            assert (outcome.ending, outcome.error_code) == (Ending.CANCELLED, "client_not_reading")
            # What fits into the sockets' buffers on the way, and not the 60 KB a turn of a whole second.
            assert written < 64 * 1024 * 1024
        finally:
            writer.transport.abort()
            del reader
