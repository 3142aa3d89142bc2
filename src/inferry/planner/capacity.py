"""The highest load that one replica serves within an SLO."""

from __future__ import annotations

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
_TAIL = 1.0
"""Quantile over mean is asked of the SLO's bound; see `meets`."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """`load` is 0 where even the smallest load misses the SLO; `performance` is then of that smallest load."""

    load: float
    """Requests per second, or concurrent requests where the shape was given by concurrency."""
    performance: Performance
    limited_by: str


def meets(performance: Performance, slo: Slo) -> bool:
    """Whether the predicted means stay within the bounds; percentile tails come by `ttft_tail`."""
    ttft_ok = slo.ttft_ms is None or performance.ttft_ms.value <= slo.ttft_ms
    itl_ok = slo.itl_ms is None or performance.itl_ms.value <= slo.itl_ms
    return ttft_ok and itl_ok and performance.limited_by not in ("KV cache", "max_num_seqs")


def capacity(
    arch: Architecture,
    device: Device,
    setup: Setup,
    load_shape: Load,
    slo: Slo,
    *,
    factor: SpeedFactors = NEUTRAL,
) -> Capacity:
    """Highest requests/s (or concurrency, if the shape sets it) that meets the SLO and leaves no request without a slot."""
    closed = load_shape.concurrency is not None

    def at(amount: float) -> Performance:
        load = (
            replace(load_shape, concurrency=amount)
            if closed
            else replace(load_shape, concurrency=None, all_at_once=None, requests_per_s=amount)
        )
        return predict(arch, device, setup, load, factor=factor)

    low = 1.0 if closed else 0.01
    best = at(low)
    if not meets(best, slo):
        return Capacity(0.0, best, _missed(best, slo))
    high = low
    for _ in range(_DOUBLINGS):
        high *= 2
        tried = at(high)
        if not meets(tried, slo):
            break
        low, best = high, tried
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        answer = at(middle)
        if meets(answer, slo):
            low, best = middle, answer
        else:
            high, tried = middle, answer
    return Capacity(low, best, _missed(tried, slo))


def _missed(performance: Performance, slo: Slo) -> str:
    if slo.ttft_ms is not None and performance.ttft_ms.value > slo.ttft_ms:
        return "TTFT"
    if slo.itl_ms is not None and performance.itl_ms.value > slo.itl_ms:
        return "ITL"
    return performance.limited_by
