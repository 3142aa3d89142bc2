"""Percentiles, how sure they are, and shares: the arithmetic of the bench, without numpy.

Percentiles are linear between the two nearest values, as numpy's default has it: of n values in order, the q-th
lies at place (n - 1) q, counted from 0. Of 1, 2, 3, 4 the median is 2.5 and the 90th percentile 3.7.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

CONFIDENCE = 0.95
"""Of all intervals here."""
Z = 1.959963984540054
"""Of the normal distribution: 95 % lie within so many deviations."""

Interval = tuple[float | None, float | None]
"""Lower and upper end. None: so few values bound that side by nothing."""


class Sample:
    """Values in order, each counted as often as its weight says; percentiles are those of the spread out list.

    Values may be infinite: failures are infinitely late. Weights need not be whole: a chunk may hold 1.7 tokens.
    """

    def __init__(self, values: Iterable[float], weights: Iterable[float] | None = None) -> None:
        if weights is None:
            self.values = sorted(values)
            self.ends: Sequence[float] = range(1, len(self.values) + 1)
        else:
            pairs = sorted(
                (value, weight) for value, weight in zip(values, weights, strict=True) if weight > 0
            )
            self.values = [value for value, _ in pairs]
            self.ends = list(accumulate(weight for _, weight in pairs))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def weight(self) -> float:
        return self.ends[-1] if self.values else 0

    @property
    def infinite(self) -> float:
        """The weight of infinite values."""
        first = bisect_right(self.values, math.nextafter(math.inf, 0))
        return self.weight - (self.ends[first - 1] if first else 0)

    def mean(self) -> float | None:
        if not self.values:
            return None
        if self.values[-1] == math.inf:
            return math.inf
        if isinstance(self.ends, range):
            return math.fsum(self.values) / len(self.values)
        starts = (0.0, *self.ends[:-1])
        parts = (v * (end - start) for v, start, end in zip(self.values, starts, self.ends, strict=True))
        return math.fsum(parts) / self.weight

    def percentile(self, share: float) -> float | None:
        """None of no values. `share` is from 0 to 1."""
        if not self.values:
            return None
        place = max(self.weight - 1, 0) * share
        whole = math.floor(place)
        low, high = self._at(whole), self._at(whole + 1)
        if place == whole or low == high:
            return low
        return low + (high - low) * (place - whole)

    def _at(self, place: float) -> float:
        return self.values[min(bisect_right(self.ends, place), len(self.values) - 1)]

    def interval(self, share: float) -> Interval:
        """Of the percentile of what the values were drawn from. For unweighted, independent values."""
        low, high = ranks(len(self.values), share)
        return (
            None if low < 1 else self.values[low - 1],
            None if high > len(self.values) else self.values[high - 1],
        )


def ranks(count: int, share: float, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """Which of `count` values in order, from 1, enclose the percentile with at least that confidence.

    No assumption on the distribution: as many values lie below the percentile as heads fall in `count` throws of a
    coin with that `share`. 0 and count + 1: there is no such value. Of 100 values, the median lies between the 40th
    and the 61st. Source: H. A. David, H. N. Nagaraja, Order Statistics, 3rd ed., section 7.1.
    """
    tail = (1 - confidence) / 2
    low, high = 0, count + 1
    below = 0.0
    for heads, chance in _binomial(count, share):
        below += chance
        if below <= tail:
            low = heads + 1
        if high > count and below >= 1 - tail and heads < count:
            high = heads + 1
            break
    return low, high


def _binomial(count: int, share: float) -> Iterable[tuple[int, float]]:
    """Heads and their chance, from ten deviations below the mean on, where chances are below 1e-20, and up."""
    reach = 10 * math.sqrt(count * share * (1 - share)) + 10
    heads = max(0, math.floor(count * share - reach))
    last = min(count, math.ceil(count * share + reach))
    log = math.lgamma(count + 1) - math.lgamma(heads + 1) - math.lgamma(count - heads + 1)
    chance = math.exp(log + heads * math.log(share) + (count - heads) * math.log1p(-share))
    while heads <= last:
        yield heads, chance
        chance *= (count - heads) / (heads + 1) * share / (1 - share)
        heads += 1


def wilson(good: int, count: int, z: float = Z) -> tuple[float, float]:
    """Between what shares the true one lies, having seen `good` of `count`. Nothing seen: anywhere from 0 to 1.

    Right for few and for shares near 1, where good / count plus or minus is not: 10 of 10 give 0.722 to 1.
    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    if count == 0:
        return 0.0, 1.0
    share = good / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    # Exactly 0 and 1 at the edges, which rounding would miss.
    return max(0.0, middle - half) if good else 0.0, min(1.0, middle + half) if good < count else 1.0


def share_difference(good_a: int, count_a: int, good_b: int, count_b: int) -> tuple[float, float]:
    """Between what the true difference of two shares lies, the second less the first.

    Source: R. G. Newcombe, Interval estimation for the difference between independent proportions: comparison of
    eleven methods, Statistics in Medicine 17 (1998), method 10. 56 of 70 less 48 of 80: 0.0524 to 0.3339.
    """
    if not count_a or not count_b:
        return -1.0, 1.0
    a, b = good_a / count_a, good_b / count_b
    low_a, high_a = wilson(good_a, count_a)
    low_b, high_b = wilson(good_b, count_b)
    return (
        b - a - math.sqrt((b - low_b) ** 2 + (high_a - a) ** 2),
        b - a + math.sqrt((high_b - b) ** 2 + (a - low_a) ** 2),
    )
