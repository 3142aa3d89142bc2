"""One run from beginning to end: starts the workers, gives them one common start, and puts together what they hand in."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress

from inferry.bench.http_request import Destination
from inferry.bench.plan import Api, RunPlan
from inferry.bench.records import ClientAudit, Progress, RequestRecord, RunRecord
from inferry.bench.statistics import Sample
from inferry.bench.tokens import Wording
from inferry.bench.worker_line import WorkerLine
from inferry.bench.worker_messages import Counts, Done, Job, Ready, Records, Start, Stop
from inferry.bench.workload import asks
from inferry.core.clock import SystemClock
from inferry.core.errors import EngineUnreachable

START_AFTER_S = 0.2
"""From when all workers are ready: each of them has heard of it by then."""
CONNECT_TIMEOUT_S = 10.0
PROGRESS_EVERY_S = 1.0

_clock = SystemClock()

OnProgress = Callable[[Progress], None]


async def run(
    plan: RunPlan,
    *,
    wording: Wording | None = None,
    nonce: str | None = None,
    progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
) -> RunRecord:
    """Do what the plan says, and give back what is known of each request, in the order of their numbers.

    `nonce`: of prompts that no cache has seen; None makes one up. `stop`, or Ctrl-C, ends the run early, with what
    there is. Raises BadBenchPlan, EngineUnreachable if nobody listens at the target, BenchClientFailed if a worker
    process dies.
    """
    destination = Destination(plan.target, os.environ)
    address = await reachable_address(destination)
    stop = stop or asyncio.Event()
    nonce = secrets.token_hex(4) if nonce is None else nonce
    wording = wording or Wording()
    asks(plan, wording, nonce=nonce)  # what is wrong with the plan or its files is said here, not by a worker
    collected = _Collected(plan.target.api)
    async with _stopped_by_ctrl_c(stop), _workers(plan.processes) as lines:
        for line in lines:
            job = Job(plan, line.number, address, wording, nonce)
            line.say(job)
        if not await _all_ready(lines, stop):
            return collected.record(_clock.wall_s(), stopped_early=True)
        started_wall_s, start_s = _clock.wall_s() + START_AFTER_S, _clock.now_s() + START_AFTER_S
        for line in lines:
            line.say(Start(at_s=start_s))
        async with _beside(_report(collected, start_s, progress)), _beside(_tell_to_stop(lines, stop)):
            await _each(lines, collected.hear)
    if progress is not None:
        progress(collected.progress(_clock.now_s() - start_s))
    return collected.record(started_wall_s, stopped_early=stop.is_set())


class _Collected:
    """What the workers have handed in."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._records: list[RequestRecord] = []
        self._audits: list[ClientAudit] = []
        self._counts: dict[int, Counts] = {}
        self._first_piece_ms: list[float] = []

    async def hear(self, line: WorkerLine) -> None:
        """Until the worker is done."""
        while True:
            match await line.hear():
                case Counts() as counts:
                    self._counts[line.number] = counts
                    self._first_piece_ms += counts.first_piece_ms
                case Records(records=records):
                    self._records += records
                case Done(audit=audit):
                    self._audits.append(audit)
                    return
                case Ready():
                    pass

    def progress(self, at_s: float) -> Progress:
        """As of each worker's last word; the times of first pieces are then forgotten."""
        first_piece_ms, self._first_piece_ms = self._first_piece_ms, []
        counts = self._counts.values()
        return Progress(
            at_s=at_s,
            sent=sum(each.sent for each in counts),
            ended=sum(each.ended for each in counts),
            failed=sum(each.failed for each in counts),
            under_way=sum(each.under_way for each in counts),
            unsent=sum(each.unsent for each in counts),
            first_piece_ms=Sample(first_piece_ms).percentile(0.5),
            reading=bool(counts) and all(each.reading for each in counts),
        )

    def record(self, started_wall_s: float, *, stopped_early: bool) -> RunRecord:
        self._records.sort(key=lambda record: record.number)
        first_s = min((record.due_s for record in self._records), default=0.0)
        last_s = max((record.ended_s or 0.0 for record in self._records), default=first_s)
        return RunRecord(
            api=self._api,
            started_wall_s=started_wall_s,
            duration_s=max(0.0, last_s - first_s),
            requests=tuple(self._records),
            audits=tuple(sorted(self._audits, key=lambda audit: audit.process)),
            stopped_early=stopped_early,
        )


# --- the target ---------------------------------------------------------------------------------------


async def reachable_address(destination: Destination) -> tuple[str, int]:
    """The first of the host's addresses that takes a connection. Raises EngineUnreachable."""
    where = f"{destination.host}:{destination.port}"
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            destination.host, destination.port, type=socket.SOCK_STREAM
        )
    except OSError as error:
        raise EngineUnreachable(f"The name in {where} can't be resolved: {error.strerror or error}") from None
    trouble = "it has no address"
    for *_, address in found:
        host, port = str(address[0]), int(address[1])
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, writer = await asyncio.open_connection(host, port)
        except TimeoutError:
            trouble = f"no connection within {CONNECT_TIMEOUT_S:g} s"
        except OSError as error:
            trouble = os.strerror(error.errno) if error.errno else str(error)
        else:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            return host, port
    raise EngineUnreachable(f"Nobody takes connections at {where}: {trouble}. Is the server up?")


# --- the workers --------------------------------------------------------------------------------------


@asynccontextmanager
async def _workers(processes: int) -> AsyncIterator[list[WorkerLine]]:
    lines: list[WorkerLine] = []
    try:
        for number in range(processes):
            lines.append(await WorkerLine.open(number))
        yield lines
    finally:
        for line in lines:
            await line.close()


async def _each(lines: list[WorkerLine], do: Callable[[WorkerLine], Awaitable[None]]) -> None:
    """With all of them at once. Raises the first's error."""
    waiting = [asyncio.ensure_future(do(line)) for line in lines]
    try:
        for done in asyncio.as_completed(waiting):
            await done
    finally:
        for each in waiting:
            each.cancel()


async def _all_ready(lines: list[WorkerLine], stop: asyncio.Event) -> bool:
    """False: stopped before that."""

    async def hear_ready(line: WorkerLine) -> None:
        await line.hear()

    ready = asyncio.ensure_future(_each(lines, hear_ready))
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((ready, stopped), return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            ready.result()
        return ready.done()
    finally:
        ready.cancel()
        stopped.cancel()


async def _tell_to_stop(lines: list[WorkerLine], stop: asyncio.Event) -> None:
    await stop.wait()
    for line in lines:
        line.say(Stop())


@asynccontextmanager
async def _beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def _report(collected: _Collected, start_s: float, progress: OnProgress | None) -> None:
    while progress is not None:
        await asyncio.sleep(PROGRESS_EVERY_S)
        progress(collected.progress(_clock.now_s() - start_s))


@asynccontextmanager
async def _stopped_by_ctrl_c(stop: asyncio.Event) -> AsyncIterator[None]:
    """The first Ctrl-C stops the run in order; the second is what it would have been without us."""
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)
    installed = False

    def give_back() -> None:
        nonlocal installed
        if installed:
            installed = False
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, before)

    def on_interrupt() -> None:
        stop.set()
        give_back()

    with suppress(RuntimeError, ValueError, NotImplementedError):  # no main thread: nobody sends us signals
        loop.add_signal_handler(signal.SIGINT, on_interrupt)
        installed = True
    try:
        yield
    finally:
        give_back()
