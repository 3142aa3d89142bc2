"""Every adapter in the five states of its engine, asked by the fleet's own prober over real sockets.

What an engine's pages say in each state was read from its source (see its adapter); here a plain server says it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from inferry.core.replica import Endpoint
from inferry.engines.adapter import ProbeReading, RemoteAdapter, Verdict
from inferry.fleet.probe import REFUSES, HttpProber, Unreachable

from .engine_cases import CASES, Case

over_all = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
Page = tuple[int, bytes]

# While it loads: its answer; engines that are not here don't listen until they have loaded.
LOADING: dict[str, Page] = {
    "llamacpp": (503, b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}'),
    "sglang": (503, b""),
}
# With more requests than it takes. None of them has a health page that goes red for that, but TGI may refuse it.
OVERLOADED: dict[str, Page] = {"tgi": (429, b'{"error":"Model is overloaded","error_type":"overloaded"}')}
# When its inside has died and its HTTP has not.
BROKEN: dict[str, Page] = {
    "vllm": (503, b""),
    "tensorrt-llm": (503, b""),
    "tgi": (503, b'{"error":"unhealthy","error_type":"healthcheck"}'),
    "simulated": (503, b""),
    "openai": (502, b"<html>"),
    "ollama": (500, b""),
    "transformers": (500, b""),
    "llamacpp": (500, b""),
    "sglang": (500, b""),
}


@pytest.fixture
async def prober() -> AsyncIterator[HttpProber]:
    asker = HttpProber()
    yield asker
    await asker.close()


@contextlib.asynccontextmanager
async def page_server(page: Page | None) -> AsyncIterator[tuple[Endpoint, list[bytes]]]:
    """Answers every request with `page`, or never; the request lines that it got."""
    lines: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            lines.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
            if page is None:
                await reader.read()
            else:
                status, body = page
                writer.write(
                    b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                    % (status, len(body), body)
                )
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Endpoint("127.0.0.1", server.sockets[0].getsockname()[1]), lines


async def seen(prober: HttpProber, case: Case, page: Page | None) -> ProbeReading | Unreachable:
    async with page_server(page) as (endpoint, lines):
        reading = await prober.probe(case.adapter(), endpoint, 0.3 if page is None else 10)
        assert len(lines) == 1
    return reading


@over_all
async def test_ready(prober: HttpProber, case: Case) -> None:
    """A good page makes it ready."""
    reading = await seen(prober, case, (200, b"{}"))
    assert isinstance(reading, ProbeReading)
    assert reading.verdict is Verdict.READY


@over_all
async def test_loading(prober: HttpProber, case: Case) -> None:
    """Those that tell are loading; the others don't listen yet, or are behind something that says 503: never ready."""
    if isinstance(case.adapter(), RemoteAdapter):
        reading = await seen(prober, case, (503, b"starting"))
        assert isinstance(reading, ProbeReading)
        assert reading.verdict is Verdict.UNWELL
    elif case.engine in LOADING:
        reading = await seen(prober, case, LOADING[case.engine])
        assert isinstance(reading, ProbeReading)
        assert reading.verdict is Verdict.LOADING
    else:
        async with page_server((200, b"")) as (endpoint, _):
            pass
        assert await prober.probe(case.adapter(), endpoint, 10) == Unreachable(REFUSES)


@over_all
async def test_overloaded(prober: HttpProber, case: Case) -> None:
    """Full is alive: ready, or busy where the engine says so; never unwell, loading or unreachable."""
    reading = await seen(prober, case, OVERLOADED.get(case.engine, (200, b"{}")))
    assert isinstance(reading, ProbeReading)
    wanted = Verdict.BUSY if case.engine in OVERLOADED else Verdict.READY
    assert reading.verdict is wanted


@over_all
async def test_hung(prober: HttpProber, case: Case) -> None:
    """A server that takes the question and never answers is no reading at all, and not the same as a dead one."""
    reading = await seen(prober, case, None)
    assert isinstance(reading, Unreachable)
    assert "no answer within 0.3 s" in reading.reason


@over_all
async def test_dead(prober: HttpProber, case: Case) -> None:
    """Nobody listens; or the HTTP server lives on and says that its engine does not."""
    async with page_server((200, b"")) as (endpoint, _):
        pass
    assert await prober.probe(case.adapter(), endpoint, 10) == Unreachable(REFUSES)
    reading = await seen(prober, case, BROKEN[case.engine])
    assert isinstance(reading, ProbeReading)
    assert reading.verdict is Verdict.UNWELL


def test_every_engine_is_here() -> None:
    """A new engine says what it answers when it is broken."""
    assert {case.engine for case in CASES} == set(BROKEN)
