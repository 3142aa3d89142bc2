"""What one replica does under a load: TTFT, ITL and tokens per second, with the range that held-out cases stayed in.

Three kinds of load come down to one operating point: how many sequences decode at once, and how many wait for a slot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from inferry.core.errors import ConfigError

from .answers import Interval, Performance
from .architecture import Architecture
from .burst_speed import burst_of, burst_parts, burst_requests_per_s, burst_ttft_parts_ms
from .device import Device
from .first_token import first_token_terms
from .kv_cache import sequence_bytes
from .limits import limits_of
from .load import Load, prompt_tokens
from .memory import plan_memory
from .setup import Setup
from .speed_facts import Residuals, SpeedConstants, groups_of, shipped_speed_constants
from .step_time import NEUTRAL, SpeedFactors, StepTimes, step_times
from .step_work import step_model

_LIVE_SHARE = 0.6
"""Of its output, what a running sequence holds on average, and a little more: engines preempt before they are full."""
_BISECTIONS = 40
_BUSY_MAX = 0.95
"""Above this share of time spent on prefills, the queue law's mean has no meaning."""


@dataclass(frozen=True, slots=True)
class Slots:
    """How many sequences may run at once, and which limit says so."""

    count: float
    limited_by: str


@dataclass(frozen=True, slots=True)
class Point:
    """A steady state: `decodes` run, `waiting` requests have no slot."""

    decodes: float
    waiting: float
    limited_by: str


def predict(
    arch: Architecture,
    device: Device,
    setup: Setup,
    load: Load,
    *,
    factor: SpeedFactors = NEUTRAL,
    constants: SpeedConstants | None = None,
) -> Performance:
    """One replica under `load`. Raises ConfigError where the load is not exactly one of the three kinds.

    `constants`: others than those that ship, which is how models are left out when accuracy is measured.
    """
    table = shipped_speed_constants() if constants is None else constants
    times = step_times(step_model(arch, device, setup), table, factor)
    slots = slots_of(arch, device, setup, load)
    point = operating_point(times, load, slots)
    rush = burst_of(arch, device, setup, load, slots.count)
    if rush is None:
        parts = step_parts(times, load, point.decodes)
        itl_ms = sum(parts.values())
        first = _ttft_parts_ms(times, load, point, itl_ms)
        requests = _requests_per_s(load, point, itl_ms, sum(first.values()))
    else:
        parts = burst_parts(times, load, rush)
        itl_ms = sum(parts.values())
        first = burst_ttft_parts_ms(times, load, rush)
        requests = burst_requests_per_s(times, load, rush, itl_ms)
    ttft_ms = math.inf if math.isinf(point.waiting) else sum(first.values())
    groups = groups_of(device, setup)
    kind = "all at once" if load.all_at_once is not None else "saturated" if point.waiting else ""
    ranges = {name: table.residual(name, groups, kind) for name in ("step", "ttft", "rate")}
    decodes = point.decodes if rush is None else rush.token.decodes
    step_least_ms = times.least_step_ms(decodes, load.input_tokens)
    most = 1e3 * point.decodes / step_least_ms / load.output_tokens
    if load.requests_per_s is not None:
        most = min(most, load.requests_per_s)
    rate = _interval(requests, ranges["rate"], factor.spread, most=most)
    return Performance(
        ttft_ms=_interval(
            ttft_ms, ranges["ttft"], factor.spread, least=times.least_prefill_ms(prompt_tokens(load))
        ),
        itl_ms=_interval(itl_ms, ranges["step"], factor.spread, least=step_least_ms),
        output_tokens_per_s=_times(rate, load.output_tokens),
        requests_per_s=rate,
        running=point.decodes,
        queued=point.waiting,
        limited_by=point.limited_by,
        parts_ms=parts,
        ttft_wait_ms=sum(first.get(term, 0.0) for term in ("prefill_queue", "slot_wait", "intake")),
        prefill_busy=prefill_busy(times, load),
    )


def _interval(
    value: float, bounds: Residuals, spread: float | None, *, least: float = 0.0, most: float = math.inf
) -> Interval:
    """`least` and `most`: what the device's own peaks rule out, unless the value itself lies beyond."""
    if spread is not None:
        return Interval(value, value * max(0.0, 1 - spread), value * (1 + spread))
    low, high = max(value * bounds.low, least), min(value * bounds.high, most)
    return Interval(value, min(value, low), max(value, high))


