"""How many durations fell where, finer than decisions need it: figures of two simulations are held side by side."""

from __future__ import annotations

from math import ceil, log

FINEST_S = 0.0001
"""Durations up to this are taken for 0."""
GROWTH = 1.01
_PER_LOG = 1 / log(GROWTH)


class FineCounts:
    """Buckets grow by 1 %, so a percentile is read to within 0.5 %; some hundred buckets, however many are counted."""

    __slots__ = ("counts", "sum_s", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total = 0
        self.sum_s = 0.0

    def observe(self, duration_s: float) -> None:
        """Count one."""
        bucket = int(log(duration_s / FINEST_S) * _PER_LOG) + 1 if duration_s > FINEST_S else 0
        counts = self.counts
        counts[bucket] = counts.get(bucket, 0) + 1
        self.total += 1
        self.sum_s += duration_s

    def mean_s(self) -> float | None:
        """Exact; None where there are none."""
        return self.sum_s / self.total if self.total else None

    def quantiles_s(self, shares: tuple[float, ...]) -> list[float | None]:
        """For each of `shares` (0 to 1, rising): the duration that so many are not above; None where there are none."""
        if not self.total:
            return [None] * len(shares)
        found: list[float | None] = []
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            while len(found) < len(shares) and seen >= max(ceil(shares[len(found)] * self.total), 1):
                found.append(FINEST_S * GROWTH ** (bucket - 0.5) if bucket else 0.0)
        return found
