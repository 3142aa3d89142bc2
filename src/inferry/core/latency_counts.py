"""How many durations fell where, on a scale fine enough to read a percentile from; sums and differences are exact.

Buckets grow by 8 %, so a percentile is read to within 4 %: enough to hold against a threshold, and the counts of
several processes, or of two moments, can be added and subtracted. (Prometheus' classic histograms work alike, with
bounds too far apart for that.)
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, log

FINEST_S = 0.0005
"""Durations up to this are one bucket, number 0."""
GROWTH = 1.08
_PER_LOG = 1 / log(GROWTH)


class LatencyCounts:
    """Counts by bucket; only those that are not 0 are kept."""

    __slots__ = ("counts",)

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: dict[int, int] = dict(counts or {})

    def observe(self, duration_s: float) -> None:
        """Count one."""
        bucket = bucket_of(duration_s)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    def add(self, other: LatencyCounts) -> None:
        """Count what another one counted, too."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count

    def since(self, before: LatencyCounts) -> LatencyCounts:
        """What came after `before` was taken of the same counts. Of counts that began anew meanwhile: all."""
        gone, left = before.counts, {}
        for bucket, count in self.counts.items():
            more = count - gone.get(bucket, 0)
            if more < 0:
                return self.copy()
            if more:
                left[bucket] = more
        return LatencyCounts(left) if gone.keys() <= self.counts.keys() else self.copy()

    def copy(self) -> LatencyCounts:
        return LatencyCounts(self.counts)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def quantile_s(self, share: float) -> float | None:
        """The duration that `share` (0 to 1) of them are not above, to within 4 %; None where there are none."""
        total = self.total
        if not total:
            return None
        wanted = max(ceil(share * total), 1)
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return middle_s(bucket)
        raise AssertionError("the counts are fewer than their sum")

    def share_above(self, duration_s: float) -> float | None:
        """The share of them in later buckets than that of `duration_s`; None where there are none."""
        total = self.total
        if not total:
            return None
        bucket = bucket_of(duration_s)
        return sum(count for each, count in self.counts.items() if each > bucket) / total


def bucket_of(duration_s: float) -> int:
    """The number of the bucket that this duration falls into."""
    return int(log(duration_s / FINEST_S) * _PER_LOG) + 1 if duration_s > FINEST_S else 0


def middle_s(bucket: int) -> float:
    """What durations in this bucket are taken for: the geometric middle."""
    return float(FINEST_S * GROWTH ** (bucket - 0.5)) if bucket else FINEST_S
