"""Runs the requests side by side, a bounded number at a time, and keeps each record before it takes the next line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain
from typing import Protocol

from inferry.batch.input_file import BatchRequest
from inferry.batch.journal import Journal
from inferry.batch.record import Failure, Record, failed_entry
from inferry.batch.sender import Pause, Unsent

Send = Callable[[BatchRequest, Pause], Awaitable[Record | Unsent]]


class Progress(Protocol):
    """Who is told how far it is."""

    def advance(self, record: Record) -> None:
        """One more request is over."""


class Runner:
    """One run over what the journal does not have yet."""

    def __init__(
        self,
        requests: Iterator[BatchRequest],
        journal: Journal,
        send: Send,
        progress: Progress,
        concurrency: int,
    ) -> None:
        self._todo: Iterator[BatchRequest] = (
            request for request in requests if not journal.has(request.line)
        )
        self._journal = journal
        self._send = send
        self._progress = progress
        self._concurrency = concurrency
        self._ending = asyncio.Event()
        self._lanes: list[asyncio.Task[None]] = []
        self._over = self._completed = 0
        self._refused: set[int] = set()
        """Lines under way that were refused for a whole deadline."""
        self.halted: str | None = None
        """Why the run can't go on now, in the service's words; None: it can."""

    @property
    def under_way(self) -> int:
        """Lanes that have a request."""
        return sum(not lane.done() for lane in self._lanes)

    async def run(self) -> None:
        """Until every request is over, or the run is ended or halted. Raises what reading and writing raise."""
        async with asyncio.TaskGroup() as group:
            self._lanes = [group.create_task(self._lane()) for _ in range(self._concurrency)]

    def end(self) -> None:
        """Take no further line; what is under way comes to its end, but for waits between tries."""
        self._ending.set()

    def cut(self) -> None:
        """End at once: what is under way will be sent again by the next run."""
        self.end()
        for lane in self._lanes:
            lane.cancel()

    async def _lane(self) -> None:
        while not self._ending.is_set():
            request = next(self._todo, None)
            if request is None or not await self._bring_to_its_end(request):
                return

    async def _bring_to_its_end(self, request: BatchRequest) -> bool:
        """False: it is unsent, and so the run ends."""
        while True:
            over_before = self._over
            got = await self._send(request, self._pause)
            if isinstance(got, Record):
                self._over += 1
                self._completed += got.failure is None
                self._keep(got)
                return True
            if self._ending.is_set():
                return False
            self._refused.add(request.line)
            if not got.is_certain:
                # A service that takes others is busy, not gone: go on asking. One that takes nobody ends the run.
                if self._over > over_before:
                    continue
                # But it took all that there was, except these: then they are what it refuses, and OUT can be written.
                if got.is_refusal and self._completed and self._is_all_read():
                    if len(self._refused) < self.under_way:
                        continue
                    self._keep(self._not_taken(request, got.words))
                    return True
            self.halted = self.halted or got.words
            self.end()
            return False

    def _keep(self, record: Record) -> None:
        self._journal.append(record)
        self._refused.discard(record.line)
        self._progress.advance(record)

    def _not_taken(self, request: BatchRequest, words: str) -> Record:
        failure = Failure(
            "not_taken", f"It was refused for a whole deadline, and others were answered. {words}"
        )
        entry = failed_entry(self._journal.header.run, request.line, request.custom_id, failure)
        return Record(request.line, entry, failure.code)

    def _is_all_read(self) -> bool:
        request = next(self._todo, None)
        if request is not None:
            self._todo = chain([request], self._todo)
        return request is None

    async def _pause(self, wait_s: float) -> bool:
        try:
            async with asyncio.timeout(wait_s):
                await self._ending.wait()
        except TimeoutError:
            return True
        return False
