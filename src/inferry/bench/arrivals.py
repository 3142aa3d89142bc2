"""When requests are due: an absolute schedule, so that no delay of a client moves what comes after it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from random import Random

from inferry.bench.chance import stream
from inferry.bench.plan import Arrivals, Closed, Constant, Gamma, Poisson, Ramp, Steps, TraceTimes
from inferry.core.errors import BadBenchPlan

Scheduled = Constant | Poisson | Gamma | Ramp | Steps
"""Those that know their times before anybody has been asked."""


def due_times(arrivals: Scheduled, duration_s: float, seed: int) -> Iterator[float]:
    """Seconds since the run's start, rising, all below `duration_s`; the same for the same arguments everywhere.

    A higher rate gives the same pattern, faster: draws depend on the seed alone. Raises BadBenchPlan at once.
    """
    check_arrivals(arrivals)
    return _below(_times(arrivals, duration_s, stream(seed, "arrivals")), duration_s)


def _times(arrivals: Scheduled, duration_s: float, chance: Random) -> Iterator[float]:
    match arrivals:
        case Constant(rate):
            # A product, not a sum: a sum of rounded gaps is off by microseconds after a million of them.
            return (number / rate for number in count())
        case Poisson(rate):
            return (units / rate for units in _unit_events(chance))
        case Gamma(rate, burstiness):
            return _gamma(chance, rate, burstiness)
        case Ramp(from_rate, to_rate):
            return _ramp(chance, from_rate, to_rate, duration_s)
        case Steps(steps):
            return _steps(chance, steps)


def check_arrivals(arrivals: Arrivals) -> None:
    """Raises BadBenchPlan for what makes no sense: the field, its value, and what it may be."""
    match arrivals:
        case Constant(rate) | Poisson(rate):
            _positive("rate", rate)
        case Gamma(rate, burstiness):
            _positive("rate", rate)
            _positive("burstiness", burstiness)
        case Closed(concurrency):
            if concurrency < 1:
                raise BadBenchPlan(f"concurrency is {concurrency}: it must be 1 or more", param="concurrency")
        case Ramp(from_rate, to_rate):
            _not_negative("from_rate", from_rate)
            _not_negative("to_rate", to_rate)
            _positive("the higher rate of the ramp", max(from_rate, to_rate))
        case Steps(steps):
            if not steps:
                raise BadBenchPlan("steps are empty: give at least one rate and its seconds", param="steps")
            for rate, seconds in steps:
                _not_negative("a step's rate", rate)
                _positive("a step's length in seconds", seconds)
        case TraceTimes(speed):
            _positive("speed", speed)


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise BadBenchPlan(f"{name} is {value:g}: it must be above 0", param=name)


def _not_negative(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise BadBenchPlan(f"{name} is {value:g}: it must be 0 or more", param=name)


def _below(times: Iterator[float], duration_s: float) -> Iterator[float]:
    for time_s in times:
        if time_s >= duration_s:
            return
        yield time_s


def _unit_events(chance: Random) -> Iterator[float]:
    """A Poisson process with one event per unit."""
    at = 0.0
    while True:
        at += chance.expovariate(1.0)
        yield at


def _gamma(chance: Random, rate: float, burstiness: float) -> Iterator[float]:
    """Gaps of mean 1 / rate and coefficient of variation 1 / sqrt(burstiness): 4 halves Poisson's."""
    at = 0.0
    while True:
        at += chance.gammavariate(burstiness, 1 / burstiness)
        yield at / rate


def _ramp(chance: Random, from_rate: float, to_rate: float, duration_s: float) -> Iterator[float]:
    """A unit process, through the inverse of how many are expected until t: from_rate t + (to_rate - from_rate)
    t^2 / (2 duration). From 0 to 10 per second in 10 s, 50 are expected, and the 12.5th comes after 5 s.

    The inverse is written with its root below: near equal rates the usual form would lose all digits.
    """
    for units in _unit_events(chance):
        under_root = from_rate**2 + 2 * (to_rate - from_rate) * units / duration_s
        if under_root < 0:  # downwards, and more than are expected before the rate is 0
            return
        yield 2 * units / (from_rate + math.sqrt(under_root))


def _steps(chance: Random, steps: tuple[tuple[float, float], ...]) -> Iterator[float]:
    """A unit process, through the inverse of how many are expected until t: a line per step."""
    events = _unit_events(chance)
    units = next(events)
    begin_s = units_before = 0.0
    for rate, seconds in steps:
        units_after = units_before + rate * seconds
        while units < units_after:
            yield begin_s + (units - units_before) / rate
            units = next(events)
        begin_s, units_before = begin_s + seconds, units_after
