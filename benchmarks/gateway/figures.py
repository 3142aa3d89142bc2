"""The arithmetic: costs of one round, the best and the middle over rounds, and what is compared with what. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

RUST_ROUTERS = ("sglang-router", "vllm-router")


def per_request_us(cpu_s: float, requests: int) -> float:
    """CPU us for each of `requests`. 0.3 s for 10,000 are 30 us."""
    return cpu_s / requests * 1e6


def per_token_us(
    short_cpu_s: float, long_cpu_s: float, streams: int, short_tokens: int, long_tokens: int
) -> float:
    """CPU us per token: the slope from short to long streams, in which the cost of a request cancels.

    100 streams of 20 tokens for 0.05 s and of 320 for 0.35 s: 10 us.
    """
    return (long_cpu_s - short_cpu_s) / (streams * (long_tokens - short_tokens)) * 1e6


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one contender. Times are CPU, in us; `control_*`: of processes that serve no request."""

    request_us: float
    control_request_us: float
    half_load_request_us: float
    """At half of the contender's own requests/s: more wake-ups, each with less to do."""
    token_us: float
    control_token_us: float
    short_stream_us: float
    requests_per_s: float
    busy: float
    """CPU s per s of the serving processes while saturated: below 0.9, something else was the bottleneck."""
    token_busy: float
    """The same during the long streams; near 1, tokens arrive in heaps and look cheaper than they are."""
    added_p50_us: float
    added_p99_us: float
    direct_p99_us: float


@dataclass(frozen=True, slots=True)
class Figures:
    """A contender over all rounds: the best of each figure, and the middle."""

    best: Sample
    median: Sample
    rounds: int


_MORE_IS_BETTER = {"requests_per_s", "busy"}


def summarize(samples: Sequence[Sample]) -> Figures:
    """The minimum of each figure (the maximum of requests_per_s and busy), and the median; needs one sample."""
    best, median = {}, {}
    for each in fields(Sample):
        values = [getattr(sample, each.name) for sample in samples]
        best[each.name] = max(values) if each.name in _MORE_IS_BETTER else min(values)
        median[each.name] = statistics.median(values)
    return Figures(Sample(**best), Sample(**median), len(samples))


@dataclass(frozen=True, slots=True)
class Ratio:
    """Inferry's figure against another's. `most` None: for information, without a target."""

    what: str
    against: str
    value: float
    most: float | None

    @property
    def met(self) -> bool | None:
        return None if self.most is None else self.value <= self.most


def ratios(figures: Mapping[str, Figures]) -> list[Ratio]:
    """What can be compared of what took part; empty without Inferry."""
    if "inferry" not in figures:
        return []
    ours = figures["inferry"].best
    best = {name: each.best for name, each in figures.items() if name != "inferry"}
    found: list[Ratio] = []

    def compare(what: str, names: Sequence[str], most: float | None) -> None:
        there = [name for name in names if name in best]
        if there:
            name = min(there, key=lambda name: getattr(best[name], what))
            found.append(Ratio(what, name, getattr(ours, what) / getattr(best[name], what), most))

    compare("request_us", RUST_ROUTERS, 0.7)
    compare("token_us", RUST_ROUTERS, 0.8)
    compare("request_us", ["litellm"], 1 / 50)
    compare("token_us", ["litellm"], 1 / 50)
    compare("request_us", ["nginx"], None)
    compare("token_us", ["nginx"], 1.6)
    compare("request_us", ["smg"], None)
    compare("token_us", ["smg"], None)
    return found


ADDED_P99_MAX_US = 2000.0
"""Inferry's target for what it adds at half load."""


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Least-squares slope of ys over xs."""
    return statistics.linear_regression(xs, ys).slope
