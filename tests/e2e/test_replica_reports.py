"""What a gateway on a real socket tells of its replicas, by either front: requests, bytes, failures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from inferry.core.replica import ReplicaProgress

from .gateway_harness import CHAT_STREAM, SSE_HEAD, Running, Seen, chunk, post, raw, running_gateway, upstream

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
PATH = "/v1/chat/completions"
Reports = list[Mapping[str, ReplicaProgress]]


def listen(running: Running, monkeypatch: pytest.MonkeyPatch) -> Reports:
    """All reports from now on."""
    reports: Reports = []
    monkeypatch.setattr(running.gateway.watch, "_tell_progress", reports.append)
    return reports


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not fact():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("in_protocol", [True, False])
async def test_a_stream_is_told_of_from_its_first_wait_to_its_end(
    in_protocol: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting without a byte; a stream that has begun, with the age of its last byte; and at the end, nothing."""
    begin, end = asyncio.Event(), asyncio.Event()

    async def engine(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD)
        await begin.wait()
        writer.write(chunk(EVENT))
        await end.wait()
        writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()

    async with (
        upstream(engine) as first,
        running_gateway([first.port], relay_in_protocol=in_protocol) as running,
        asyncio.TaskGroup() as group,
    ):
        reports = listen(running, monkeypatch)
        asking = group.create_task(raw(running.port, post(PATH, CHAT_STREAM)))
        await until(lambda: {"chat-0": ReplicaProgress(1, 0, None)} in reports)
        begin.set()
        await until(lambda: any(each["chat-0"].streams for each in reports))
        begun = next(each["chat-0"] for each in reports if each["chat-0"].streams)
        assert (begun.waiting, begun.streams) == (1, 1)
        assert begun.heard_s is not None
        end.set()
        await asking
        await until(lambda: reports[-1] == {})
        count = len(reports)
        await asyncio.sleep(1.2)
        assert len(reports) == count


async def test_failures_of_requests_set_a_replica_aside() -> None:
    """A replica that cuts every connection is asked five times, and then no more while the other one is well."""

    async def cuts(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def answers(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(EVENT) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()

    async with (
        upstream(cuts) as bad,
        upstream(answers) as good,
        running_gateway([bad.port, good.port]) as running,
    ):
        for _ in range(20):
            answer = await raw(running.port, post(PATH, CHAT_STREAM))
            assert b"200 OK" in answer.split(b"\r\n")[0]
        assert len(bad.seen) == 5
        assert set(running.gateway.watch.barred()) == {"chat-0"}
        assert {name for name, _ in running.failures} == {"chat-0"}
