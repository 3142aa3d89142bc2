"""Arrivals that are made up: at a rate that may move, as bursty as one likes, of drawn lengths; all by a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import cos, inf, log, pi, sqrt
from random import Random

from inferry.core.limits import Priority
from inferry.simulate.arrivals import Arrival

RateAt = Callable[[float], float]
"""Requests per second at a time."""
Draw = Callable[[Random], int]
_LOOK_S = 1.0
"""A rate is taken to be constant for so long."""


def drawn(
    rate: float | RateAt,
    end_s: float,
    *,
    prompt: Draw,
    answer: Draw,
    cv: float = 1.0,
    seed: int = 0,
    tenant: str = "",
    deployment: str = "",
    priority: Priority = "normal",
) -> Iterator[Arrival]:
    """A renewal process up to `end_s`: gaps are Gamma's with the coefficient of variation `cv`; 1 is Poisson's, 0 even.

    Where the rate moves, time runs as fast as the rate: the law of the gaps stays, counted in expected requests.
    """
    rng = Random(f"{seed} arrivals")
    rate_at: RateAt = rate if callable(rate) else (lambda at_s: rate)
    for at_s in times(gaps(cv, rng), rate_at, end_s, step_s=_LOOK_S if callable(rate) else inf):
        yield Arrival(at_s, prompt(rng), answer(rng), (), tenant, deployment, None, priority)


def gaps(cv: float, rng: Random) -> Iterator[float]:
    """Gamma's, of mean 1."""
    if not cv:
        while True:
            yield 1.0
    shape = 1 / cv**2
    while True:
        yield rng.gammavariate(shape, 1 / shape)


def times(gaps: Iterator[float], rate_at: RateAt, end_s: float, *, step_s: float) -> Iterator[float]:
    """When they come, for gaps in expected requests; the rate is looked at every `step_s`."""
    at_s, until_s = 0.0, 0.0
    rate = 0.0
    for gap in gaps:
        left = gap
        while True:
            if at_s >= until_s:
                rate, until_s = rate_at(at_s), min(at_s + step_s, end_s)
            if rate > 0 and at_s + left / rate < until_s:
                at_s += left / rate
                break
            left -= rate * (until_s - at_s)
            at_s = until_s
            if at_s >= end_s:
                return
        yield at_s


# --- rates that move --------------------------------------------------------------------------------------


def ramp(points: Sequence[tuple[float, float]]) -> RateAt:
    """Straight lines between (at_s, rate); constant before the first and after the last."""

    def rate_at(at_s: float) -> float:
        before = points[0]
        for point in points:
            if at_s < point[0]:
                span_s = point[0] - before[0]
                share = (at_s - before[0]) / span_s if span_s > 0 else 1.0
                return before[1] + max(share, 0.0) * (point[1] - before[1])
            before = point
        return before[1]

    return rate_at


def steps(points: Sequence[tuple[float, float]]) -> RateAt:
    """From each (at_s, rate) on, that rate; 0 before the first."""

    def rate_at(at_s: float) -> float:
        rate = 0.0
        for begin_s, each in points:
            if at_s >= begin_s:
                rate = each
        return rate

    return rate_at


def diurnal(low: float, high: float, *, period_s: float = 86_400.0, peak_s: float = 54_000.0) -> RateAt:
    """A cosine between the two, highest at `peak_s` (15:00) of each period."""

    def rate_at(at_s: float) -> float:
        return low + (high - low) * (1 + cos(2 * pi * (at_s - peak_s) / period_s)) / 2

    return rate_at


# --- lengths ----------------------------------------------------------------------------------------------


def fixed(tokens: int) -> Draw:
    return lambda rng: tokens


def exponential(mean: float) -> Draw:
    """Geometric, that is: whole tokens, 1 or more, of this mean."""
    if mean <= 1:
        return fixed(1)
    per_log = 1 / log(1 - 1 / mean)
    return lambda rng: int(log(1 - rng.random()) * per_log) + 1


def lognormal(mean: float, cv: float) -> Draw:
    """Of this mean and coefficient of variation, 1 or more."""
    sigma2 = log(1 + cv**2)
    mu, sigma = log(mean) - sigma2 / 2, sqrt(sigma2)
    return lambda rng: max(round(rng.lognormvariate(mu, sigma)), 1)
