"""What a worker sends when, in this process, against a stand-in server that answers after a chosen time."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest
from msgspec.structs import replace

from inferry.bench import worker
from inferry.bench.exact_timer import ExactTimer
from inferry.bench.http_client import Client
from inferry.bench.loop_lag import LOOK_S, note_lateness
from inferry.bench.plan import (
    Arrivals,
    Closed,
    Constant,
    Lengths,
    Poisson,
    Ramp,
    RunPlan,
    Sessions,
    Synthetic,
    Target,
    TraceTimes,
)
from inferry.bench.raw_store import RawStore
from inferry.bench.records import Ask, Raw, Verdict
from inferry.bench.sender import Sender, Turn
from inferry.bench.split import prepared_max, processes_for, users_of, warm_connections
from inferry.bench.tokens import Wording
from inferry.bench.worker_messages import Job, Start, frame, read_frame
from inferry.core.clock import SystemClock
from inferry.core.errors import BenchClientFailed

REQUEST = b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def plan_of(
    arrivals: Arrivals, duration_s: float = 30.0, processes: int = 1, timeout_s: float = 5.0
) -> RunPlan:
    return RunPlan(
        target=Target(base_url="http://127.0.0.1:1/v1", model="stand-in"),
        arrivals=arrivals,
        workload=Synthetic(input_tokens=Lengths(mean=5), output_tokens=Lengths(mean=5)),
        duration_s=duration_s,
        timeout_s=timeout_s,
        processes=processes,
    )


def turn(number: int, think_s: float = 0.0, after: int | None = None, session: int = 7) -> Turn:
    after = number - 1 if after is None else after
    ask = Ask(number=number, due_s=None, text="x", session=session, after=after, think_s=think_s)
    return Turn(number, after, think_s, lambda: (ask, REQUEST))


@asynccontextmanager
async def sending(plan: RunPlan, answer_s: float) -> AsyncIterator[tuple[Sender, RawStore]]:
    """A sender whose server answers each request `answer_s` after it came."""

    class StandIn(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self._transport = cast(asyncio.Transport, transport)

        def data_received(self, data: bytes) -> None:
            asyncio.get_running_loop().call_later(answer_s, self._transport.write, OK)

    server = await asyncio.get_running_loop().create_server(StandIn, "127.0.0.1", 0)
    store = RawStore()
    sender = Sender(plan, 0, store)
    sender.client = Client(("127.0.0.1", server.sockets[0].getsockname()[1]), sender.on_end)
    try:
        yield sender, store
    finally:
        sender.close()
        await sender.client.close()
        store.close()
        server.close()
        await asyncio.sleep(0.01)  # the other side notices


async def all_raws(sender: Sender, store: RawStore) -> list[Raw]:
    sender.begin(SystemClock.now_s())
    await sender.finished.wait()
    return sorted((raw for _, raw in store.take()), key=lambda raw: raw.number)


async def test_an_open_loop_waits_for_no_answer() -> None:
    """Requests that are due while others are still unanswered are sent at their own time."""
    async with sending(plan_of(Constant(rate=100)), answer_s=0.4) as (sender, store):
        for number in range(5):
            sender.add(Ask(number=number, due_s=number * 0.01, text="x"), REQUEST)
        sender.no_more()
        raws = await all_raws(sender, store)
    assert [raw.due_s for raw in raws] == pytest.approx([0.0, 0.01, 0.02, 0.03, 0.04], abs=1e-6)
    last_sent_s, first_ended_s = raws[-1].sent_s, raws[0].ended_s
    assert last_sent_s is not None
    assert first_ended_s is not None
    assert all(raw.sent_s is not None and raw.sent_s >= raw.due_s for raw in raws)
    assert last_sent_s < first_ended_s
    assert len(sender.slip_s) == 5


async def test_users_of_a_closed_loop_ask_again_when_answered() -> None:
    """Never more under way than users; each next request is due when an answer has come; time ends it."""
    async with sending(plan_of(Closed(concurrency=2), duration_s=0.3), answer_s=0.05) as (sender, store):
        for number in range(100):
            sender.add(Ask(number=number, due_s=None, text="x"), REQUEST)
        raws = await all_raws(sender, store)
    assert 3 <= len(raws) <= 12
    events = sorted(event for raw in raws for event in ((raw.sent_s or 0.0, 1), (raw.ended_s or 0.0, -1)))
    under_way = most = 0
    for _, change in events:
        under_way += change
        most = max(most, under_way)
    assert most == 2
    ends = {round(raw.ended_s or 0.0, 9) for raw in raws}
    assert all(raw.due_s == 0 or round(raw.due_s, 9) in ends for raw in raws)
    assert all(raw.due_s < 0.3 for raw in raws)


async def test_a_closed_loop_without_work_ends_with_its_time() -> None:
    """Users whose requests are not made yet do not keep the run from ending."""
    async with sending(plan_of(Closed(concurrency=2), duration_s=0.05), answer_s=0.0) as (sender, store):
        async with asyncio.timeout(5):
            assert await all_raws(sender, store) == []
        assert sender.all_taken


async def test_a_turn_comes_a_while_after_the_one_before() -> None:
    """The next turn is due `think_s` after the last one's end, known before or only after that end."""
    async with sending(plan_of(Constant(rate=1)), answer_s=0.02) as (sender, store):
        sender.add(Ask(number=0, due_s=0.0, text="x", session=7), REQUEST)
        sender.add_turn(turn(1, 0.03))
        sender.begin(SystemClock.now_s())
        while sender.counts().ended < 2:
            await asyncio.sleep(0.005)
        sender.add_turn(turn(2, 0.04))
        sender.no_more()
        await sender.finished.wait()
        raws = sorted((raw for _, raw in store.take()), key=lambda raw: raw.number)
    assert raws[1].due_s == pytest.approx((raws[0].ended_s or 0) + 0.03, abs=1e-6)
    assert raws[2].due_s == pytest.approx((raws[1].ended_s or 0) + 0.04, abs=1e-6)


