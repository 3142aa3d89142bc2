"""What one replica carries within the objectives: the planner's figure, put right by what is seen.

Two sights are worth something. Replicas that all are busy while requests wait: what they finish is what they carry, if
what they finish keeps the objectives. And objectives broken with nobody waiting, or kept with more load than was
thought possible: then the figure is too high, or too low.
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
"""How far what is seen may take the figure from the planner's or the file's."""
FRESH_MIN = 20
"""Requests that a sight takes at least."""
FULL = 0.1
"""The share of the requests that find no place, where all replicas are full."""
GUESSED = 0.8
"""Without any figure: the load per replica at which latencies would reach this share of the objectives, if they grew
with the load in proportion. They grow slower at first (a step has a fixed part), so that this is too little, not too
much."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Of the requests that ended within a window."""

    share: float
    """That kept the objectives, failed ones counted as not."""
    ratio: float
    """The worse of the latencies at the wanted share, over its objective."""


def kept(window: Window, slo: ScalingSlo) -> Kept | None:
    """None: too few ended."""
    if window.ended < FRESH_MIN:
        return None
    late, ratio = 0.0, 0.0
    for metric, limit_ms in (("ttft_ms", slo.ttft_ms), ("itl_ms", slo.itl_ms)):
        if limit_ms is None:
            continue
        counts = window.latency(metric)
        above, at_share = counts.share_above(limit_ms / 1000), counts.quantile_s(slo.attainment)
        if above is None or at_share is None:
            continue
        late = max(late, above)
        ratio = max(ratio, at_share * 1000 / limit_ms)
    return Kept((1 - late) * (1 - window.failed / window.ended), ratio)


class Carried:
    """Requests a second per replica, learned."""

    def __init__(self, slo: ScalingSlo, planned: ReplicaCapacity | None) -> None:
        self._slo = slo
        self._planned = slo.requests_per_s or (planned.requests_per_s if planned is not None else None)
        self.per_s = self._planned
        """None: nothing is known yet."""
        self.source = "the file" if slo.requests_per_s else planned.source if planned is not None else "seen"

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
        if self.per_s is None:
            self.per_s = GUESSED * load / max(how.ratio, 0.3)
            self.source = "a guess by the latencies seen"
        late = how.ratio > 1
        if newest.failed > FULL * newest.ended and window.failed > FULL * window.ended:
            # All of them were full all the time: bursts of seconds would say less than they carry.
            self._move(load * (0.95 if late else 1.0))
        elif late and load <= self.per_s:
            self._move(load * 0.95)
        elif how.ratio < 0.9 and load > self.per_s:
            self._move(load)

    def _move(self, to: float) -> None:
        assert self.per_s is not None
        self.per_s += LEARN * (to - self.per_s)
        if self._planned is not None:
            self.per_s = min(max(self.per_s, LEAST * self._planned), MOST * self._planned)
