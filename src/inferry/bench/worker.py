"""The program of one worker process, `python -m inferry.bench.worker`: sends its share of a run, then reads the answers.

While requests are under way it does nothing else that could wait: bodies are read and judged when the last has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
from functools import partial
from typing import Any

import uvloop
from msgspec.structs import replace

from inferry.bench.http_client import Client
from inferry.bench.http_request import Destination
from inferry.bench.judging import encode, read
from inferry.bench.loop_lag import LoopLag, with_load, with_times
from inferry.bench.raw_store import RawStore
from inferry.bench.records import Ask, ClientAudit
from inferry.bench.sender import Sender, Turn
from inferry.bench.split import warm_connections
from inferry.bench.statistics import Sample
from inferry.bench.worker_messages import (
    Done,
    FromWorker,
    Job,
    Ready,
    Records,
    Start,
    Stop,
    frame,
    from_runner,
    read_frame,
)
from inferry.bench.workload import outlines
from inferry.bench.workload.outline import Outline
from inferry.core.errors import InferryError

COUNTS_EVERY_S = 1.0
RECORDS_PER_MESSAGE = 100
PREPARE_S = 3.0
"""At most so long, before the run begins; what is not made by then is made while it goes on."""
GIVEN_UP = 1
RUNNER_GONE = 3


class RunnerGone(Exception):
    """Nobody would hear of what we do."""


class Worker:
    """One process's part in a run, over its pipes to the runner."""

    def __init__(
        self, job: Job, from_runner_pipe: asyncio.StreamReader, to_runner: asyncio.StreamWriter
    ) -> None:
        self._job = job
        self._plan = job.plan
        self._in = from_runner_pipe
        self._out = to_runner
        self._store = RawStore()
        self._sender = Sender(job.plan, job.process, self._store)
        self._destination = Destination(job.plan.target, os.environ)
        self._client = Client(
            job.address,
            self._sender.on_end,
            self._destination.tls_context(),
            self._destination.host if self._destination.tls else None,
        )
        self._sender.client = self._client
        self._outlines = outlines(
            job.plan, job.wording, nonce=job.nonce, process=job.process, processes=job.plan.processes
        )

    async def work(self) -> None:
        """Raises RunnerGone, and InferryError for what can't be asked; in a group with others', as TaskGroup has it."""
        try:
            await self._work()
        finally:
            await self._leave()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            taking = tasks.create_task(self._take_asks())
            preparing = tasks.create_task(self._prepare_turns())
            await self._client.warm(warm_connections(self._plan, self._job.process))
            await self._prepared(taking)
            await self._say(Ready())
            start_s = await self._hear_start()
            hearing = tasks.create_task(self._hear_stop())
            counting = tasks.create_task(self._count())
            audit = await self._busy_time(start_s)
            taking.cancel()
            preparing.cancel()
            counting.cancel()
            await self._read_answers()
            await self._say(Done(audit=audit))
            hearing.cancel()

    async def _leave(self) -> None:
        self._sender.close()
        await self._client.close()

    # --- before ---------------------------------------------------------------------------------------

    async def _take_asks(self) -> None:
        """Makes requests ahead of their time, as many as there is room for; later turns when they will soon be due."""
        sender = self._sender
        for outline in self._outlines:
            make = partial(self._made, outline)
            if outline.after is not None:
                sender.add_turn(Turn(outline.number, outline.after, outline.think_s, make))
            else:
                await sender.has_room.wait()
                if sender.all_taken:
                    return
                sender.add(*make())
            await asyncio.sleep(0)  # what is due goes first
        sender.no_more()

    async def _prepare_turns(self) -> None:
        while True:
            turn = await self._sender.to_prepare.get()
            turn.prepare()
            await asyncio.sleep(0)

    def _made(self, outline: Outline) -> tuple[Ask, bytes]:
        ask = outline.make()
        encoded = encode(self._plan.target, ask)
        return ask, self._destination.request(encoded.path, encoded.body, encoded.headers)

    async def _prepared(self, taking: asyncio.Task[None]) -> None:
        full = asyncio.ensure_future(self._sender.was_full.wait())
        await asyncio.wait((full, taking), timeout=PREPARE_S, return_when=asyncio.FIRST_COMPLETED)
        full.cancel()

    async def _hear_start(self) -> float:
        message = await self._hear()
        if not isinstance(message, Start):
            raise RunnerGone
        return message.at_s

    # --- the busy time --------------------------------------------------------------------------------

    async def _hear_stop(self) -> None:
        while True:
            await self._hear()  # Stop is all that can come
            self._sender.stop()

    async def _hear(self) -> Start | Stop | Job:
        encoded = await read_frame(self._in)
        if encoded is None:
            raise RunnerGone
        message: Start | Stop | Job = from_runner.decode(encoded)
        return message

    async def _busy_time(self, start_s: float) -> ClientAudit:
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection stops everything, for longer than many a token takes
        lag = LoopLag(self._client)
        lag.begin()
        self._sender.begin(start_s)
        try:
            await self._sender.finished.wait()
        finally:
            lag.end()
            await self._leave()
        loaded = with_load(lag.seconds)
        late = Sample(late_s for second in loaded for late_s in second.late_s)
        late_at_all = Sample(late_s for second in with_times(lag.seconds) for late_s in second.late_s)
        slip = Sample(self._sender.slip_s)
        return ClientAudit(
            process=self._job.process,
            wall_s=sum(second.wall_s for second in loaded),
            cpu_s=sum(second.cpu_s for second in loaded),
            lag_ms_p50=_ms(late, 0.5),
            lag_ms_p99=_ms(late, 0.99),
            lag_ms_max=_ms(late_at_all, 1),
            slip_ms_p50=_ms(slip, 0.5),
            slip_ms_p99=_ms(slip, 0.99),
            slip_ms_max=_ms(slip, 1),
            connections=self._client.opened,
            unsent=self._sender.unsent,
            idle_share=self._sender.idle_share,
        )

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(COUNTS_EVERY_S)
            self._out.write(frame(self._sender.counts()))

    # --- after ----------------------------------------------------------------------------------------

    async def _read_answers(self) -> None:
        await self._say(replace(self._sender.counts(), reading=True))
        target, warmup_s = self._plan.target, self._plan.warmup_s
        records = []
        for ask, raw in self._store.take():
            records.append(read(target, ask, raw, warmup=raw.due_s < warmup_s))
            if len(records) == RECORDS_PER_MESSAGE:
                await self._say(Records(tuple(records)))
                records.clear()
        await self._say(Records(tuple(records)))

    async def _say(self, message: FromWorker) -> None:
        try:
            self._out.write(frame(message))
            await self._out.drain()
        except ConnectionError as error:
            raise RunnerGone from error