async def test_turns_after_the_plans_time_are_left_out() -> None:
    """A turn that would be due too late, and all turns after it, known then or not, are not sent, and hold no room."""
    async with sending(plan_of(Constant(rate=1), duration_s=0.1), answer_s=0.0) as (sender, store):
        sender.add(Ask(number=0, due_s=0.0, text="x", session=1), REQUEST)
        sender.add_turn(turn(1, 9.0))
        sender.add_turn(turn(2))
        sender.begin(SystemClock.now_s())
        while not sender.counts().ended:
            await asyncio.sleep(0.005)
        sender.add_turn(turn(3))
        sender.no_more()
        await sender.finished.wait()
        assert [raw.number for _, raw in store.take()] == [0]
        assert not sender._requests
        assert not sender._next_turn


async def test_stopping_leaves_what_is_under_way() -> None:
    """After a stop nothing more is sent; what was under way is ABANDONED, with the reason."""
    async with sending(plan_of(Constant(rate=1)), answer_s=60) as (sender, store):
        sender.add(Ask(number=0, due_s=0.0, text="x"), REQUEST)
        sender.add(Ask(number=1, due_s=20.0, text="x"), REQUEST)
        sender.begin(SystemClock.now_s())
        while not sender.counts().sent:
            await asyncio.sleep(0.001)
        sender.stop()
        sender.add(Ask(number=2, due_s=0.0, text="x"), REQUEST)
        await sender.finished.wait()
        raws = [raw for _, raw in store.take()]
    assert [(raw.number, raw.trouble, raw.reason) for raw in raws] == [
        (0, Verdict.ABANDONED, "the run was stopped")
    ]


