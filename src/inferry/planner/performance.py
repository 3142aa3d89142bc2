"""What one replica does under a load: TTFT, ITL and tokens per second, with the range that held-out cases stayed in.

Three kinds of load come down to one operating point: how many sequences decode at once, and how many wait for a slot.
"""

from __future__ import annotations

from dataclasses import dataclass

from inferry.core.errors import ConfigError

from .answers import Interval, Performance
from .architecture import Architecture
from .device import Device
from .first_token import burst_terms, first_token_terms
from .kv_cache import sequence_bytes
from .limits import limits_of
from .load import Load
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
    point = operating_point(times, load, slots_of(arch, device, setup, load))
    parts = step_parts(times, load, point.decodes)
    itl_ms = sum(parts.values())
    first = _ttft_parts_ms(times, load, point, itl_ms)
    ttft_ms = sum(first.values())
    requests = _requests_per_s(load, point, itl_ms, ttft_ms)
    groups = groups_of(device, setup)
    kind = "all at once" if load.all_at_once is not None else "saturated" if point.waiting else ""
    ranges = {name: table.residual(name, groups, kind) for name in ("step", "ttft", "rate")}
    return Performance(
        ttft_ms=_interval(ttft_ms, ranges["ttft"], factor.spread),
        itl_ms=_interval(itl_ms, ranges["step"], factor.spread),
        output_tokens_per_s=_interval(requests * load.output_tokens, ranges["rate"], factor.spread),
        requests_per_s=_interval(requests, ranges["rate"], factor.spread),
        running=point.decodes,
        queued=point.waiting,
        limited_by=point.limited_by,
        parts_ms=parts,
        ttft_wait_ms=sum(first.get(term, 0.0) for term in ("prefill_queue", "slot_wait", "intake")),
        prefill_busy=prefill_busy(times, load),
    )


def _interval(value: float, bounds: Residuals, spread: float | None) -> Interval:
    if spread is not None:
        return Interval(value, value * max(0.0, 1 - spread), value * (1 + spread))
    return Interval(value, value * bounds.low, value * bounds.high)


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
    parts = times.step_parts_ms(decodes, context, _prompt_tokens(load), prompts, min(1.0, prompts))
    if load.all_at_once is not None:
        parts["burst"] = times.constants["burst"] * decodes
    return parts


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
    """The smallest D with D = rate x output tokens x step(D), which is Little's law; none below the slots: saturated."""

    def excess(decodes: float) -> float:
        return decodes - rate * load.output_tokens * sum(step_parts(times, load, decodes).values()) / 1e3

    if excess(slots.count) < 0:
        return Point(slots.count, 0.0, slots.limited_by)
    low, high = 0.0, slots.count
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return Point(high, 0.0, "arrivals")


def _bound_by(times: StepTimes, load: Load, decodes: float) -> str:
    parts = step_parts(times, load, decodes)
    compute = parts["compute"] + parts.get("prefill", 0.0)
    return "compute" if compute > parts["weights"] + parts["experts"] + parts["kv"] else "bandwidth"


def _prompt_tokens(load: Load) -> float:
    return load.input_tokens * (1 - load.prefix_hit)


def prefill_busy(times: StepTimes, load: Load) -> float:
    """Share of the time that prefills take under an open loop."""
    each_ms = times.prefill_ms(_prompt_tokens(load))
    return min(_BUSY_MAX, (load.requests_per_s or 0.0) * each_ms / 1e3)


def _ttft_parts_ms(times: StepTimes, load: Load, point: Point, itl_ms: float) -> dict[str, float]:
    prefill_ms = times.prefill_ms(_prompt_tokens(load))
    cycle_ms = load.output_tokens * itl_ms
    constants = times.ttft_constants
    if load.requests_per_s is not None:
        # Pollaczek-Khinchine with equal prefills: arrivals are spread, so that the closed loop's queue does not form.
        busy = prefill_busy(times, load)
        terms = first_token_terms(itl_ms, prefill_ms, 1.0, prefill_ms * busy / (2 * (1 - busy)))
    elif load.all_at_once is not None:
        terms = burst_terms(prefill_ms, cycle_ms, point.decodes, point.waiting)
        constants = times.burst_constants
    else:
        slot_wait_ms = cycle_ms * point.waiting / point.decodes
        terms = first_token_terms(itl_ms, prefill_ms, point.decodes, slot_wait_ms)
    return {term: constants[term] * ideal for term, ideal in terms.items()}


def _requests_per_s(load: Load, point: Point, itl_ms: float, ttft_ms: float) -> float:
    cycle_ms = load.output_tokens * itl_ms
    if load.all_at_once is not None:
        # Answers differ in length: when the last ones start, one more cycle runs empty.
        return 1e3 * load.all_at_once / (cycle_ms * (load.all_at_once / point.decodes + 1))
    if load.requests_per_s is not None and point.limited_by == "arrivals":
        return load.requests_per_s
    if point.waiting or load.requests_per_s is not None:
        return 1e3 * point.decodes / cycle_ms
    # Little's law over all that are in the system.
    return 1e3 * point.decodes / (ttft_ms + cycle_ms - itl_ms)
