"""Looks after a replica whose engine runs: from the first probe to ready, and from then on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from inferry.core.clock import Clock
from inferry.core.deployment_base import Health
from inferry.core.replica import Endpoint, ReplicaState
from inferry.engines.adapter import EngineAdapter, ProbeReading, Verdict, WarmupRequest
from inferry.fleet.probe import REFUSES, Prober, Unreachable
from inferry.fleet.replica_record import ReplicaRecord
from inferry.policy.health import BecomeReady, BecomeSuspect, Streak, decide_health

START_POLL_MIN_S = 0.05
START_POLL_MAX_S = 1.0
START_POLL_SHARE = 0.1
"""A start is noticed at most a tenth of its own length late."""
WARM_UP_PAUSE_S = 0.5
FETCH_PAUSE_S = 5.0
REPORT_PAUSE_S = 0.1
"""Between two probes that reports led to: a broken replica under load is reported thousands of times a second."""


class ReplicaCare:
    """Moves a record between starting, warming, ready and suspect, for one life of its engine."""

    def __init__(
        self,
        record: ReplicaRecord,
        adapter: EngineAdapter,
        endpoint: Endpoint,
        health: Health,
        prober: Prober,
        clock: Clock,
    ) -> None:
        self._record = record
        self._adapter = adapter
        self._endpoint = endpoint
        self._health = health
        self._prober = prober
        self._clock = clock
        self._report: str | None = None
        self._reported = asyncio.Event()
        self.probed = asyncio.Event()
        """The first probe has been answered, or its time is over."""
        self.ready_since_s: float | None = None
        """When it became ready for the first time in this life; monotonic."""

    def report_failure(self, reason: str) -> None:
        """A request met a failure: probe now. Only news while it is ready."""
        if self._record.state is ReplicaState.READY:
            self._report = reason
            self._reported.set()

    def change(self, health: Health, adapter: EngineAdapter) -> None:
        """From now on these; a running replica is probed at once, and by the new interval afterwards."""
        self._adapter = adapter
        if health != self._health:
            self._health = health
            self._reported.set()

    async def until_ready(self, poll_max_s: float = START_POLL_MAX_S) -> None:
        """From starting to ready, however long that takes. Cancel it to give up; the view's message then
        holds what it was waiting for."""
        began_s = self._clock.now_s()
        while True:
            reading = await self._probe()
            if _is_good(reading):
                break
            self._record.say(reading.reason if self._record.view.pid is None else _while_starting(reading))
            elapsed_s = self._clock.now_s() - began_s
            await asyncio.sleep(min(max(START_POLL_MIN_S, elapsed_s * START_POLL_SHARE), poll_max_s))
        self._record.move(ReplicaState.WARMING)
        for warmup in self._adapter.warmups:
            while (trouble := await self._warm_up(warmup)) is not None:
                self._record.say(f"warm-up: {trouble}")
                # What was missing could not be had from somewhere else: ask there less often.
                await asyncio.sleep(WARM_UP_PAUSE_S if warmup.if_missing is None else FETCH_PAUSE_S)
        self.ready_since_s = self._clock.now_s()
        self._record.move(ReplicaState.READY)

    async def _warm_up(self, warmup: WarmupRequest) -> str | None:
        """None if it went well, or what went wrong. It may take as long as fetching a model does."""
        if warmup.says:
            self._record.say(warmup.says)
        answer = await self._prober.warm_up(self._endpoint, warmup, warmup.timeout_s)
        if answer is not None and answer.missing and warmup.if_missing is not None:
            trouble = await self._warm_up(warmup.if_missing)
            return trouble or await self._warm_up(replace(warmup, if_missing=None))
        return None if answer is None else answer.reason

    async def stay(self) -> None:
        """Probe and count, forever."""
        streak = Streak()
        while True:
            report = await self._next_probe()
            reading = await self._probe()
            good = _is_good(reading)
            streak = streak.after(good)
            match decide_health(
                self._record.state, streak, self._health, reason=reading.reason, reported=report
            ):
                case BecomeSuspect(because):
                    self._record.move(ReplicaState.SUSPECT, because)
                case BecomeReady(because):
                    self._record.move(ReplicaState.READY, because)
            if good:
                await self.count(self._health.timeout_s)
            if report is not None:
                await asyncio.sleep(REPORT_PAUSE_S)

    async def count(self, timeout_s: float) -> None:
        """Read the engine's counters, if it can be asked now."""
        asked_wall_s = self._clock.wall_s()
        metrics = await self._prober.metrics(self._adapter, self._endpoint, timeout_s)
        if metrics is not None:
            self._record.count_tokens(metrics, asked_wall_s)

    async def _next_probe(self) -> str | None:
        """Waits for the interval, or for a report: that is returned."""
        try:
            async with asyncio.timeout(self._health.interval_s):
                await self._reported.wait()
        except TimeoutError:
            return None
        self._reported.clear()
        report, self._report = self._report, None
        return report

    async def _probe(self) -> ProbeReading | Unreachable:
        reading = await self._prober.probe(self._adapter, self._endpoint, self._health.timeout_s)
        self.probed.set()
        return reading


def _while_starting(reading: ProbeReading | Unreachable) -> str:
    # Engines listen late, most of them only once the model is loaded: no news, and nothing to alarm anybody.
    if isinstance(reading, Unreachable) and reading.reason == REFUSES:
        return "does not listen yet"
    return reading.reason


def _is_good(reading: ProbeReading | Unreachable) -> bool:
    return isinstance(reading, ProbeReading) and reading.verdict in (Verdict.READY, Verdict.BUSY)
