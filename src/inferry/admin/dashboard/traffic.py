"""How traffic went: rates and percentiles by the second for a quarter of an hour, by the minute for a day.

Made of differences between two snapshots of the gateways' counters; it does no I/O and has no clock of its own.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from inferry.core.latency_counts import LatencyCounts
from inferry.core.outcome import Ending
from inferry.gateway.snapshot import Snapshot

FINE_S = 1.0
FINE_POINTS = 900
COARSE_S = 60.0
COARSE_POINTS = 1440
FIELDS = (
    "at", "requests_per_s", "errors_per_s", "rejects_per_s", "prompt_tokens_per_s", "output_tokens_per_s", "in_flight",
    "waiting", "ttft_p50_ms", "ttft_p95_ms", "itl_p50_ms", "itl_p95_ms",
)  # fmt: skip
"""The columns of a point; `at` is wall seconds since 1970 at its end. A percentile of nothing is None."""

Point = tuple[float | None, ...]
ALL = ""
"""In place of a deployment's name: the sum of all."""


@dataclass(slots=True)
class _Counts:
    """Counters of one deployment, since its gateways started."""

    requests: int = 0
    errors: int = 0
    rejects: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    ttft: LatencyCounts = field(default_factory=LatencyCounts)
    itl: LatencyCounts = field(default_factory=LatencyCounts)


class TrafficHistory:
    """Fed about once a second; asked by whoever looks."""

    def __init__(self) -> None:
        self._fine: dict[str, deque[Point]] = {}
        self._coarse: dict[str, deque[Point]] = {}
        self._before: dict[str, _Counts] | None = None
        self._before_s = 0.0
        self._minute: dict[str, _Counts] = {}
        self._minute_s = 0.0

    def note(self, wall_s: float, snapshot: Snapshot) -> None:
        """Take a look. Looks that come sooner than a second after the last are left out."""
        if self._before is not None and wall_s - self._before_s < FINE_S * 0.9:
            return
        now = _counts(snapshot)
        if self._before is None:
            self._minute, self._minute_s = now, wall_s
        else:
            # A clock that was set back gives a point over the shortest time, and no division by nothing.
            self._add(self._fine, FINE_POINTS, wall_s, self._before, self._before_s, now, snapshot)
            if wall_s - self._minute_s >= COARSE_S:
                self._add(self._coarse, COARSE_POINTS, wall_s, self._minute, self._minute_s, now, snapshot)
                self._minute, self._minute_s = now, wall_s
        self._before, self._before_s = now, wall_s

    def series(self, deployment: str = ALL, *, coarse: bool = False) -> list[Point]:
        """The points of one deployment, or of all, oldest first."""
        return list((self._coarse if coarse else self._fine).get(deployment, ()))

    def last(self) -> dict[str, Point]:
        """The newest point of each deployment, and of all."""
        return {name: points[-1] for name, points in self._fine.items() if points}

    def _add(
        self,
        into: dict[str, deque[Point]],
        length: int,
        wall_s: float,
        before: dict[str, _Counts],
        before_s: float,
        now: dict[str, _Counts],
        snapshot: Snapshot,
    ) -> None:
        span_s = max(wall_s - before_s, 0.001)
        for name, counts in now.items():
            held = _held(snapshot, name)
            point = _point(wall_s, span_s, before.get(name, _Counts()), counts, held)
            into.setdefault(name, deque(maxlen=length)).append(point)
        for name in [name for name in into if name not in now]:  # its deployment is gone
            del into[name]


def _counts(snapshot: Snapshot) -> dict[str, _Counts]:
    total = _Counts()
    by_name: dict[str, _Counts] = {ALL: total}
    for name, demand in snapshot.demand.items():
        mine = by_name.setdefault(name, _Counts())
        mine.ttft, mine.itl = demand.ttft.copy(), demand.itl.copy()
        total.ttft.add(demand.ttft)
        total.itl.add(demand.itl)
    for (name, _, ending, _), count in snapshot.metrics.requests.items():
        for counts in (total, by_name.setdefault(name, _Counts())) if name else (total,):
            counts.requests += count
            if ending is Ending.FAILED:
                counts.errors += count
            elif ending is Ending.REJECTED:
                counts.rejects += count
    for (name, kind), count in snapshot.metrics.tokens.items():
        for counts in (total, by_name.setdefault(name, _Counts())) if name else (total,):
            if kind == "prompt":
                counts.prompt_tokens += count
            elif kind == "completion":
                counts.output_tokens += count
    return by_name


def _held(snapshot: Snapshot, name: str) -> tuple[int, int]:
    if name == ALL:
        return sum(snapshot.in_flight.values()), sum(snapshot.waiting.values())
    # Replicas are named after their deployment: chat-0.
    mine = sum(count for each, count in snapshot.in_flight.items() if each.rpartition("-")[0] == name)
    return mine, snapshot.waiting.get(name, 0)


def _point(wall_s: float, span_s: float, before: _Counts, now: _Counts, held: tuple[int, int]) -> Point:
    ttft, itl = now.ttft.since(before.ttft), now.itl.since(before.itl)
    return (
        round(wall_s, 3),
        _rate(now.requests, before.requests, span_s),
        _rate(now.errors, before.errors, span_s),
        _rate(now.rejects, before.rejects, span_s),
        _rate(now.prompt_tokens, before.prompt_tokens, span_s),
        _rate(now.output_tokens, before.output_tokens, span_s),
        *held,
        *(_ms(ttft.quantile_s(share)) for share in (0.5, 0.95)),
        *(_ms(itl.quantile_s(share)) for share in (0.5, 0.95)),
    )


def _rate(now: int, before: int, span_s: float) -> float:
    # Fewer than before: the counters began anew.
    return round((now - before if now >= before else now) / span_s, 3)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)
