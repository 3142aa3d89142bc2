"""An engine's timing from the planner's laws: of GPUs (planner/step_time.py), or of a CPU that was calibrated
(planner/host_speed.py). Both are evaluated at many places, and the simulator's law is fitted to them; how far that is off
at the worst place is told, beside the planner's own range."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from inferry.planner.answers import Interval
from inferry.planner.architecture import Architecture
from inferry.planner.device import Device
from inferry.planner.host_speed import HostModel, HostSpeed, Spreads, prefill_s, step_s
from inferry.planner.learned_physics import corrected_memory
from inferry.planner.learning import NOTHING_LEARNED, Corrections
from inferry.planner.limits import limits_of
from inferry.planner.load import Load
from inferry.planner.memory import plan_memory
from inferry.planner.performance import predict
from inferry.planner.setup import Setup
from inferry.planner.speed_facts import shipped_speed_constants
from inferry.planner.step_time import NEUTRAL, step_times
from inferry.planner.step_work import step_model
from inferry.simulate.timing import EngineTiming
from inferry.simulate.timing_fit import Fitted, fit
from inferry.simulate.timing_known import KnownTiming

CONTEXTS = (256, 1024, 4096, 16384)
"""Tokens of prompt and answer so far, of each sequence: where decode steps are looked at."""
PROMPTS = (128, 512, 1024, 2048, 4096, 8192)
SEQUENCES_LOOKED_AT = 512
SEVERAL = 4
BUSY = Load(input_tokens=512, output_tokens=128, concurrency=8)
"""Where the planner's range is read: it hardly depends on the load."""
HOST_CHUNK = 2048
"""Tokens of prompts in one step of llama.cpp: its default of n_batch."""


class NoRoom(ValueError):
    """The weights leave no memory for any KV cache."""


def timing_from_plan(
    arch: Architecture,
    device: Device,
    setup: Setup,
    *,
    learned: Corrections = NOTHING_LEARNED,
    start_s: float | None = None,
    block_tokens: int = 16,
) -> KnownTiming:
    """Of one replica on GPUs. Raises NoRoom, ConfigError."""
    memory = corrected_memory(plan_memory(arch, device, setup), learned)
    if memory.kv_tokens <= 0:
        raise NoRoom
    limits = limits_of(arch, device, setup)
    times = step_times(step_model(arch, device, setup), shipped_speed_constants(), NEUTRAL)
    sequences = limits.sequences * setup.data_parallel
    slower = learned.factor("itl_ms")

    def decode_s(count: int, context: int) -> float:
        return slower * sum(times.decode_parts_ms(count, context).values()) / 1e3

    def prompt_s(tokens: int) -> float:
        # Stages of a pipeline read different prompts at the same time.
        return learned.factor("ttft_ms") * times.prefill_ms(tokens) / setup.pipeline_parallel / 1e3

    decode = _fit_steps(decode_s, sequences, limits.model_tokens, memory.kv_tokens)
    prefill = _fit_prompts(prompt_s, limits.model_tokens)
    busy = predict(arch, device, setup, BUSY)
    timing = EngineTiming(
        step_s=decode.constant,
        step_s_per_sequence=decode.per_sequence,
        step_s_per_kv_token=decode.per_kv_token,
        prefill_tokens_per_s=prefill.tokens_per_s,
        prefill_s_per_pair=prefill.s_per_pair,
        step_tokens_max=limits.batched_tokens,
        sequences_max=sequences,
        kv_tokens=memory.kv_tokens,
        block_tokens=block_tokens,
        context_tokens=limits.model_tokens or None,
    )
    prompts = [tokens for tokens in PROMPTS if tokens <= limits.model_tokens]
    firsts = [
        (tokens, learned.factor("ttft_ms") * _alone_s(arch, device, setup, tokens)) for tokens in prompts
    ]
    timing = _with_request_s(timing, firsts)
    return KnownTiming(
        timing=timing if start_s is None else replace(timing, start_s=start_s),
        source="planner",
        says=f"the planner, for {arch.name} on {setup.devices} x {device.name} with {setup.engine}",
        doubts=(
            f"90% of what was measured of such setups lay {_range(busy.itl_ms)} the planner's time between tokens, and "
            f"{_range(busy.ttft_ms)} its time to first token",
            _words(decode, timing, firsts),
            *_pipeline_words(setup.pipeline_parallel, timing, firsts),
        ),
        gpus=setup.devices if device.kind == "gpu" else 0,
        price_per_gpu_hour=None if device.price is None else device.price.usd_per_hour,
        price_says="" if device.price is None else f"{device.price.source}, {device.price.as_of}",
    )


