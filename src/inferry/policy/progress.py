"""What one engine has shown of itself: the signs of life by which its health is judged. Pure.

A sign of life is anything that a frozen process can't do: answer a question, send a byte of an answer, count a
token, use the CPU. A sign of progress is one of its work: a byte, a token, a finished request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from inferry.core.replica import ReplicaProgress

REPORT_AGE_MAX_S = 2.0
"""A gateway process that has said nothing for so long holds nothing, or hangs itself: it is no witness."""
FORGETS = 0.02
"""Of the longest pause's lead over the present one, so much is forgotten with each pause."""


class Answer(StrEnum):
    """How the last probe went, when something came back."""

    GOOD = "good"
    FULL = "full"
    """It serves, and takes no more now."""
    LOADING = "loading"
    UNWELL = "unwell"
    REFUSED = "refused"
    """No HTTP at all: the connection was refused, or broke."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The signs as they stand at one moment; ages are in seconds."""

    silent_s: float
    """Since the last sign of life."""
    progress_s: float
    """Since the last sign of progress; infinite if there was none."""
    idle_s: float
    """The same, or since there was work to do, if that is later."""
    answered_s: float
    """Since something last answered a probe."""
    answer: Answer
    reason: str
    """What the last probe saw, in words."""
    good: int
    """Good probes in a row."""
    failed: int
    """Probes in a row that were refused or answered badly."""
    unanswered: int
    """Probes in a row, up to now, to which nothing came."""
    working: bool
    """Requests are under way."""
    streams: int
    """Of which answers have begun at our gateways, and go on."""
    queued: bool
    """Its own metrics say that requests wait."""
    cpu_share: float | None
    """Of one core, used since `idle_s` began; None: nobody can see its processes."""
    stopped_s: float | None
    """Since a process of it was seen to be stopped by a signal; None: none is."""
    longest_pause_s: float
    """Between two signs of progress, while it had work; decays."""


class Signs:
    """Collects signs from the start of one engine's life. Every method is told the monotonic time."""

    def __init__(self, now_s: float) -> None:
        self._progress_s = -math.inf
        self._answered_s = self._cpu_s = self._work_since_s = now_s
        self._work = False
        self._seen: dict[str, tuple[ReplicaProgress, float]] = {}
        self._running = 0
        self._queued = False
        self._counted: tuple[int, int] | None = None
        self._cpu_used_s: float | None = None
        self._cpu_base: tuple[float, float] = (0.0, now_s)
        self._stopped_since_s: float | None = None
        self._answer = Answer.GOOD
        self._reason = ""
        self._good = self._failed = self._unanswered = 0
        self._longest_pause_s = 0.0

    # --- what is seen ---------------------------------------------------------------------------------

    def on_gateway(self, source: str, seen: ReplicaProgress | None, now_s: float) -> None:
        """What a gateway process says of it now; None: it holds nothing there."""
        if seen is None:
            self._seen.pop(source, None)
        else:
            self._seen[source] = (seen, now_s)
            if seen.heard_s is not None:
                self._on_progress(now_s - seen.heard_s, now_s)
        self._see_work(now_s)

    def on_counters(
        self,
        running: int | None,
        waiting: int | None,
        generated: int | None,
        prompt: int | None,
        now_s: float,
    ) -> None:
        """The engine's own metrics. Counters that stand still prove nothing: some grow at a request's end only."""
        self._answered_s = max(self._answered_s, now_s)
        self._unanswered = 0
        self._running, self._queued = running or 0, bool(waiting)
        if generated is not None:
            counted = (generated, prompt or 0)
            if self._counted is not None and counted > self._counted:
                self._on_progress(now_s, now_s)
            self._counted = counted
        self._see_work(now_s)

    def on_vitals(self, cpu_s: float, stopped: bool, now_s: float) -> None:
        """CPU time that its processes have used so far, and whether one of them is stopped."""
        if self._cpu_used_s is None:
            self._cpu_base = (cpu_s, now_s)
        elif cpu_s != self._cpu_used_s:  # less, when one of several has ended: that is life, too
            self._cpu_s = now_s
        self._cpu_used_s = cpu_s
        if not stopped:
            self._stopped_since_s = None
        elif self._stopped_since_s is None:
            self._stopped_since_s = now_s

    def on_answer(self, answer: Answer, reason: str, now_s: float) -> None:
        """A probe was answered, or refused: a refusal comes from the kernel and is no sign of life."""
        self._answer, self._reason = answer, reason
        self._unanswered = 0
        if answer is not Answer.REFUSED:
            self._answered_s = now_s
        if answer in (Answer.GOOD, Answer.FULL):
            self._good, self._failed = self._good + 1, 0
        else:
            self._good, self._failed = 0, self._failed + 1

    def on_unanswered(self, reason: str) -> None:
        """A probe's time is over."""
        self._reason = reason
        self._good, self._unanswered = 0, self._unanswered + 1

    def forgive(self, late_s: float) -> None:
        """We stood still for so long ourselves, and could have seen nothing."""
        self._progress_s += late_s
        self._answered_s += late_s
        self._cpu_s += late_s
        self._work_since_s += late_s
        if self._stopped_since_s is not None:
            self._stopped_since_s += late_s
        self._cpu_base = (self._cpu_base[0], self._cpu_base[1] + late_s)
        self._seen = {name: (seen, at_s + late_s) for name, (seen, at_s) in self._seen.items()}

    # --- what it comes to -----------------------------------------------------------------------------

    def evidence(self, now_s: float) -> Evidence:
        self._see_work(now_s)
        idle_since_s = max(self._progress_s, self._work_since_s)
        return Evidence(
            silent_s=now_s - max(self._progress_s, self._answered_s, self._cpu_s),
            progress_s=now_s - self._progress_s,
            idle_s=now_s - idle_since_s,
            answered_s=now_s - self._answered_s,
            answer=self._answer,
            reason=self._reason,
            good=self._good,
            failed=self._failed,
            unanswered=self._unanswered,
            working=self._work,
            streams=sum(seen.streams for seen, _ in self._seen.values()),
            queued=self._queued,
            cpu_share=self._cpu_share(now_s),
            stopped_s=None if self._stopped_since_s is None else now_s - self._stopped_since_s,
            longest_pause_s=self._longest_pause_s,
        )

    def _cpu_share(self, now_s: float) -> float | None:
        if self._cpu_used_s is None:
            return None
        used_s, since_s = self._cpu_base
        return max(self._cpu_used_s - used_s, 0.0) / max(now_s - since_s, 1e-6)

    def _on_progress(self, at_s: float, now_s: float) -> None:
        if at_s <= self._progress_s:
            return
        if self._work:
            pause_s = max(at_s - max(self._progress_s, self._work_since_s), 0.0)
            lead_s = self._longest_pause_s - pause_s
            self._longest_pause_s = pause_s if lead_s <= 0 else self._longest_pause_s - FORGETS * lead_s
        self._progress_s = at_s
        self._measure_cpu_from(now_s)

    def _see_work(self, now_s: float) -> None:
        self._seen = {
            name: (seen, at_s)
            for name, (seen, at_s) in self._seen.items()
            if now_s - at_s <= REPORT_AGE_MAX_S
        }
        work = self._running > 0 or any(seen.waiting for seen, _ in self._seen.values())
        if work and not self._work:
            self._work_since_s = now_s
            self._measure_cpu_from(now_s)
        self._work = work

    def _measure_cpu_from(self, now_s: float) -> None:
        if self._cpu_used_s is not None:
            self._cpu_base = (self._cpu_used_s, now_s)
