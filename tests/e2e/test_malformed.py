"""Thousands of broken requests: each ends in a well-formed 4xx or a closed connection, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .gateway_harness import (
    CHAT_BODY,
    CHAT_STREAM,
    SSE_HEAD,
    Running,
    Seen,
    chunk,
    json_answer,
    post,
    raw,
    running_gateway,
    upstream,
)
from .malformed_requests import SMUGGLED, Broken, broken_request, chunk_tricks, two_lengths

AT_ONCE = 24
SILENCE_S = 0.05
"""A server that says nothing for so long waits for more; then the client says that there is no more."""
_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [\w -]*\r\n((?:[\w-]+: [^\r\n\0]*\r\n)*)\r\n")


async def engine_of_all(seen: Seen, writer: asyncio.StreamWriter) -> None:
    if b'"stream":true' in seen.body:
        writer.write(
            SSE_HEAD + chunk(b'data: {"choices":[]}\n\n') + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        )
    else:
        writer.write(json_answer(b'{"usage":{"prompt_tokens":1,"completion_tokens":1}}'))
    await writer.drain()


def statuses_of(answer: bytes) -> list[int]:
    """Statuses of the answers on one connection, the last of which may be cut off; raises ValueError."""
    found: list[int] = []
    while answer:
        head = _HEAD.match(answer)
        if head is None:
            raise ValueError(f"not a response: {answer[:200]!r}")
        headers = {
            key.lower(): value for key, _, value in (line.partition(b": ") for line in head[2].split(b"\r\n"))
        }
        status = int(head[1])
        answer = answer[head.end() :]
        if status != 100:
            found.append(status)
            answer = _behind_body(answer, headers)
    return found


def _behind_body(answer: bytes, headers: dict[bytes, bytes]) -> bytes:
    if b"content-length" in headers:
        return answer[int(headers[b"content-length"]) :]
    if headers.get(b"transfer-encoding") == b"chunked":
        while answer:
            size, _, answer = answer.partition(b"\r\n")
            answer = answer[int(size, 16) + 2 :]
            if int(size, 16) == 0:
                return answer
        return b""
    if headers.get(b"connection") != b"close":
        raise ValueError("an answer without an end")
    return b""


async def send(port: int, data: bytes) -> bytes:
    """What comes back on a connection that carried `data` and no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(data)
        said_end = False
        async with asyncio.timeout(20):
            while True:
                try:
                    async with asyncio.timeout(None if said_end else SILENCE_S):
                        piece = await reader.read(65536)
                except TimeoutError:
                    said_end = True
                    with contextlib.suppress(RuntimeError):  # uvloop's word for: closed in this very moment
                        writer.write_eof()
                    continue
                if not piece:
                    break
                answer += piece
    except OSError:
        pass  # closed while we still sent: also an answer
    finally:
        writer.transport.abort()
    return answer


