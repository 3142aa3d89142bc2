"""What one replica carries within the objectives: the planner's figure, put right by what is seen.

Sights are worth different things. Replicas that all are full, so that requests find no place: what they finish is
what they carry, if it keeps the objectives. Objectives broken by less than was thought possible, or kept by more: the
figure is too high, or too low. Latencies below 40 % of the objectives at a fair load: it is too low, too (the lower end
of the band that llm-d's guide holds them in); otherwise a figure that is too low would never be found out.
"""

from __future__ import annotations

from dataclasses import dataclass

from inferry.core.scaling_settings import ScalingSlo
from inferry.policy.scaling.decision import ReplicaCapacity
from inferry.policy.scaling.observation import Observation
from inferry.policy.scaling.windows import Window

LEARN = 0.05
"""Share of the newest sight in the figure."""
LEAST, MOST = 0.25, 4.0
"""How far what is seen may take the figure from the planner's or the file's; the least also from the first guess."""
FRESH_MIN = 20
"""Requests that a sight takes at least."""
FULL = 0.1
"""The share of the requests that find no place, where all replicas are full."""
GUESSED = 0.8
"""Without any figure: the load per replica at which latencies would reach this share of the objectives, if they grew
with the load in proportion. They grow slower at first (a step has a fixed part), so that this is too little, not too
much."""
GUESSED_RATIO_MIN = 0.5
"""And at most 1.6 times the load that was seen."""
EASY, FAIR_LOAD, RAISED = 0.4, 0.7, 1.2
"""Latencies over objectives below EASY at FAIR_LOAD of the figure: it is raised towards RAISED times of it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Of the requests that ended within a window."""

    share: float
    """That kept the objectives, failed ones counted as not."""
    ratio: float
    """The worse of the latencies at the wanted share, over its objective."""


def kept(window: Window, slo: ScalingSlo) -> Kept | None:
    """None: too few ended, or too few of them told a latency that is an objective (answers that are not streamed have no
    TTFT): what nobody saw was not kept."""
    if window.ended < FRESH_MIN:
        return None
    late, ratio = 0.0, 0.0
    for metric, limit_ms in (("ttft_ms", slo.ttft_ms), ("itl_ms", slo.itl_ms)):
        if limit_ms is None:
            continue
        counts = window.latency(metric)
        above, at_share = counts.share_above(limit_ms / 1000), counts.quantile_s(slo.attainment)
        if above is None or at_share is None or counts.total < FRESH_MIN:
            if window.failed <= FULL * window.ended:
                return None
            ratio = max(ratio, 1.0)  # so many failed that this is said without them
            continue
        late = max(late, above)
        ratio = max(ratio, at_share * 1000 / limit_ms)
    return Kept((1 - late) * (1 - window.failed / window.ended), ratio)


class Carried:
    """Requests a second per replica, learned."""

    def __init__(self, slo: ScalingSlo, planned: ReplicaCapacity | None) -> None:
        self._slo = slo
        self._known = "no figure" if planned is None else planned.source
        self._planned = slo.requests_per_s or (planned.requests_per_s if planned is not None else None)
        self.per_s = self._planned
        """None: nothing is known yet."""
        self._guesses = self._planned is None
        """Until one sight showed where the end is."""
        self._least = 0.0 if self._planned is None else LEAST * self._planned
        """Objectives that no number of replicas keeps must not take the figure to nothing."""

    @property
    def source(self) -> str:
        """Where the figure is from, in words."""
        if self._guesses:
            return "a guess by latencies"
        if self._slo.requests_per_s:
            return "the file's figure, corrected by what is seen"
        return f"{self._known}, corrected by what is seen"

    def look(self, seen: Observation, newest: Window | None, window: Window | None) -> None:
        """`newest`: since the last look. `window`: a few looks."""
        if newest is None or window is None or not seen.serving or window.replica_s <= 0:
            return
        replicas = window.replica_s / window.span_s
        if abs(replicas - len(seen.serving)) > 0.02 * len(seen.serving):
            return
        how = kept(window, self._slo)
        if how is None:
            return
        load = (window.ended - window.failed) / window.replica_s
        if self._guesses and not load:
            return  # all of them failed, which says nothing of what a replica carries
        if self._guesses:
            self.per_s = max(self.per_s or 0.0, GUESSED * load / max(how.ratio, GUESSED_RATIO_MIN))
        assert self.per_s is not None
        late = how.ratio > 1
        if newest.failed > FULL * newest.ended and window.failed > FULL * window.ended:
            # All of them were full all the time: bursts of seconds would say less than they carry.
            self._guesses = False
            self._move(load * (0.95 if late else 1.0))
        elif late and load <= self.per_s:
            self._guesses = False
            self._move(load * 0.95)
        elif how.ratio < 0.9 and load > self.per_s:
            self._move(load)
        elif how.ratio < EASY and load > FAIR_LOAD * self.per_s:
            self._move(RAISED * self.per_s)

    def _move(self, to: float) -> None:
        assert self.per_s is not None
        if not self._guesses and not self._least:
            self._least = LEAST * self.per_s
        self.per_s = max(self.per_s + LEARN * (to - self.per_s), self._least)
        if self._planned is not None:
            self.per_s = min(self.per_s, MOST * self._planned)
