"""What one replica does under a load: TTFT, ITL and tokens per second, with the range that held-out cases stayed in.

Three kinds of load (PLANNING: closed loop, open loop, all at once) come down to one operating point: how many sequences
decode at once, and how many wait for a slot.
"""

from __future__ import annotations

from dataclasses import dataclass

from inferry.core.errors import ConfigError

from .answers import Interval, Performance
from .architecture import Architecture
from .device import Device
from .first_token import first_token_terms
from .load import Load
from .setup import Setup
from .speed_facts import Residuals, SpeedConstants, shipped_speed_constants
from .step_time import NEUTRAL, SpeedFactors, StepTimes, step_times
from .step_work import kv_read_bytes, step_model

_BISECTIONS = 40


@dataclass(frozen=True, slots=True)
class _Point:
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
    """One replica under `load`. Raises ConfigError where the load is not one of the three kinds."""
    table = shipped_speed_constants() if constants is None else constants
    times = step_times(step_model(arch, device, setup), table, factor)
    slots, slot_reason = slots_of(times, load)
    point = _operating_point(times, load, slots, slot_reason)
    parts = _step_parts(times, load, point.decodes)
    itl = sum(parts.values())
    ttft = _ttft_ms(times, load, point, itl)
    service_ms = ttft + itl * max(load.output_tokens - 1, 0)
    in_flight = point.decodes + point.waiting
    if load.requests_per_s is not None and point.limited_by == "arrivals":
        requests = load.requests_per_s
    elif load.all_at_once is not None:
        requests = _burst_rate(load, point, itl, ttft, times)
    else:
        requests = 1e3 * in_flight / service_ms
    engine = setup.engine
    return Performance(
        ttft_ms=_interval(ttft, table.residual("ttft", engine)),
        itl_ms=_interval(itl, table.residual("step", engine)),
        output_tokens_per_s=_interval(requests * load.output_tokens, table.residual("rate", engine)),
        requests_per_s=_interval(requests, table.residual("rate", engine)),
        running=point.decodes,
        queued=point.waiting,
        limited_by=point.limited_by,
        parts_ms=parts,
    )


def _interval(value: float, bounds: Residuals) -> Interval:
    return Interval(value, value * bounds.low, value * bounds.high)


def slots_of(times: StepTimes, load: Load) -> tuple[float, str]:
    """How many sequences of that shape may run at once, and which limit says so."""
    model = times.model
    fraction = model.setup.memory_fraction or 0.9
    free = fraction * model.device.usable_bytes - model.fixed_bytes - model.expert_bytes - 3e9
    each = kv_read_bytes(model, load.input_tokens + load.output_tokens / 2)
    by_memory = max(1.0, model.ranks * free / each)
    by_setting = float(model.setup.max_sequences or 256) * model.ranks
    return (by_memory, "KV cache") if by_memory < by_setting else (by_setting, "max_num_seqs")


def _step_parts(times: StepTimes, load: Load, decodes: float) -> dict[str, float]:
    prompt = load.input_tokens * (1 - load.prefix_hit)
    context = load.input_tokens + load.output_tokens / 2
    return times.step_parts_ms(decodes, context, prompt, decodes / load.output_tokens)


def _operating_point(times: StepTimes, load: Load, slots: float, slot_reason: str) -> _Point:
    asked = [load.concurrency, load.requests_per_s, load.all_at_once]
    if sum(one is not None for one in asked) != 1:
        raise ConfigError("load: give exactly one of concurrency, requests_per_s and all_at_once.")
    at_once = load.concurrency if load.all_at_once is None else float(load.all_at_once)
    if at_once is not None:
        decodes = min(at_once, slots)
        return _Point(
            decodes, at_once - decodes, slot_reason if decodes < at_once else _bound_by(times, load, decodes)
        )
    assert load.requests_per_s is not None
    return _open_loop(times, load, load.requests_per_s, slots, slot_reason)


def _open_loop(times: StepTimes, load: Load, rate: float, slots: float, slot_reason: str) -> _Point:
    """The smallest D with D = rate x output tokens x step(D), by Little's law; none below the slots: saturated."""

    def excess(decodes: float) -> float:
        step_ms = sum(_step_parts(times, load, decodes).values())
        return decodes - rate * load.output_tokens * step_ms / 1e3

    if excess(slots) < 0:
        return _Point(slots, 0.0, slot_reason)
    low, high = 0.0, slots
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return _Point(high, 0.0, "arrivals")


def _bound_by(times: StepTimes, load: Load, decodes: float) -> str:
    parts = _step_parts(times, load, decodes)
    compute = parts.get("compute", 0.0) + parts.get("prefill", 0.0)
    memory = parts["weights"] + parts["experts"] + parts["kv"]
    return "compute" if compute > memory else "bandwidth"


def _ttft_ms(times: StepTimes, load: Load, point: _Point, itl_ms: float) -> float:
    prompt = load.input_tokens * (1 - load.prefix_hit)
    slot_wait = point.waiting / point.decodes * load.output_tokens * itl_ms
    terms = first_token_terms(times.model, prompt, point.decodes, itl_ms, slot_wait)
    return sum(
        times.ttft_constants[term] * ideal * (times.factor.prefill if term.startswith("prefill") else 1.0)
        for term, ideal in terms.items()
    )


def _burst_rate(load: Load, point: _Point, itl_ms: float, ttft_ms: float, times: StepTimes) -> float:
    """Requests per second until the last of a burst ends: full slots until nothing waits."""
    assert load.all_at_once is not None
    cycle_ms = load.output_tokens * itl_ms
    return 1e3 * point.decodes / cycle_ms * load.all_at_once / (load.all_at_once + point.decodes / 2)
