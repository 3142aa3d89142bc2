"""Side by side: how many at a time, what is kept when, and how a run ends early."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from inferry.batch.input_file import BatchRequest
from inferry.batch.journal import Header, Journal
from inferry.batch.record import Record
from inferry.batch.runner import Runner, Send
from inferry.batch.sender import Pause, Unsent
from inferry.core.errors import ConfigError


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal", Header("run1", "sha", None, None), 100)
    yield journal
    journal.close()


class Seen:
    """Counts what the runner says is over."""

    def __init__(self) -> None:
        self.lines: list[int] = []

    def advance(self, record: Record) -> None:
        self.lines.append(record.line)


def requests(count: int) -> Iterator[BatchRequest]:
    return (BatchRequest(line, f"id-{line}", "/v1/completions", "m", b"{}") for line in range(1, count + 1))


def over(request: BatchRequest) -> Record:
    return Record(request.line, msgspec.Raw(b"{}"))


def kept(journal: Journal) -> list[int]:
    return [record.line for record in journal.in_input_order()]


def make(journal: Journal, send: Send, count: int = 20, concurrency: int = 4) -> tuple[Runner, Seen]:
    seen = Seen()
    return Runner(requests(count), journal, send, seen, concurrency), seen


async def test_so_many_at_a_time_and_no_more(journal: Journal) -> None:
    """The bound is reached and kept; at the end all are in the journal, and were told."""
    now = most = 0

    async def send(request: BatchRequest, pause: Pause) -> Record:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return over(request)

    runner, seen = make(journal, send)
    await runner.run()
    assert most == 4
    assert kept(journal) == sorted(seen.lines) == list(range(1, 21))
    assert runner.halted is None


async def test_lines_are_read_as_they_are_needed(journal: Journal) -> None:
    """Never more lines are read than requests have begun: a large file is not in memory."""
    read: list[int] = []
    begun: list[int] = []

    def lines() -> Iterator[BatchRequest]:
        for request in requests(50):
            read.append(request.line)
            assert len(read) <= len(begun) + 1
            yield request

    async def send(request: BatchRequest, pause: Pause) -> Record:
        begun.append(request.line)
        await asyncio.sleep(0)
        return over(request)

    await Runner(lines(), journal, send, Seen(), 3).run()
    assert begun == list(range(1, 51))


async def test_what_is_over_is_not_sent(journal: Journal) -> None:
    """A resumed run sends only what the journal lacks."""
    for request in requests(20):
        if request.line % 3:
            journal.append(over(request))
    sent: list[int] = []

    async def send(request: BatchRequest, pause: Pause) -> Record:
        sent.append(request.line)
        return over(request)

    runner, _ = make(journal, send)
    await runner.run()
    assert sorted(sent) == [3, 6, 9, 12, 15, 18]


async def test_ended_it_finishes_what_is_under_way(journal: Journal) -> None:
    """After `end`, no line begins any more, and the four under way come to their end."""
    begun: list[int] = []
    go_on = asyncio.Event()

    async def send(request: BatchRequest, pause: Pause) -> Record:
        begun.append(request.line)
        await go_on.wait()
        return over(request)

    runner, _ = make(journal, send)
    running = asyncio.create_task(runner.run())
    while len(begun) < 4:
        await asyncio.sleep(0)
    assert runner.under_way == 4
    runner.end()
    go_on.set()
    await running
    assert kept(journal) == begun == [1, 2, 3, 4]
    assert runner.halted is None


async def test_ended_it_waits_for_no_further_try(journal: Journal) -> None:
    """A request that waits between two tries is given back at once, and stays for the next run."""
    waiting = asyncio.Event()

    async def send(request: BatchRequest, pause: Pause) -> Record | Unsent:
        waiting.set()
        return over(request) if await pause(3600.0) else Unsent("busy")

    runner, _ = make(journal, send)
    running = asyncio.create_task(runner.run())
    await waiting.wait()
    runner.end()
    await asyncio.wait_for(running, 10)
    assert kept(journal) == []
    assert runner.halted is None


async def test_cut_it_is_over_at_once(journal: Journal) -> None:
    """After `cut`, nothing is waited for; what was over stays."""
    begun = asyncio.Event()

    async def send(request: BatchRequest, pause: Pause) -> Record:
        if request.line > 2:
            begun.set()
            await asyncio.sleep(3600)
        return over(request)

    runner, _ = make(journal, send)
    running = asyncio.create_task(runner.run())
    await begun.wait()
    runner.cut()
    await asyncio.wait_for(running, 10)
    assert kept(journal) == [1, 2]


async def test_a_pause_ends_in_time(journal: Journal) -> None:
    """While the run goes on, a pause is as long as was asked, and then the next try is made."""

    async def send(request: BatchRequest, pause: Pause) -> Record:
        assert await pause(0.001)
        return over(request)

    runner, _ = make(journal, send)
    await runner.run()
    assert len(kept(journal)) == 20


async def test_a_service_that_takes_nobody_halts_the_run(journal: Journal) -> None:
    """Unsent while no other was answered: the run ends, says the service's words, and loses nothing."""

    async def send(request: BatchRequest, pause: Pause) -> Record | Unsent:
        await asyncio.sleep(0)
        return over(request) if request.line <= 8 else Unsent("nobody is ready")

    runner, _ = make(journal, send)
    await runner.run()
    assert runner.halted == "nobody is ready"
    assert kept(journal) == list(range(1, 9))


