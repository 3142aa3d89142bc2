"""Engines' own counters (`engine:NAME`, where the name ends in `_total`, as Prometheus' conventions have it) as what they
grow by: a rate, per second and replica. A count since an engine's start says nothing about now.
https://prometheus.io/docs/practices/naming/#metric-names
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from inferry.core.scaling_settings import ENGINE
from inferry.policy.scaling.observation import ReplicaReading

READINGS_MAX = 120
"""Kept of a replica, evenly over the longest window."""


def is_own_counter(metric: str) -> bool:
    """Whether a rule that names this sees a rate."""
    return metric.startswith(ENGINE) and metric.endswith("_total")


@dataclass(frozen=True, slots=True)
class Rate:
    per_s: float
    span_s: float
    """Between the two readings that it is of."""


class OwnCounters:
    """Of one deployment. Memory: READINGS_MAX readings of each replica that serves."""

    def __init__(self, windows_s: Iterable[float]) -> None:
        self._longest_s = max(windows_s, default=0.0)
        self.apart_s = self._longest_s / READINGS_MAX
        """Readings that are kept are about so far apart, or further."""
        self._read: dict[str, deque[tuple[float, Mapping[str, float]]]] = {}

    def look(self, serving: Sequence[ReplicaReading]) -> None:
        """The latest readings; replicas that are not among them are forgotten."""
        read = {each.id: self._read.get(each.id) or deque() for each in serving}
        for each in serving:
            counters = {name: number for name, number in each.own.items() if name.endswith("_total")}
            if each.read_s is not None and counters:
                self._keep(read[each.id], each.read_s, counters)
        self._read = read

    def _keep(
        self, kept: deque[tuple[float, Mapping[str, float]]], read_s: float, counters: Mapping[str, float]
    ) -> None:
        if kept:
            last_s, before = kept[-1]
            if read_s <= last_s:
                return
            if any(number < before.get(name, 0.0) for name, number in counters.items()):
                kept.clear()  # another life of the engine
        # The newest is replaced as long as it is near to the one before it.
        if len(kept) > 1 and kept[-1][0] - kept[-2][0] < self.apart_s:
            kept.pop()
        kept.append((read_s, counters))
        while len(kept) > 2 and kept[1][0] <= read_s - self._longest_s:
            kept.popleft()

    def rate(self, replica_id: str, name: str, over_s: float) -> Rate | None:
        """Over the last `over_s`, or what is known of it; None where there are no two readings."""
        kept = [(read_s, own[name]) for read_s, own in self._read.get(replica_id, ()) if name in own]
        if len(kept) < 2:
            return None
        last_s, number = kept[-1]
        begin_s, before = min(kept[:-1], key=lambda each: abs(each[0] - (last_s - over_s)))
        return Rate((number - before) / (last_s - begin_s), last_s - begin_s)