def timing_from_host(
    model: HostModel,
    speed: HostSpeed,
    *,
    says: str,
    spreads: Spreads,
    slots: int,
    context_tokens: int,
    start_s: float | None = None,
    block_tokens: int = 16,
) -> KnownTiming:
    """Of one replica on a CPU that was calibrated."""

    def decode_s(count: int, context: int) -> float:
        return sum(step_s(model, speed, count, context).values())

    decode = _fit_steps(decode_s, slots, context_tokens, slots * context_tokens)
    prefill = _fit_prompts(lambda tokens: prefill_s(model, speed, tokens), context_tokens)
    timing = EngineTiming(
        step_s=decode.constant,
        step_s_per_sequence=decode.per_sequence,
        step_s_per_kv_token=decode.per_kv_token,
        prefill_tokens_per_s=prefill.tokens_per_s,
        prefill_s_per_pair=prefill.s_per_pair,
        step_tokens_max=HOST_CHUNK,
        sequences_max=slots,
        kv_tokens=slots * context_tokens,
        block_tokens=block_tokens,
        context_tokens=context_tokens,
        request_s=speed.request_s,
    )
    firsts = [
        (tokens, speed.request_s + prefill_s(model, speed, tokens))
        for tokens in PROMPTS
        if tokens <= context_tokens
    ]
    return KnownTiming(
        timing=timing if start_s is None else replace(timing, start_s=start_s),
        source="calibration",
        says=says,
        doubts=(
            f"its times were within {spreads.itl:.0%} (between tokens) and {spreads.ttft:.0%} (first token) of what was "
            "measured",
            _words(decode, timing, firsts),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Steps:
    constant: float
    per_sequence: float
    per_kv_token: float
    worst: float
    worst_alone: float


@dataclass(frozen=True, slots=True)
class _Prompts:
    tokens_per_s: float
    s_per_pair: float


def _fit_steps(
    step_s_of: Callable[[int, int], float], sequences: int, context_max: int, kv_tokens: int
) -> _Steps:
    """Where several answers are under way: a mixture of experts reads more weights for each of the first few, which no
    line follows, and a replica that computes a single answer is not what a fleet is planned for."""
    places = list(_places(sequences, context_max, kv_tokens))
    several = [each for each in places if each[0] >= SEVERAL] or places
    found = fit(((1.0, count, count * context), step_s_of(count, context)) for count, context in several)
    alone = 1, places[0][1]
    one_s = _sum(found, (1.0, 1, alone[1]))
    constant, per_sequence, per_kv_token = found.factors
    return _Steps(constant, per_sequence, per_kv_token, found.worst, abs(one_s / step_s_of(*alone) - 1))


def _fit_prompts(prompt_s: Callable[[int], float], context_max: int) -> _Prompts:
    """What a prompt adds to a step: without the constant that a step has anyway."""
    lengths = [tokens for tokens in PROMPTS if tokens <= context_max] or [PROMPTS[0]]
    terms = 3 if len(lengths) >= 3 else 2
    found = fit(((tokens, tokens * tokens / 2, 1.0)[:terms], prompt_s(tokens)) for tokens in lengths)
    return _Prompts(1 / max(found.factors[0], 1e-12), found.factors[1])


def _places(sequences: int, context_max: int, kv_tokens: int) -> Iterator[tuple[int, int]]:
    """(sequences, context of each) that the cache holds: 1, 2, 4 and so on of each length; the least of all always."""
    yield 1, min(CONTEXTS[0], context_max)
    for context in CONTEXTS:
        if context > context_max:
            return
        count = 1
        while count <= min(sequences, SEQUENCES_LOOKED_AT) and count * context <= kv_tokens:
            if (count, context) != (1, CONTEXTS[0]):
                yield count, context
            count *= 2


def _alone_s(arch: Architecture, device: Device, setup: Setup, tokens: int) -> float:
    load = Load(input_tokens=tokens, output_tokens=128, concurrency=1)
    return predict(arch, device, setup, load).ttft_ms.value / 1e3


def _first_s(timing: EngineTiming, tokens: int) -> float:
    return timing.request_s + timing.step_s_of(0, 0, tokens, tokens * tokens / 2)


def _with_request_s(timing: EngineTiming, firsts: Sequence[tuple[int, float]]) -> EngineTiming:
    """What a lone request's first token takes longer than a step and its prompt, where prompts are shortest: there it is
    most of the time."""
    over = [took - _first_s(timing, tokens) for tokens, took in firsts[:1]]
    return replace(timing, request_s=max(*over, 0.0))


def _sum(found: Fitted, terms: Sequence[float]) -> float:
    return sum(factor * term for factor, term in zip(found.factors, terms, strict=True))


def _range(interval: Interval) -> str:
    if interval.value <= 0 or not math.isfinite(interval.high):
        return "nobody knows how near to"
    low, high = 1 - interval.low / interval.value, interval.high / interval.value - 1
    return f"between {low:.0%} below and {high:.0%} above"


def _words(decode: _Steps, timing: EngineTiming, firsts: Sequence[tuple[int, float]]) -> str:
    first = max((abs(_first_s(timing, tokens) / took - 1) for tokens, took in firsts), default=0.0)
    return (
        f"the simulator's simpler law is up to {_off(decode.worst)} off that for steps with {SEVERAL} answers and more, "
        f"{_off(decode.worst_alone)} for one alone, and up to {_off(first)} for the first token of a lone request"
    )


def _pipeline_words(stages: int, timing: EngineTiming, firsts: Sequence[tuple[int, float]]) -> list[str]:
    """A step stands for all stages, which is right for how much they do together, and not for one prompt's way."""
    if stages == 1 or not firsts:
        return []
    tokens, took_s = firsts[-1]
    return [
        f"the {stages} stages of a pipeline are simulated as one engine: what it does per second is right, but first tokens "
        f"come too early, that of a lone prompt of {tokens:,} tokens after {_first_s(timing, tokens):.2g} s and not the "
        f"planner's {took_s:.2g} s. Hold no objective for first tokens against this"
    ]


def _off(error: float) -> str:
    return f"{max(math.ceil(100 * error), 1)}%"