async def test_a_busy_service_is_asked_on(journal: Journal) -> None:
    """Unsent while others are answered is no failure and no end: the request is sent again until it is taken."""
    refusals = 0

    async def send(request: BatchRequest, pause: Pause) -> Record | Unsent:
        nonlocal refusals
        if request.line == 1 and (before := len(kept(journal))) < 15:
            while len(kept(journal)) == before:  # by then another one was answered
                await asyncio.sleep(0)
            refusals += 1
            return Unsent("busy")
        await asyncio.sleep(0)
        return over(request)

    runner, _ = make(journal, send, concurrency=2)
    await runner.run()
    assert refusals > 1
    assert runner.halted is None
    assert len(kept(journal)) == 20


@pytest.mark.parametrize("refused", [{1}, {20}, {3, 9, 20}])
async def test_what_alone_is_refused_has_failed(journal: Journal, refused: set[int]) -> None:
    """Requests that are refused when all others were answered don't keep the output from being written."""

    async def send(request: BatchRequest, pause: Pause) -> Record | Unsent:
        await asyncio.sleep(0)
        if request.line not in refused:
            return over(request)
        for _ in range(3):  # a deadline is longer than an answer
            await asyncio.sleep(0)
        return Unsent("429: too long for now", is_refusal=True)

    runner, seen = make(journal, send)
    await runner.run()
    assert runner.halted is None
    assert kept(journal) == sorted(seen.lines) == list(range(1, 21))
    assert journal.tally.failures == {"not_taken": len(refused)}
    failed = [record for record in journal.in_input_order() if record.failure]
    assert {record.line for record in failed} == refused
    assert all(b'"id-%d"' % record.line in bytes(record.entry) for record in failed)
    assert all(b"429: too long for now" in bytes(record.entry) for record in failed)


@pytest.mark.parametrize("unsent", [Unsent("Nobody listens."), Unsent("429: spent", True, is_refusal=True)])
async def test_what_says_nothing_of_a_request_halts_at_the_end_too(journal: Journal, unsent: Unsent) -> None:
    """A service that is gone, or a budget that is spent for long, leaves even the last request for later."""

    async def send(request: BatchRequest, pause: Pause) -> Record | Unsent:
        await asyncio.sleep(0)
        return unsent if request.line == 20 else over(request)

    runner, _ = make(journal, send)
    await runner.run()
    assert runner.halted == unsent.words
    assert kept(journal) == list(range(1, 20))


async def test_others_under_way_are_waited_for(journal: Journal) -> None:
    """As long as one that was taken is not over, a refused one is asked on: its place may come then."""
    refusals = 0

    async def send(request: BatchRequest, pause: Pause) -> Record | Unsent:
        nonlocal refusals
        if request.line == 19:
            while refusals < 3:
                await asyncio.sleep(0)
        elif request.line == 20 and not journal.has(19):
            refusals += 1
            await asyncio.sleep(0)
            return Unsent("429: one at a time", is_refusal=True)
        return over(request)

    runner, _ = make(journal, send, concurrency=2)
    await runner.run()
    assert refusals >= 3
    assert journal.tally.completed == 20


async def test_refused_before_the_end_halts(journal: Journal) -> None:
    """While requests are unread, a service that takes nobody for a deadline ends the run, and the one it refused stays."""

    async def send(request: BatchRequest, pause: Pause) -> Record | Unsent:
        await asyncio.sleep(0)
        return over(request) if request.line <= 8 else Unsent("503: none is ready", is_refusal=True)

    runner, _ = make(journal, send)
    await runner.run()
    assert runner.halted == "503: none is ready"
    assert kept(journal) == list(range(1, 9))


async def test_what_is_certain_halts_although_others_are_answered(journal: Journal) -> None:
    """A refused key or a spent budget holds for all: asking on would only make noise."""

    async def send(request: BatchRequest, pause: Pause) -> Record | Unsent:
        await asyncio.sleep(0)
        return Unsent("spent", is_certain=True) if request.line == 10 else over(request)

    runner, _ = make(journal, send)
    await runner.run()
    assert runner.halted == "spent"
    assert 10 not in kept(journal)
    assert len(kept(journal)) < 20


async def test_a_file_that_changes_ends_the_run(journal: Journal) -> None:
    """The reader's error comes out, and what was over stays."""

    def lines() -> Iterator[BatchRequest]:
        yield from requests(5)
        raise ConfigError("changed")

    async def send(request: BatchRequest, pause: Pause) -> Record:
        return over(request)

    with pytest.raises(ExceptionGroup) as raised:
        await Runner(lines(), journal, send, Seen(), 1).run()
    assert raised.group_contains(ConfigError, match="changed")
    assert kept(journal) == [1, 2, 3, 4, 5]
