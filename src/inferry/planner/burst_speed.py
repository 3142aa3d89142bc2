"""How fast a replica works off requests that all come at once: the schedule of burst.py, in the times of step_time.py."""

from __future__ import annotations

from .architecture import Architecture
from .burst import PREFILL_FIRST, Burst, burst
from .device import Device
from .first_token import burst_terms, drain_terms
from .limits import limits_of
from .load import Load, prompt_tokens
from .setup import Setup
from .step_time import StepTimes


def burst_of(arch: Architecture, device: Device, setup: Setup, load: Load, slots: float) -> Burst | None:
    """How the engine goes through the requests; None for other loads."""
    if load.all_at_once is None:
        return None
    budget = float(limits_of(arch, device, setup).batched_tokens * setup.data_parallel)
    return burst(
        load.all_at_once,
        slots,
        max(prompt_tokens(load), 1.0),
        load.output_tokens,
        budget,
        prefill_first=setup.engine in PREFILL_FIRST,
    )


def burst_parts(times: StepTimes, load: Load, rush: Burst) -> dict[str, float]:
    """Time per further token of a mean stream in ms, by cause. "burst" is the work of the front end for all streams."""
    parts = times.span_parts_ms(rush.token, _mean_context(load), prompt_tokens(load))
    parts["burst"] = times.constants["burst"] * rush.token.decodes
    return parts


def burst_ttft_parts_ms(times: StepTimes, load: Load, rush: Burst) -> dict[str, float]:
    """Of the mean TTFT."""
    parts = times.span_parts_ms(rush.wait, _mean_context(load), prompt_tokens(load))
    prefill_ms = parts.pop("prefill")
    terms = burst_terms(sum(parts.values()), prefill_ms, rush.whole.prompts)
    return {term: times.burst_constants[term] * ideal for term, ideal in terms.items()}


def burst_requests_per_s(times: StepTimes, load: Load, rush: Burst, itl_ms: float) -> float:
    """Over the time until the last one is done."""
    parts = times.span_parts_ms(rush.whole, _mean_context(load), prompt_tokens(load))
    prefill_ms = parts.pop("prefill")
    terms = drain_terms(sum(parts.values()), prefill_ms, rush.whole.prompts, itl_ms * load.output_tokens)
    drain_ms = sum(times.drain_constants[term] * ideal for term, ideal in terms.items())
    return 1e3 * rush.whole.prompts / drain_ms


def _mean_context(load: Load) -> float:
    return load.input_tokens + load.output_tokens / 2
