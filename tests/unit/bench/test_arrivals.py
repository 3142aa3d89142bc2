"""Schedules: absolute, seeded, of the rate and the unevenness that they were asked for."""

from __future__ import annotations

import statistics
import subprocess
import sys
from itertools import pairwise

import pytest

from inferry.bench.arrivals import Scheduled, check_arrivals, due_times
from inferry.bench.plan import Arrivals, Closed, Constant, Gamma, Poisson, Ramp, Steps, TraceTimes
from inferry.core.errors import BadBenchPlan


def gaps(arrivals: Scheduled, duration_s: float, seed: int = 1) -> list[float]:
    return [after - before for before, after in pairwise(due_times(arrivals, duration_s, seed))]


def test_constant_is_constant() -> None:
    """20 per second for 30 s are 600 requests, the last as exactly on its time as the first."""
    times = list(due_times(Constant(20), 30, seed=1))
    assert times == [number / 20 for number in range(600)]


def test_poisson_has_the_rate_and_the_unevenness() -> None:
    """Exponential gaps: mean 1 / rate, and a deviation as large as the mean."""
    found = gaps(Poisson(50), 400)
    assert statistics.mean(found) == pytest.approx(1 / 50, rel=0.02)
    assert statistics.stdev(found) / statistics.mean(found) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("burstiness", "variation"), [(0.25, 2.0), (1, 1.0), (4, 0.5)])
def test_gamma_keeps_the_rate_and_changes_the_unevenness(burstiness: float, variation: float) -> None:
    """The gaps' coefficient of variation is 1 / sqrt(burstiness), at the same rate."""
    found = gaps(Gamma(50, burstiness), 400)
    assert statistics.mean(found) == pytest.approx(1 / 50, rel=0.05)
    assert statistics.stdev(found) / statistics.mean(found) == pytest.approx(variation, rel=0.05)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(0, 100), (100, 0), (20, 80), (50, 50)])
def test_a_ramp_goes_evenly_from_one_rate_to_the_other(from_rate: float, to_rate: float) -> None:
    """Each tenth of the run has as many requests as the rate in its middle says."""
    times = list(due_times(Ramp(from_rate, to_rate), 400, seed=3))
    for tenth in range(10):
        middle = from_rate + (to_rate - from_rate) * (tenth + 0.5) / 10
        found = sum(tenth * 40 <= time < tenth * 40 + 40 for time in times)
        assert found == pytest.approx(middle * 40, abs=5 * (middle * 40) ** 0.5)


def test_steps_follow_each_other() -> None:
    """Each rate for its seconds, a pause where it is 0, and nothing after the last one."""
    times = list(due_times(Steps(((10, 100), (0, 50), (40, 100))), 1000, seed=2))
    assert sum(time < 100 for time in times) == pytest.approx(1000, abs=5 * 1000**0.5)
    assert not [time for time in times if 100 <= time < 150]
    assert sum(time >= 150 for time in times) == pytest.approx(4000, abs=5 * 4000**0.5)
    assert times[-1] < 250


ALL: list[Scheduled] = [
    Constant(7),
    Poisson(7),
    Gamma(7, 0.3),
    Ramp(0, 14),
    Ramp(14, 1),
    Steps(((7, 3), (70, 1))),
]


@pytest.mark.parametrize("arrivals", ALL, ids=lambda each: type(each).__name__)
def test_times_rise_within_the_duration(arrivals: Scheduled) -> None:
    """In order, from 0, below the end; and there are some."""
    times = list(due_times(arrivals, 5, seed=4))
    assert len(times) > 5
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] < 5


def test_every_process_has_the_same_schedule() -> None:
    """Another Python process, with other hashes, draws the same times; another seed draws others."""
    here = list(due_times(Poisson(20), 2, seed=9))
    code = (
        "from inferry.bench.arrivals import due_times; from inferry.bench.plan import Poisson;"
        "print([*due_times(Poisson(20), 2, seed=9)])"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str(here)
    assert list(due_times(Poisson(20), 2, seed=10)) != here


def test_a_higher_rate_is_the_same_pattern_faster() -> None:
    """Runs at two rates with one seed differ in the rate alone."""
    slow, fast = list(due_times(Poisson(10), 20, seed=5)), list(due_times(Poisson(20), 10, seed=5))
    assert fast == pytest.approx([time / 2 for time in slow])


@pytest.mark.parametrize(
    ("arrivals", "words"),
    [
        (Constant(0), "rate is 0: it must be above 0"),
        (Poisson(-1), "rate is -1"),
        (Poisson(float("nan")), "rate is nan"),
        (Constant(float("inf")), "rate is inf"),
        (Gamma(1, 0), "burstiness is 0"),
        (Ramp(-1, 1), "from_rate is -1: it must be 0 or more"),
        (Ramp(0, 0), "the higher rate of the ramp is 0"),
        (Steps(()), "steps are empty"),
        (Steps(((1, 0),)), "a step's length in seconds is 0"),
        (Closed(0), "concurrency is 0: it must be 1 or more"),
        (TraceTimes(0), "speed is 0"),
    ],
)
def test_what_makes_no_sense_is_refused(arrivals: Arrivals, words: str) -> None:
    """The error names the field, its value, and what it may be."""
    with pytest.raises(BadBenchPlan) as caught:
        check_arrivals(arrivals)
    assert words in caught.value.message


def test_a_bad_schedule_is_refused_at_once() -> None:
    """Not when the first time is drawn, in another process perhaps."""
    with pytest.raises(BadBenchPlan):
        due_times(Poisson(0), 1, seed=0)
