"""Looks after a replica whose engine runs: from the first probe to ready, and from then on."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from inferry.core.clock import Clock
from inferry.core.health_settings import Health
from inferry.core.replica import Endpoint, ReplicaProgress, ReplicaState
from inferry.engines.adapter import EngineAdapter, ProbeReading, Verdict, WarmupRequest
from inferry.fleet.probe import REFUSES, Prober, Unreachable
from inferry.fleet.replica_record import ReplicaRecord
from inferry.policy.health import Place, judge
from inferry.policy.progress import Answer, Signs
from inferry.runtime.base import Handle

log = structlog.get_logger()

START_POLL_MIN_S = 0.05
START_POLL_MAX_S = 1.0
START_POLL_SHARE = 0.1
"""A start is noticed at most a tenth of its own length late."""
START_PROBE_S = 5.0
"""Until it has answered once, nobody knows how long that takes, and nothing is lost by waiting."""
FORGETS = 0.1
WARM_UP_PAUSE_S = 0.5
FETCH_PAUSE_S = 5.0
REPORT_PAUSE_S = 0.1
"""Between two probes that reports led to: a broken replica under load is reported thousands of times a second."""
PULSE_S = 0.5
"""Between two looks at what needs no question: processes, gateways' reports, time that passes."""
LATE_MAX_S = 0.5
"""Later than this, it was us who stood still (Ctrl-Z, a laptop's lid, a drowning machine): nothing was seen then,
and so nothing was missed."""
TWO_REPORTS_S = 1.0
"""Progress that is older than two reports of the gateways may have ended."""
HAND_OVER_AGAIN_S = 2.0
"""Who could not go on elsewhere may be able to now."""


async def _nothing() -> None:
    return None