def _ms(sample: Sample, share: float) -> float:
    """0 of no values: nothing was late."""
    return (sample.percentile(share) or 0.0) * 1000


def _allow_many_files() -> None:
    """One per connection; the usual soft limit is 1,024. What even the hard one does not allow is UNSENT."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS: no limit by name, but one by kernel
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# --- the program --------------------------------------------------------------------------------------


def main() -> int:
    """Work until the job is done; returns the exit status. Standard input is a socket to the runner, both ways."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(
            number, signal.SIG_IGN
        )  # the runner hears them and tells us; when it is gone, so is the line
    _allow_many_files()
    return uvloop.run(_serve(socket.socket(fileno=0)))


async def _serve(line: socket.socket) -> int:
    from_runner_line, to_runner = await asyncio.open_connection(sock=line)
    encoded = await read_frame(from_runner_line)
    if encoded is None:
        return RUNNER_GONE
    job = from_runner.decode(encoded)
    assert isinstance(job, Job), "the runner's first word is the job"
    working, broken = asyncio.current_task(), []

    def on_broken(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback failed: a request may never end, so the run can't go on."""
        error = context.get("exception")
        broken.append(str(error) if isinstance(error, InferryError) else f"{context['message']}: {error!r}")
        if working is not None:
            working.cancel()

    asyncio.get_running_loop().set_exception_handler(on_broken)
    status = 0
    try:
        await Worker(job, from_runner_line, to_runner).work()
    except* RunnerGone:
        status = RUNNER_GONE
    except* InferryError as errors:
        sys.stderr.write(f"{errors.exceptions[0]}\n")
        status = GIVEN_UP
    except* asyncio.CancelledError:
        sys.stderr.write(f"{'; '.join(broken[:1])}\n")
        status = GIVEN_UP
    to_runner.close()
    return status


if __name__ == "__main__":
    sys.exit(main())
