"""The bench's arithmetic: against closed forms, worked examples of the literature, and what chance does."""

from __future__ import annotations

import math
import random
from statistics import quantiles

import pytest

from inferry.bench.statistics import Sample, ranks, share_difference, wilson


def test_percentiles_are_linear_between_neighbours() -> None:
    """Of 1, 2, 3, 4 the median is 2.5 and the 90th percentile 3.7, as numpy's default has them."""
    sample = Sample([4, 1, 3, 2])
    assert [sample.percentile(share) for share in (0, 0.5, 0.9, 1)] == pytest.approx([1, 2.5, 3.7, 4])


def test_percentiles_agree_with_the_standard_library() -> None:
    """All of a sample's 99 percentiles are those of `statistics.quantiles` by the same rule."""
    draw = random.Random(1)
    values = [draw.lognormvariate(3, 1) for _ in range(777)]
    sample = Sample(values)
    ours = [sample.percentile(number / 100) for number in range(1, 100)]
    assert ours == pytest.approx(quantiles(values, n=100, method="inclusive"))


def test_weights_are_repetitions() -> None:
    """A value with weight 3 counts as three values, in percentiles and in the mean."""
    weighted = Sample([5.0, 1.0, 9.0, 7.0], [3, 2, 1, 0])
    spread = Sample([1.0, 1.0, 5.0, 5.0, 5.0, 9.0])
    shares = [number / 20 for number in range(21)]
    assert [weighted.percentile(s) for s in shares] == pytest.approx([spread.percentile(s) for s in shares])
    assert weighted.mean() == pytest.approx(spread.mean())
    assert weighted.weight == 6


def test_of_nothing_there_is_nothing() -> None:
    """No values: no percentile and no mean, rather than 0."""
    assert Sample([]).percentile(0.5) is None
    assert Sample([]).mean() is None
    assert Sample([]).interval(0.5) == (None, None)


def test_failures_are_infinitely_late() -> None:
    """With one infinite value among ten, the median is finite and the 99th percentile infinite; never 'not a number'."""
    sample = Sample([*range(9), math.inf])
    assert sample.percentile(0.5) == 4.5
    assert sample.percentile(0.99) == math.inf
    assert Sample([math.inf, math.inf]).percentile(0.5) == math.inf
    assert sample.infinite == 1
    assert sample.mean() == math.inf


def test_ranks_of_the_median_of_100() -> None:
    """Between the 40th and 61st of 100 values, as tables of the sign test have it."""
    assert ranks(100, 0.5) == (40, 61)


def test_few_values_bound_nothing() -> None:
    """Five values have no upper bound for a 99th percentile, and none at all for a median at 95 %."""
    assert ranks(5, 0.99)[1] == 6
    assert ranks(5, 0.5) == (0, 6)
    assert ranks(6, 0.5) == (1, 6)


def test_ranks_of_many_are_found_soon() -> None:
    """A million values: the interval is about two deviations wide on either side."""
    low, high = ranks(1_000_000, 0.99)
    assert 990_000 - low == pytest.approx(1.96 * math.sqrt(1e6 * 0.99 * 0.01), rel=0.03)
    assert high - 990_000 == pytest.approx(1.96 * math.sqrt(1e6 * 0.99 * 0.01), rel=0.03)


def test_intervals_hold_what_they_promise() -> None:
    """Of 400 samples from a known distribution, at least 93 % of intervals enclose the true 90th percentile."""
    draw = random.Random(7)
    truth = -math.log(0.1)
    inside = 0
    for _ in range(400):
        low, high = Sample([draw.expovariate(1) for _ in range(120)]).interval(0.9)
        inside += (low is None or low <= truth) and (high is None or truth <= high)
    assert 0.93 <= inside / 400 < 1


def test_wilson_at_the_edge() -> None:
    """10 of 10 do not prove 100 %: the share may be 0.722; of nothing seen it may be anything."""
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=5e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=5e-4)
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-4)
    assert wilson(0, 0) == (0, 1)


def test_difference_of_shares_as_published() -> None:
    """Newcombe's example: 56 of 70 against 48 of 80 differ by 0.0524 to 0.3339."""
    assert share_difference(48, 80, 56, 70) == pytest.approx((0.0524, 0.3339), abs=5e-5)