async def test_requests_made_ahead_are_bounded() -> None:
    """When as many are made as may wait, there is no room until one is sent."""
    async with sending(plan_of(Closed(concurrency=1), duration_s=5), answer_s=60) as (sender, _):
        number = 0
        while sender.has_room.is_set():
            sender.add(Ask(number=number, due_s=None, text="x"), REQUEST)
            number += 1
        assert number == 64 + 4
        sender.begin(SystemClock.now_s() - 0.001)
        async with asyncio.timeout(5):
            await sender.has_room.wait()
        sender.stop()


@pytest.mark.parametrize("arrivals", [Closed(concurrency=6), Constant(rate=100)])
async def test_later_turns_take_no_room(arrivals: Arrivals) -> None:
    """Conversations of 400 turns: all six are under way at once, and of their later turns only the next is written."""
    written: list[int] = []

    def long(number: int) -> Turn:
        made = turn(number)

        def write() -> tuple[Ask, bytes]:
            written.append(number)
            return made.take()

        return Turn(number, number - 1, 0.0, write)

    async with sending(plan_of(arrivals), answer_s=60) as (sender, _):
        for session in range(6):
            first = session * 400
            assert sender.has_room.is_set()
            due_s = None if isinstance(arrivals, Closed) else session * 0.01
            sender.add(Ask(number=first, due_s=due_s, text="x", session=session), REQUEST)
            for number in range(first + 1, first + 400):
                sender.add_turn(long(number))
        sender.begin(SystemClock.now_s())
        async with asyncio.timeout(5):
            for _ in range(6):
                (await sender.to_prepare.get()).prepare()
        assert sender.client.under_way == 6
        assert sorted(written) == [session * 400 + 1 for session in range(6)]
        assert sender.has_room.is_set()
        sender.stop()


async def test_a_turn_that_nobody_wrote_in_time_is_written_when_due() -> None:
    """Written ahead or not, a turn is sent, and once."""
    async with sending(plan_of(Constant(rate=1)), answer_s=0.0) as (sender, store):
        sender.add(Ask(number=0, due_s=0.0, text="x", session=7), REQUEST)
        sender.add_turn(turn(1))
        sender.no_more()
        raws = await all_raws(sender, store)
        assert [raw.number for raw in raws] == [0, 1]
        late = sender.to_prepare.get_nowait()
        late.prepare()
        assert late._made is None


async def test_users_for_whom_nothing_was_made_are_noted() -> None:
    """Three users, one request: two of them have nothing to ask for two thirds of the time. None is idle when all was asked."""
    async with sending(plan_of(Closed(concurrency=3), duration_s=0.3), answer_s=0.4) as (sender, store):
        sender.add(Ask(number=0, due_s=None, text="x"), REQUEST)
        await all_raws(sender, store)
        assert sender.idle_share == pytest.approx(2 / 3, abs=0.05)
    async with sending(plan_of(Closed(concurrency=3), duration_s=0.3), answer_s=0.0) as (sender, store):
        sender.add(Ask(number=0, due_s=None, text="x"), REQUEST)
        sender.no_more()
        await all_raws(sender, store)
        assert sender.idle_share == 0


def test_how_many_requests_are_made_ahead() -> None:
    """Of long conversations of an open loop fewer are made ahead: their later turns, unwritten, take memory too."""
    turns = Lengths(mean=80)
    talk = Sessions(turns=turns, first_tokens=turns, turn_tokens=turns, output_tokens=turns)
    assert prepared_max(plan_of(Constant(rate=12)), 0) == 4096
    assert prepared_max(replace(plan_of(Constant(rate=12)), workload=talk), 0) == 819
    assert prepared_max(replace(plan_of(Closed(concurrency=60)), workload=talk), 0) == 64 + 4 * 60


