"""The highest load that one replica serves within an SLO."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .answers import Performance
from .architecture import Architecture
from .device import Device
from .load import Load, Slo
from .performance import predict
from .setup import Setup
from .step_time import NEUTRAL, SpeedFactors

_DOUBLINGS = 24
_BISECTIONS = 24
_SMALLEST_RATE = 0.01


@dataclass(frozen=True, slots=True)
class Capacity:
    """`load` is 0 where even the smallest load misses the SLO; `performance` is then of that smallest load."""

    load: float
    """Requests per second, or concurrent requests where the shape was given by concurrency."""
    performance: Performance
    limited_by: str
    """What a little more load would violate: TTFT, ITL, KV cache or max_num_seqs; nothing, where all of the range fits."""


def ttft_quantile_ms(performance: Performance, share: float) -> float:
    """TTFT that `share` of the requests stay below, by the law of the wait alone: an estimate, no fit.

    Open loop: of arrivals the share `prefill_busy` waits at all, exponentially long (heavy traffic, Kingman 1961). Other
    loads: the wait is spread evenly from none to twice its mean.
    """
    fixed_ms = performance.ttft_ms.value - performance.ttft_wait_ms
    busy = performance.prefill_busy
    if busy <= 0:
        return fixed_ms + 2 * share * performance.ttft_wait_ms
    if share <= 1 - busy:
        return fixed_ms
    return fixed_ms + performance.ttft_wait_ms / busy * math.log(busy / (1 - share))


def missed(performance: Performance, slo: Slo) -> str:
    """What of the SLO the prediction misses, or the limit at which requests have to wait for a slot; "" if nothing."""
    if slo.ttft_ms is not None and ttft_quantile_ms(performance, slo.percentile) > slo.ttft_ms:
        return "TTFT"
    if slo.itl_ms is not None and performance.itl_ms.value > slo.itl_ms:
        return "ITL"
    return performance.limited_by if performance.limited_by in ("KV cache", "max_num_seqs") else ""


def capacity(
    arch: Architecture,
    device: Device,
    setup: Setup,
    load_shape: Load,
    slo: Slo,
    *,
    factor: SpeedFactors = NEUTRAL,
) -> Capacity:
    """Highest requests/s, or concurrency if the shape sets it, within the SLO and with a slot for each request."""
    closed = load_shape.concurrency is not None

    def at(amount: float) -> Performance:
        rate = None if closed else amount
        load = replace(
            load_shape, concurrency=amount if closed else None, requests_per_s=rate, all_at_once=None
        )
        return predict(arch, device, setup, load, factor=factor)

    low = 1.0 if closed else _SMALLEST_RATE
    best = at(low)
    reason = missed(best, slo)
    if reason:
        return Capacity(0.0, best, reason)
    high = low
    for _ in range(_DOUBLINGS):
        high *= 2
        found = at(high)
        reason = missed(found, slo)
        if reason:
            break
        low, best = high, found
    else:
        return Capacity(low, best, "")
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        found = at(middle)
        if now := missed(found, slo):
            high, reason = middle, now
        else:
            low, best = middle, found
    return Capacity(low, best, reason)
