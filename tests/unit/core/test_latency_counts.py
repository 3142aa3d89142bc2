"""Durations, counted: percentiles near the truth, sums and differences exact."""

from __future__ import annotations

import random

from inferry.core.latency_counts import LatencyCounts, bucket_of, middle_s


def _counted(durations_s: list[float]) -> LatencyCounts:
    counts = LatencyCounts()
    for duration_s in durations_s:
        counts.observe(duration_s)
    return counts


def test_percentiles_are_within_4_percent() -> None:
    """Of durations over five orders of magnitude, each percentile is read to within 4 %."""
    rng = random.Random(7)
    durations_s = sorted(0.001 * 10 ** rng.uniform(0, 5) for _ in range(5_000))
    counts = _counted(durations_s)
    for share in (0.01, 0.5, 0.9, 0.95, 0.99):
        true_s = durations_s[int(share * len(durations_s)) - 1]
        read_s = counts.quantile_s(share)
        assert read_s is not None
        assert abs(read_s / true_s - 1) < 0.041, share


def test_difference_is_what_came_since() -> None:
    """Counts less what was there before are those of the durations in between."""
    before = _counted([0.1, 0.2, 3.0])
    after = before.copy()
    later = [0.1, 0.1, 9.0]
    for duration_s in later:
        after.observe(duration_s)
    assert after.since(before).counts == _counted(later).counts
    assert after.since(after).total == 0


def test_counts_that_began_anew_are_all_new() -> None:
    """A process that was restarted counts from 0: what it has is what came since."""
    before, anew = _counted([0.1, 0.1, 0.2]), _counted([0.1])
    assert anew.since(before).counts == anew.counts
    assert _counted([5.0]).since(before).counts == _counted([5.0]).counts


def test_share_above_a_threshold() -> None:
    """What is in later buckets than the threshold's own counts as above it."""
    counts = _counted([0.5, 1.0, 2.0, 4.0])
    assert counts.share_above(1.5) == 0.5
    assert counts.share_above(100.0) == 0
    assert LatencyCounts().share_above(1.0) is None
    assert LatencyCounts().quantile_s(0.5) is None


def test_buckets_hold_what_falls_into_them() -> None:
    """A bucket's middle is in that bucket, for each one that a day of waiting could reach."""
    for bucket in range(bucket_of(86_400.0) + 1):
        assert bucket_of(middle_s(bucket)) == bucket
