"""Does it fit: a model with its asked contexts in the memory of its devices? If not, what is missing and what would do."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from inferry.core.errors import ConfigError

from .answers import DoesNotFit, Fits, MemoryAnswer, MemoryPlan
from .architecture import Architecture
from .device import Device
from .facts.engine_memory import EngineMemory, find_engine_memory
from .kv_cache import sequence_bytes
from .limits import GIB, Limits, limits_of
from .memory import plan_memory
from .parallel_choices import pipeline_problem, tensor_problem
from .setup import Setup
from .ways_out import find_ways_out

TIGHT_SHARE = 0.05
"""Below so much of the budget to spare, what the planner can be off by decides whether it starts."""

LONGEST_ANY = 2**24
"""Where no config tells what a model was made for, the search for its longest context ends here."""

DEGREES = ("tensor_parallel", "pipeline_parallel", "expert_parallel", "data_parallel", "context_parallel")

MemoryOf: TypeAlias = Callable[[Architecture, Device, Setup], MemoryPlan]
"""`plan_memory`, or a form of it that launches corrected."""


def check_fit(
    arch: Architecture,
    device: Device,
    setup: Setup,
    *,
    context_tokens: int | None = None,
    sequences: float = 1,
    devices: Sequence[Device] = (),
    memory: MemoryOf = plan_memory,
    margin: float = 1.0,
) -> MemoryAnswer:
    """Whether `sequences` of `context_tokens` each are held at once by one replica.

    Without `context_tokens`, the longest that the setup or the model allows. `devices`: others that ways out may name.
    `margin`: share of the predicted cache that is promised. Where the engine's own number of sequences is too much for
    it, as many as are asked for are tried, and a warning says so. Raises `ConfigError` for what no engine would take.
    """
    _refuse_nonsense(arch, setup, context_tokens, sequences)
    asked = asked_setup(arch, device, setup, context_tokens)
    context = asked.max_model_tokens or 0
    if not context:
        raise ConfigError(f"context_tokens: {arch.name} does not tell how long its contexts may be: say it.")
    holds = functools.partial(fits, memory=memory, margin=margin)
    plan, told = holds(arch, device, asked, context, sequences), asked
    warnings: tuple[str, ...] = ()
    if plan is None and setup.max_sequences is None:
        told = _with_sequences(asked, sequences)
        plan = holds(arch, device, told, context, sequences)
        own = limits_of(arch, device, asked).sequences
        warnings = (
            f"with the engine's own limit of {own} sequences at once it does not fit: it has to be told "
            f"to run at most {told.max_sequences}",
        )
    if plan is None:
        plan = memory(arch, device, asked)
        needed = needed_bytes(arch, device, asked, context, sequences)
        return DoesNotFit(
            memory=plan,
            short_bytes=max(needed - promised(plan, margin), 0),
            because=because(arch, plan, needed, context, sequences),
            ways_out=find_ways_out(arch, device, asked, context, sequences, devices, fits=holds),
        )
    one = sequence_of(arch, device, told, context)
    return Fits(
        memory=plan,
        longest_context_tokens=longest_context(arch, device, told, promised(plan, margin)),
        sequences=promised(plan, margin) / one * told.data_parallel if one else math.inf,
        warnings=warnings + tightness(plan, needed_bytes(arch, device, told, context, sequences)),
    )


def fits(
    arch: Architecture,
    device: Device,
    setup: Setup,
    context: int,
    sequences: float,
    *,
    memory: MemoryOf = plan_memory,
    margin: float = 1.0,
) -> MemoryPlan | None:
    """The plan, if it holds what is asked, and the model can read that much."""
    if too_long(arch, context):
        return None
    plan = memory(arch, device, setup)
    return plan if needed_bytes(arch, device, setup, context, sequences) <= promised(plan, margin) else None


def too_long(arch: Architecture, context: int) -> bool:
    """Beyond what the model was made for, where that is known."""
    return 0 < arch.max_position < context


def promised(memory: MemoryPlan, margin: float) -> int:
    """Of the cache, in bytes; negative where weights alone are too much."""
    return memory.kv if memory.kv < 0 else int(memory.kv * margin)


def _refuse_nonsense(arch: Architecture, setup: Setup, context_tokens: int | None, sequences: float) -> None:
    """Questions that no engine has an answer to."""
    if not (math.isfinite(sequences) and sequences > 0):
        raise ConfigError(f"sequences: {sequences} is no number of sequences: say one above 0.")
    for name, tokens in (("context_tokens", context_tokens), ("max_model_tokens", setup.max_model_tokens)):
        if tokens is not None and tokens < 1:
            raise ConfigError(f"{name}: {tokens} tokens are no context: say at least 1.")
    fraction = setup.memory_fraction
    if fraction is not None and not 0 < fraction <= 1:
        raise ConfigError(f"memory_fraction: {fraction} is no share of the memory: say one in (0, 1].")
    for name in DEGREES:
        if getattr(setup, name) < 1:
            raise ConfigError(f"{name}: {getattr(setup, name)} devices are none: say at least 1.")
    tensor, pipeline = setup.tensor_parallel, setup.pipeline_parallel
    problem = tensor_problem(arch, setup.engine, tensor, setup.weights, expert=setup.expert_parallel)
    if problem is not None:
        raise ConfigError(f"tensor_parallel: {tensor} does not go with {arch.name}: {problem}.")
    if pipeline > 1 and (problem := pipeline_problem(arch, setup.engine, pipeline)) is not None:
        raise ConfigError(f"pipeline_parallel: {pipeline} does not go with {arch.name}: {problem}.")


def _with_sequences(setup: Setup, sequences: float) -> Setup:
    """With the engine told to run as many as are asked for: it sizes its step by them."""
    return replace(setup, max_sequences=math.ceil(sequences / setup.data_parallel))


def asked_setup(arch: Architecture, device: Device, setup: Setup, context_tokens: int | None) -> Setup:
    """The setup with its longest sequence said: engines refuse to start where not even one of those fits."""
    if context_tokens is not None:
        return replace(setup, max_model_tokens=context_tokens)
    if setup.max_model_tokens is not None:
        return setup
    return replace(setup, max_model_tokens=limits_of(arch, device, setup).model_tokens)


def needed_bytes(arch: Architecture, device: Device, setup: Setup, context: int, sequences: float) -> int:
    """Of cache on one device: the sequences are spread over the replica's data-parallel ranks."""
    per_rank = math.ceil(sequences / setup.data_parallel)
    return math.ceil(max(per_rank, 1) * sequence_of(arch, device, setup, context))


