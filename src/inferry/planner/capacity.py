"""How near a load is to an SLO, and the highest load that one replica serves within it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .answers import Interval, Performance
from .load import Load, Slo

SERVED_LEAST = 0.98
"""An open load counts as served if so much of it comes out: the rest is rounding of the prediction."""
FINE, NEAR = 1.03, 0.985
"""The search for a capacity ends 3 % apart, or so near to the SLO: finer than any prediction."""
LOWEST = 1e-3
"""Of the highest load: an open loop that misses the SLO even there, misses it at any."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """The most that one replica does within the SLO; zeros where it keeps the SLO at no load."""

    concurrency: int
    """Requests under way at once."""
    requests_per_s: float
    output_tokens_per_s: float


NO_CAPACITY = Capacity(0, 0.0, 0.0)


def ttft_quantile_ms(performance: Performance, share: float) -> float:
    """TTFT that `share` of the requests stay below, by the law of the wait alone: an estimate, no fit. Infinite where a
    queue only grows; of half of the requests or more never below the mean, since what is no wait varies as well.

    Open loop: of arrivals the share `prefill_busy` waits at all, exponentially long (heavy traffic, Kingman 1961). Other
    loads: the wait is spread evenly from none to twice its mean.
    """
    mean_ms = performance.ttft_ms.value
    if not math.isfinite(mean_ms):
        return math.inf
    return max(_waited_ms(performance, share), mean_ms if share >= 0.5 else 0.0)


def _waited_ms(performance: Performance, share: float) -> float:
    fixed_ms = performance.ttft_ms.value - performance.ttft_wait_ms
    busy = performance.prefill_busy
    if busy <= 0:
        return fixed_ms + 2 * share * performance.ttft_wait_ms
    if share <= 1 - busy:
        return fixed_ms
    return fixed_ms + performance.ttft_wait_ms / busy * math.log(busy / (1 - share))


def ttft_quantile(performance: Performance, share: float) -> Interval:
    """With the mean's relative range: the law says nothing of its own error."""
    mean, at_share = performance.ttft_ms, ttft_quantile_ms(performance, share)
    if not math.isfinite(at_share) or mean.value <= 0:
        return Interval(at_share, mean.low, math.inf, mean.coverage)
    times = at_share / mean.value
    return Interval(at_share, mean.low * times, mean.high * times, mean.coverage)


def queue_grows(found: Performance, load: Load) -> bool:
    """More requests arrive than are served: the longer it runs, the longer they wait."""
    if load.requests_per_s is None:
        return False
    return math.isinf(found.queued) or found.requests_per_s.value < SERVED_LEAST * load.requests_per_s


def strain(found: Performance, load: Load, slo: Slo, *, high: bool = False) -> float:
    """The worst of predicted to allowed; at most 1 keeps the SLO. `high`: at the far end of the ranges.

    TTFT of the SLO's share of requests; ITL, a mean over each answer, where there is any after the first token. Of an
    open load that is not served, what is asked to what comes out; of a closed one, how many there are to how many are
    computed at once: what waits for a place is not promised.
    """
    parts = [0.0]
    if slo.itl_ms is not None and load.output_tokens > 1:
        parts.append((found.itl_ms.high if high else found.itl_ms.value) / slo.itl_ms)
    if queue_grows(found, load):
        assert load.requests_per_s is not None
        parts.append(load.requests_per_s / max(SERVED_LEAST * found.requests_per_s.value, 1e-9))
        parts.append(1 / SERVED_LEAST)
        return max(parts)  # TTFT has no bound then: how far it is from being served says more
    if slo.ttft_ms is not None:
        ttft = ttft_quantile(found, slo.percentile)
        parts.append((ttft.high if high else ttft.value) / slo.ttft_ms)
    if load.requests_per_s is None and found.queued >= 1:
        parts.append((found.running + found.queued) / found.running)
    return max(parts)


def capacity_of(look: Callable[[float], tuple[Performance, float]], most: float, *, whole: bool) -> Capacity:
    """The highest of the loads up to `most` whose strain, as `look` says, is at most 1; `whole`: they are counts.

    By false position, since TTFT and ITL grow about evenly with the load. Every second step halves instead, since a
    cache that runs full makes them jump.
    """
    low = min(1.0, most) if whole else most * LOWEST
    best, low_strain = look(low)
    if low_strain > 1:
        return NO_CAPACITY
    found, high_strain = look(most)
    if high_strain <= 1:
        return _capacity(found, most, whole=whole)
    high = most
    halving = False
    while (high - low > 1 or not whole) and high > FINE * low and low_strain < NEAR:
        part = 0.5 if halving else (1 - low_strain) / (high_strain - low_strain)
        middle = low + part * (high - low)
        if whole:
            middle = min(max(round(middle), low + 1), high - 1)
        halving = not halving
        found, at_middle = look(middle)
        if at_middle <= 1:
            best, low, low_strain = found, middle, at_middle
        else:
            high, high_strain = middle, at_middle
    return _capacity(best, low, whole=whole)


def _capacity(found: Performance, load: float, *, whole: bool) -> Capacity:
    """Of a closed loop the load is how many are under way; of an open one, the prediction says it."""
    at_once = round(load if whole else found.running)
    return Capacity(max(at_once, 1), found.requests_per_s.value, found.output_tokens_per_s.value)