class ReplicaCare:
    """Moves a record between starting, warming, ready and suspect, for one life of its engine: collects its signs
    of life (policy/progress.py), has them judged (policy/health.py), and does what that says."""

    def __init__(
        self,
        record: ReplicaRecord,
        adapter: EngineAdapter,
        endpoint: Endpoint,
        health: Health,
        prober: Prober,
        clock: Clock,
        *,
        process: Handle | None,
        hand_over: Callable[[str, str], None],
        before_ready: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        """`process`: None for an engine that others run. `hand_over(replica_id, because)`: have its requests go on
        elsewhere. `before_ready`: what else its engine is to be told before it gets requests."""
        self._record = record
        self._adapter = adapter
        self._endpoint = endpoint
        self._health = health
        self._prober = prober
        self._clock = clock
        self._process = process
        self._hand_over = hand_over
        self._before_ready = before_ready
        self._handed_over_s = -math.inf
        self._signs = Signs(clock.now_s())
        self._end_because: str | None = None
        self._answers_within_s = 0.0
        """What the slowest of its last answers to a probe took; fades with each quicker one."""
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
            reading = await self._probe(max(self._probe_limit_s(), START_PROBE_S))
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
        await self._before_ready()
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

    async def stay(self) -> str:
        """Watch over it. Returns only for an engine of ours that is stuck: why it must be ended."""
        self._signs = Signs(self._clock.now_s())
        self._look_at_process(self._clock.now_s())
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(self._ask_forever())
            because = await self._watch()
            asking.cancel()
        return because

    def note_progress(self, source: str, seen: ReplicaProgress | None) -> None:
        """What the gateway process `source` sees of its requests here; None: it has none."""
        self._signs.on_gateway(source, seen, self._clock.now_s())

    async def _watch(self) -> str:
        """At each pulse: look at what needs no question, and judge."""
        looked_s = self._clock.now_s()
        while self._end_because is None:
            await asyncio.sleep(PULSE_S)
            now_s = self._clock.now_s()
            late_s = now_s - looked_s - PULSE_S
            looked_s = now_s
            if late_s > LATE_MAX_S:
                log.info("health_looked_late", replica=self._record.view.id, late_s=round(late_s, 1))
                self._signs.forgive(late_s)
            self._judge()
        return self._end_because

    async def _ask_forever(self) -> None:
        """Probe, where nothing better is known, and count."""
        asked_s = self._clock.now_s()
        while True:
            report = await self._next_question(asked_s + self._health.interval_s)
            asked_s = self._clock.now_s()
            if (report is None and self._is_beyond_doubt()) or await self._ask(report):
                await self.count(self._health.timeout_s)
            if report is not None:
                await asyncio.sleep(REPORT_PAUSE_S)

    async def _ask(self, report: str | None) -> bool:
        """One probe, judged; whether it was good."""
        asked_s = self._clock.now_s()
        limit_s = self._probe_limit_s()
        reading = await self._probe(limit_s)
        now_s = self._clock.now_s()
        if isinstance(reading, ProbeReading):
            self._signs.on_answer(_ANSWERS[reading.verdict], reading.reason, now_s)
        elif not reading.silent:
            self._signs.on_answer(Answer.REFUSED, reading.reason, now_s)
        elif now_s - asked_s <= limit_s + LATE_MAX_S:  # else it may be us who did not listen
            self._signs.on_unanswered(reading.reason)
        self._judge(report)
        return _is_good(reading)

    def _is_beyond_doubt(self) -> bool:
        """Its work gets on, so that a probe would tell nothing new."""
        seen = self._signs.evidence(self._clock.now_s())
        in_order = not (seen.failed or seen.unanswered) and self._record.state is ReplicaState.READY
        return in_order and seen.progress_s <= TWO_REPORTS_S

    def _look_at_process(self, now_s: float) -> None:
        vitals = None if self._process is None else self._process.vitals()
        if vitals is not None:
            self._signs.on_vitals(vitals.cpu_s, vitals.stopped, now_s)

    def _judge(self, report: str | None = None) -> None:
        now_s = self._clock.now_s()
        self._look_at_process(now_s)
        judgement = judge(self._signs.evidence(now_s), self._health, reported=report)
        self._record.judge(judgement.verdict)
        state = self._record.state
        if judgement.place is Place.OUT and state is ReplicaState.READY:
            self._record.move(ReplicaState.SUSPECT, judgement.because)
        elif judgement.place is Place.IN and state is ReplicaState.SUSPECT:
            self._record.move(ReplicaState.READY, judgement.because)
        if judgement.hand_over and now_s - self._handed_over_s >= HAND_OVER_AGAIN_S:
            self._handed_over_s = now_s
            self._hand_over(self._record.view.id, judgement.because)
        if judgement.end and self._process is not None:
            self._end_because = judgement.because

    async def count(self, timeout_s: float) -> None:
        """Read the engine's counters, if it can be asked now."""
        asked_wall_s = self._clock.wall_s()
        metrics = await self._prober.metrics(
            self._adapter, self._endpoint, timeout_s, self._record.own_metrics
        )
        if metrics is not None:
            self._record.count_tokens(metrics, asked_wall_s)
            self._signs.on_counters(
                metrics.running,
                metrics.waiting,
                metrics.tokens_generated,
                metrics.tokens_prompt,
                self._clock.now_s(),
            )

    async def _next_question(self, due_s: float) -> str | None:
        """Waits until then, or for a report: that is returned."""
        try:
            async with asyncio.timeout(max(due_s - self._clock.now_s(), 0.0)):
                await self._reported.wait()
        except TimeoutError:
            return None
        self._reported.clear()
        report, self._report = self._report, None
        return report

    async def _probe(self, limit_s: float) -> ProbeReading | Unreachable:
        asked_s = self._clock.now_s()
        reading = await self._prober.probe(self._adapter, self._endpoint, limit_s)
        self.probed.set()
        if isinstance(reading, ProbeReading):
            took_s = self._clock.now_s() - asked_s
            self._answers_within_s = max(took_s, (1 - FORGETS) * self._answers_within_s)
        return reading

    def _probe_limit_s(self) -> float:
        """As the file says, or twice as long as it took lately: endpoints far away may need a second as a rule."""
        return max(self._health.timeout_s, min(2 * self._answers_within_s, START_PROBE_S))


def _while_starting(reading: ProbeReading | Unreachable) -> str:
    # Engines listen late, most of them only once the model is loaded: no news, and nothing to alarm anybody.
    if isinstance(reading, Unreachable) and reading.reason == REFUSES:
        return "does not listen yet"
    return reading.reason


_ANSWERS = {
    Verdict.READY: Answer.GOOD,
    Verdict.BUSY: Answer.FULL,
    Verdict.LOADING: Answer.LOADING,
    Verdict.UNWELL: Answer.UNWELL,
}


def _is_good(reading: ProbeReading | Unreachable) -> bool:
    return isinstance(reading, ProbeReading) and reading.verdict in (Verdict.READY, Verdict.BUSY)
