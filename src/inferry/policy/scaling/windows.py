"""What the gateways counted within the last so many seconds, from counters that only ever grow.

Some looks are kept for each length that is asked for, about a hundred: the difference between now and the one that is
nearest to the window's beginning is the window. Counters that went back have begun anew, with the gateway that
counted; then the windows do, too. Looks without an answer from the gateways leave no trace, so that a window never
reaches over an outage unnoticed: it is given as shorter than asked for until it is full again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from inferry.core.latency_counts import LatencyCounts
from inferry.policy.scaling.observation import Traffic

LOOKS_MAX = 120
"""Looks kept per window: where its beginning lies is off by at most 1/240 of its length."""


@dataclass(slots=True)
class Window:
    """From one look to the latest."""

    before: Traffic
    after: Traffic
    span_s: float
    full: bool
    """It is as long as was asked for, but for less than the time between two looks."""
    replica_s: float
    """How long replicas served within it, all together."""
    _latencies: dict[str, LatencyCounts] = field(default_factory=dict)

    @property
    def arrived(self) -> int:
        return self.after.arrived - self.before.arrived

    @property
    def ended(self) -> int:
        return self.after.ended - self.before.ended

    @property
    def failed(self) -> int:
        return self.after.failed - self.before.failed

    @property
    def prompt_tokens(self) -> int:
        return self.after.prompt_tokens - self.before.prompt_tokens

    @property
    def output_tokens(self) -> int:
        return self.after.output_tokens - self.before.output_tokens

    def latency(self, metric: str) -> LatencyCounts:
        """Those counted within it, of `ttft_ms`, `itl_ms` or `e2e_ms`."""
        known = self._latencies.get(metric)
        if known is None:
            name = metric.removesuffix("_ms")
            known = getattr(self.after, name).since(getattr(self.before, name))
            self._latencies[metric] = known
        return known


@dataclass(frozen=True, slots=True)
class _Look:
    at_s: float
    traffic: Traffic
    replica_s: float


class Windows:
    """The windows of these lengths, each up to the latest look. Memory: LOOKS_MAX looks for each length."""

    def __init__(self, every_s: float, lengths_s: set[float]) -> None:
        self._every_s = every_s
        self._kept: dict[float, deque[_Look]] = {each: deque() for each in sorted(lengths_s)}
        self._latest: _Look | None = None
        self._seen_s: float | None = None
        self._replica_s = 0.0
        self._serving = 0
        self._made: dict[float, Window | None] = {}

    def look(self, now_s: float, traffic: Traffic | None, serving: int) -> None:
        """The latest; `serving`: replicas that take requests now."""
        if self._seen_s is not None:
            self._replica_s += self._serving * (now_s - self._seen_s)
        self._seen_s, self._serving = now_s, serving
        self._made.clear()
        if traffic is None:
            return
        latest = self._latest
        if latest is not None:
            if _began_anew(latest.traffic, traffic):
                self._forget()
            else:
                self._keep(latest, now_s)
        self._latest = _Look(now_s, traffic, self._replica_s)

    def last(self, length_s: float) -> Window | None:
        """The window of this length, or as much of it as is known; None where there is nothing to compare with."""
        if length_s not in self._made:
            self._made[length_s] = self._make(length_s)
        return self._made[length_s]

    def _keep(self, look: _Look, now_s: float) -> None:
        for length_s, kept in self._kept.items():
            if not kept or look.at_s - kept[-1].at_s >= length_s / LOOKS_MAX:
                kept.append(look)
            while len(kept) > 1 and kept[1].at_s <= now_s - length_s:
                kept.popleft()

    def _forget(self) -> None:
        for kept in self._kept.values():
            kept.clear()

    def _make(self, length_s: float) -> Window | None:
        latest, kept = self._latest, self._kept[length_s]
        if latest is None or latest.at_s != self._seen_s or not kept:
            return None
        begin_s = latest.at_s - length_s
        first = kept[0]
        if len(kept) > 1 and abs(kept[1].at_s - begin_s) < abs(first.at_s - begin_s):
            first = kept[1]
        span_s = latest.at_s - first.at_s
        if span_s > length_s + max(length_s, 2 * self._every_s) or span_s <= 0:
            return None
        full = span_s + self._every_s >= length_s
        return Window(first.traffic, latest.traffic, span_s, full, latest.replica_s - first.replica_s)


def _began_anew(before: Traffic, after: Traffic) -> bool:
    return (
        after.arrived < before.arrived
        or after.ended < before.ended
        or after.failed < before.failed
        or after.prompt_tokens < before.prompt_tokens
        or after.output_tokens < before.output_tokens
    )