@dataclass
class Tally:
    """What became of many broken requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    by_name: dict[str, Counter[int]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def add(self, seed: int, broken: Broken, answer: bytes) -> None:
        try:
            found = statuses_of(answer) or [0]
        except ValueError as error:
            self.faults.append(f"seed {seed} ({broken.name}): {error}; sent {broken.data[:300]!r}")
            return
        self.by_name.setdefault(broken.name, Counter()).update(found)
        self.statuses.update(found)
        for status in found:
            good = status == 0 or 400 <= status < 500 or (status == 200 and broken.may_pass)
            if not good:
                self.faults.append(f"seed {seed} ({broken.name}): {status}; sent {broken.data[:300]!r}")


async def attack(running: Running, seeds: range) -> Tally:
    """Send the requests of `seeds`, AT_ONCE at a time."""
    tally = Tally()
    waiting = iter(seeds)

    async def one_by_one() -> None:
        for seed in waiting:
            broken = broken_request(seed)
            tally.add(seed, broken, await send(running.port, broken.data))

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_by_one())
    return tally


async def still_serves(running: Running) -> bool:
    return (await raw(running.port, post("/v1/chat/completions", CHAT_BODY))).startswith(b"HTTP/1.1 200")


def open_files() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


async def quiet(limit_files: int, limit_tasks: int) -> tuple[int, int]:
    """Open files and tasks, once they are down to the limits or time is up."""
    for _ in range(400):
        if open_files() <= limit_files and len(asyncio.all_tasks()) <= limit_tasks:
            break
        await asyncio.sleep(0.02)
    return open_files(), len(asyncio.all_tasks())


@pytest.mark.parametrize("front", ["protocol", "asgi"])
async def test_broken_requests_get_4xx_or_a_closed_connection(front: str) -> None:
    """No 5xx, no answer that is no HTTP, nothing smuggled past us, no request, task or file left; and it still serves."""
    async with (
        upstream(engine_of_all) as engine,
        running_gateway([engine.port], relay_in_protocol=front == "protocol") as running,
    ):
        assert await still_serves(running)
        files, tasks = open_files(), len(asyncio.all_tasks())
        seeds = range(2200) if front == "protocol" else range(10_000, 10_800)
        tally = await attack(running, seeds)
        assert tally.faults == []
        assert sum(tally.statuses[status] for status in range(400, 500)) > len(seeds) / 4, tally.statuses
        assert tally.statuses[400] > 0
        await running.settled()
        # Idle connections to the engine may stay for a while: as many as were in use at once.
        assert await quiet(files + 2 * AT_ONCE, tasks + 2 * AT_ONCE) <= (
            files + 2 * AT_ONCE,
            tasks + 2 * AT_ONCE,
        )
        assert [seen.head for seen in engine.seen if SMUGGLED in seen.head] == []
        assert await still_serves(running)


async def test_nothing_is_smuggled() -> None:
    """Where two readers could disagree on the end of a body, the request behind it never reaches an engine."""
    async with upstream(engine_of_all) as engine, running_gateway([engine.port]) as running:
        for seed in range(300):
            rng = random.Random(seed)
            broken = (two_lengths, chunk_tricks)[seed % 2](rng)
            engine.seen.clear()
            await send(running.port, broken.data)
            hidden = [seen.body for seen in engine.seen if SMUGGLED in seen.body]
            assert hidden == [], (seed, broken.data[:400])


# --- what RFC 9112 asks for, one by one -----------------------------------------------------------------


def with_head(*lines: bytes) -> bytes:
    return b"\r\n".join(
        [*lines, b"Connection: close", b"Content-Length: %d" % len(CHAT_BODY), b"", CHAT_BODY]
    )


_LINE = b"POST /v1/chat/completions HTTP/1.1"


_BAD_HEADS = {
    "no version": with_head(b"POST /v1/chat/completions", b"Host: x"),
    "no Host": with_head(_LINE),
    "two Hosts": with_head(_LINE, b"Host: a", b"Host: b"),
}


@pytest.mark.parametrize("front", ["protocol", "asgi"])
@pytest.mark.parametrize("name", _BAD_HEADS)
async def test_heads_that_rfc_9112_forbids_are_refused(front: str, name: str) -> None:
    """A request line without a version (section 3) and a head without exactly one Host (section 3.2) get 400."""
    async with (
        upstream(engine_of_all) as engine,
        running_gateway([engine.port], relay_in_protocol=front == "protocol") as running,
    ):
        assert statuses_of(await send(running.port, _BAD_HEADS[name])) == [400]
        assert engine.seen == []


@pytest.mark.parametrize(
    "front",
    ["protocol", "asgi"],
)
async def test_trailers_are_not_headers(front: str) -> None:
    """What stands behind the last chunk is read over: it can't replace or add a header (RFC 9110, section 6.5.1)."""
    body = b"%x\r\n%b\r\n0\r\nX-Request-Id: from-the-trailer\r\ntraceparent: 00-ab\r\n\r\n" % (
        len(CHAT_BODY),
        CHAT_BODY,
    )
    head = b"\r\n".join([_LINE, b"Host: x", b"Connection: close", b"Transfer-Encoding: chunked", b"", b""])
    async with (
        upstream(engine_of_all) as engine,
        running_gateway([engine.port], relay_in_protocol=front == "protocol") as running,
    ):
        assert statuses_of(await send(running.port, head + body)) == [200]
        assert engine.seen[0].header("traceparent") is None
        assert engine.seen[0].header("x-request-id") != "from-the-trailer"


async def test_garbage_behind_a_pipelined_stream_never_lands_inside_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The second of two requests in line is streaming when garbage comes: its answer is cut, not filled with a 400,
    and nothing of ours breaks over it."""

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD)
        while len(engine.seen) > 1 and not seen.closed.is_set():
            writer.write(chunk(b"data: 1\n\n"))
            await writer.drain()
            await asyncio.sleep(0.005)
        writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async with upstream(slow) as engine, running_gateway([engine.port]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        try:
            writer.write(2 * post("/v1/chat/completions", CHAT_STREAM, close=False))
            async with asyncio.timeout(10):
                await reader.readuntil(b"data: 1\n\n")
                writer.write(b"garbage\r\n\r\n")
                rest = b""
                try:
                    while piece := await reader.read(65536):
                        rest += piece
                except OSError:
                    pass  # reset: also an end
        finally:
            writer.transport.abort()
        assert b"400 Bad Request" not in rest
        await running.settled()
    assert "Exception in ASGI application" not in caplog.text


# --- a hundred thousand ---------------------------------------------------------------------------------


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
async def test_a_hundred_thousand_broken_requests_leave_no_memory_behind() -> None:
    """After 20,000 to warm up, 80,000 more add at most 8 MB to the process, which is client, gateway and engine."""
    async with upstream(engine_of_all) as engine, running_gateway([engine.port]) as running:
        after_warm_up_mb = 0.0
        for begin in range(0, 100_000, 5000):
            tally = await attack(running, range(begin, begin + 5000))
            assert tally.faults == []
            await running.settled()
            running.outcomes.clear()
            engine.seen.clear()
            # The test's own engine keeps every connection it ever had.
            engine.writers = {writer for writer in engine.writers if not writer.is_closing()}
            gc.collect()
            if begin == 15_000:
                after_warm_up_mb = resident_mb()
        grown_mb = resident_mb() - after_warm_up_mb
        assert grown_mb <= 8, f"grew from {after_warm_up_mb:.0f} MB by {grown_mb:.1f} MB"
        assert await still_serves(running)