def _times(interval: Interval, factor: float) -> Interval:
    low, high = interval.low * factor, interval.high * factor
    return replace(interval, value=interval.value * factor, low=low, high=high)


def slots_of(arch: Architecture, device: Device, setup: Setup, load: Load) -> Slots:
    """How many sequences of that shape run at once, by the KV cache and by the engine's own limit."""
    held = sequence_bytes(arch, setup, load.input_tokens + _LIVE_SHARE * load.output_tokens)
    by_memory = max(1.0, setup.data_parallel * plan_memory(arch, device, setup).kv / held)
    by_limit = float(limits_of(arch, device, setup).sequences * setup.data_parallel)
    return Slots(by_memory, "KV cache") if by_memory < by_limit else Slots(by_limit, "max_num_seqs")


def step_parts(times: StepTimes, load: Load, decodes: float) -> dict[str, float]:
    """A mean step in ms, by cause. Per output token of each stream, one 1/output share of a prompt is prefilled; the
    stages of a pipeline do that side by side."""
    prompts = decodes / load.output_tokens / times.model.setup.pipeline_parallel
    context = load.input_tokens + load.output_tokens / 2
    return times.step_parts_ms(decodes, context, prompt_tokens(load), prompts, min(1.0, prompts))


def operating_point(times: StepTimes, load: Load, slots: Slots) -> Point:
    asked = (load.concurrency, load.requests_per_s, load.all_at_once)
    if sum(one is not None for one in asked) != 1:
        raise ConfigError("load: give exactly one of concurrency, requests_per_s and all_at_once.")
    if load.requests_per_s is not None:
        return _open_loop(times, load, load.requests_per_s, slots)
    at_once = float(load.all_at_once or 0) if load.concurrency is None else load.concurrency
    decodes = min(at_once, slots.count)
    waiting = at_once - decodes
    return Point(decodes, waiting, slots.limited_by if waiting else _bound_by(times, load, decodes))


def _open_loop(times: StepTimes, load: Load, rate: float, slots: Slots) -> Point:
    """The smallest D with D = rate x output tokens x step(D), which is Little's law; none below the slots: the queue grows
    without end."""

    def excess(decodes: float) -> float:
        return decodes - rate * load.output_tokens * sum(step_parts(times, load, decodes).values()) / 1e3

    if excess(slots.count) < 0:
        return Point(slots.count, math.inf, slots.limited_by)
    low, high = 0.0, slots.count
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return Point(high, 0.0, "arrivals")


def _bound_by(times: StepTimes, load: Load, decodes: float) -> str:
    parts = step_parts(times, load, decodes)
    compute = parts["compute"] + parts.get("prefill", 0.0)
    return "compute" if compute > parts["weights"] + parts["experts"] + parts["kv"] else "bandwidth"


def prefill_busy(times: StepTimes, load: Load) -> float:
    """Share of the time that prefills take under an open loop."""
    each_ms = times.prefill_ms(prompt_tokens(load))
    return min(_BUSY_MAX, (load.requests_per_s or 0.0) * each_ms / 1e3)


def _ttft_parts_ms(times: StepTimes, load: Load, point: Point, itl_ms: float) -> dict[str, float]:
    prefill_ms = times.prefill_ms(prompt_tokens(load))
    cycle_ms = load.output_tokens * itl_ms
    constants = times.ttft_constants
    if load.requests_per_s is not None:
        # Pollaczek-Khinchine with equal prefills: arrivals are spread, so that the closed loop's queue does not form.
        busy = prefill_busy(times, load)
        terms = first_token_terms(itl_ms, prefill_ms, 1.0, prefill_ms * busy / (2 * (1 - busy)))
    else:
        slot_wait_ms = cycle_ms * point.waiting / point.decodes
        terms = first_token_terms(itl_ms, prefill_ms, point.decodes, slot_wait_ms)
    return {term: constants[term] * ideal for term, ideal in terms.items()}


def _requests_per_s(load: Load, point: Point, itl_ms: float, ttft_ms: float) -> float:
    cycle_ms = load.output_tokens * itl_ms
    if load.requests_per_s is not None and point.limited_by == "arrivals":
        return load.requests_per_s
    if point.waiting or load.requests_per_s is not None:
        return 1e3 * point.decodes / cycle_ms
    # Little's law over all that are in the system.
    return 1e3 * point.decodes / (ttft_ms + cycle_ms - itl_ms)