async def test_the_timer_is_never_early() -> None:
    """Called back at or after the set time; a time that has passed is soon; setting anew replaces."""
    called: list[float] = []
    heard = asyncio.Event()

    def call() -> None:
        called.append(SystemClock.now_s())
        heard.set()

    timer = ExactTimer(call)
    far_s = SystemClock.now_s() + 60
    timer.set(far_s)
    due_s = SystemClock.now_s() + 0.02
    timer.set(due_s)
    await heard.wait()
    heard.clear()
    timer.set(due_s - 10)
    await heard.wait()
    timer.close()
    assert due_s <= called[0] < far_s
    assert len(called) == 2


def test_a_stall_counts_for_every_look_that_it_left_out() -> None:
    """One stall of 20 looks is 20 late looks, the first as late as the stall was long."""
    late_s: list[float] = []
    next_s = note_lateness(late_s, due_s=1.0, now_s=1.0 + 20 * LOOK_S - 1e-9)
    assert len(late_s) == 20
    assert late_s[0] == pytest.approx(20 * LOOK_S)
    assert late_s == sorted(late_s, reverse=True)
    assert next_s == pytest.approx(1.0 + 20 * LOOK_S)


def test_what_came_is_kept_in_memory_and_beyond_that_in_a_file() -> None:
    """Everything kept comes back, and once; with a bound of one answer's size too."""
    raws = [
        Raw(number=number, due_s=1.5, status=200, pieces=((0.25, b"\x00\xff" * number),), whole=True)
        for number in range(20)
    ]
    for bound in (1 << 20, 200, 0):
        store = RawStore(memory_bytes_max=bound)
        for raw in raws:
            store.keep(Ask(number=raw.number, due_s=1.5, session=3), raw)
        assert len(store) == 20
        found = list(store.take())
        assert sorted((raw for _, raw in found), key=lambda raw: raw.number) == raws
        assert {ask.session for ask, _ in found} == {3}
        assert list(store.take()) == []


async def test_a_run_whose_answers_cannot_be_kept_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk ends the worker with words for people: no request is lost unnoticed."""

    def full(_: RawStore, ask: Ask, raw: Raw) -> None:
        raise BenchClientFailed(f"no room for request {ask.number}")

    monkeypatch.setattr(RawStore, "keep", full)
    ours, its = socket.socketpair()
    async with sending(plan_of(Constant(rate=20), duration_s=0.2), answer_s=0.0) as (sender, _):
        working = asyncio.create_task(worker._serve(its))
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(
            frame(Job(plan_of(Constant(rate=20), duration_s=0.2), 0, sender.client._address, Wording(), "n"))
        )
        await read_frame(reader)  # Ready
        writer.write(frame(Start(at_s=SystemClock.now_s())))
        try:
            assert await working == worker.GIVEN_UP
        finally:
            gc.enable()
            gc.unfreeze()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    assert "no room for request" in capsys.readouterr().err


def test_a_full_disk_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the answers do not fit, the folder and the way out are named."""

    def no_room(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", no_room)
    with pytest.raises(BenchClientFailed, match=r"No space left on device.*TMPDIR"):
        RawStore(memory_bytes_max=0).keep(Ask(number=0, due_s=0), Raw(number=0, due_s=0))


def test_users_and_connections_are_split_over_processes() -> None:
    """Each user belongs to one process; connections opened ahead are those that are surely needed."""
    plan = plan_of(Closed(concurrency=7), processes=3)
    assert [users_of(plan, process) for process in range(3)] == [3, 2, 2]
    assert warm_connections(plan, 0) == 3
    assert warm_connections(plan_of(Poisson(rate=20), processes=2), 0) == 10
    assert warm_connections(plan_of(Ramp(from_rate=1, to_rate=10_000)), 0) == 256


def test_how_many_processes() -> None:
    """One per 300 streams per second or users, at most one per core."""
    assert processes_for(Poisson(rate=20), cores=8) == 1
    assert processes_for(Poisson(rate=301), cores=8) == 2
    assert processes_for(Poisson(rate=1e6), cores=8) == 8
    assert processes_for(Closed(concurrency=900), cores=8) == 3
    assert processes_for(TraceTimes(), cores=1) == 1