def sequence_of(arch: Architecture, device: Device, setup: Setup, context: int) -> float:
    engine, limits = _engine(setup), limits_of(arch, device, setup)
    return _sequence(arch, setup, engine, limits, context)


def longest_context(arch: Architecture, device: Device, setup: Setup, kv_bytes: int) -> int:
    """Of one sequence alone, at most what the model was made for; 0 if none."""
    engine, limits = _engine(setup), limits_of(arch, device, setup)
    low, high = 0, arch.max_position or LONGEST_ANY
    while low < high:
        middle = (low + high + 1) // 2
        if _sequence(arch, setup, engine, limits, middle) <= kv_bytes:
            low = middle
        else:
            high = middle - 1
    return low


def because(arch: Architecture, memory: MemoryPlan, needed: int, context: int, sequences: float) -> str:
    """The largest part, in words, and the next one where the largest alone would fit."""
    if too_long(arch, context):
        return f"{arch.name} was made for {arch.max_position:,} tokens, not for {context:,}"
    parts = {
        "the weights need": memory.weights,
        "the step's own memory (activations) needs": memory.activations,
        f"the KV cache of {sequences:g} x {context:,} tokens needs": needed,
    }
    first, second, *_ = (
        f"{name} {parts[name] / GIB:.1f} GiB" for name in sorted(parts, key=lambda name: -parts[name])
    )
    told = f"{first} and {second}" if max(parts.values()) < memory.budget else first
    return f"{told} per device; the engine may use {memory.budget / GIB:.1f} of {memory.total / GIB:.1f} GiB"


def tightness(memory: MemoryPlan, needed: int) -> tuple[str, ...]:
    """What to look at before it is relied on."""
    found = []
    spare = memory.kv - needed
    if spare < TIGHT_SHARE * memory.budget:
        found.append(
            f"memory is tight: {spare / GIB:.1f} GiB of {memory.budget / GIB:.1f} GiB to spare; the planner can be off by as much"
        )
    outside = memory.total - memory.budget
    if not memory.graphs_in_budget and memory.graphs > outside * 0.5:
        found.append(
            f"CUDA graphs (about {memory.graphs / GIB:.1f} GiB, at times several) come on top of the engine's budget, and only "
            f"{outside / GIB:.1f} GiB are left: lower the memory fraction, or run without them"
        )
    return tuple(found)


def _engine(setup: Setup) -> EngineMemory:
    return find_engine_memory(setup.engine, setup.engine_version)


def _sequence(arch: Architecture, setup: Setup, engine: EngineMemory, limits: Limits, context: int) -> float:
    return sequence_bytes(
        arch,
        setup,
        context,
        windows_as_full=engine.windows_as_full,
        batched_tokens=limits.batched_tokens if engine.law == "profiled" else 0,
    )
