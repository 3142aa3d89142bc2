"""Percentiles of simulations are read finely from few counts."""

from __future__ import annotations

from random import Random

import pytest

from inferry.simulate.fine_counts import FineCounts

SHARES = (0.5, 0.9, 0.95, 0.99)


def test_percentiles_are_within_half_a_percent_and_the_mean_is_exact() -> None:
    """Against the sorted durations, over five orders of magnitude."""
    rng = Random(1)
    durations_s = [rng.lognormvariate(0.0, 2.0) for _ in range(5000)]
    counts = FineCounts()
    for each in durations_s:
        counts.observe(each)
    ordered = sorted(durations_s)
    exact = [ordered[-int(-share * len(ordered) // 1) - 1] for share in SHARES]
    assert counts.quantiles_s(SHARES) == pytest.approx(exact, rel=0.005)
    assert counts.mean_s() == pytest.approx(sum(durations_s) / 5000)


def test_no_wait_is_no_wait_and_nothing_is_nothing() -> None:
    """0 stays 0, and without durations there is no percentile."""
    counts = FineCounts()
    assert counts.quantiles_s(SHARES) == [None] * 4
    assert counts.mean_s() is None
    for _ in range(99):
        counts.observe(0.0)
    counts.observe(1.0)
    assert counts.quantiles_s(SHARES) == [0.0] * 4
