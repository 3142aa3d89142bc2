"""Does it fit: a model with its asked contexts in the memory of its devices? If not, what is missing and what would do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from .answers import DoesNotFit, Fits, MemoryAnswer, MemoryPlan
from .architecture import Architecture
from .device import Device
from .facts.engine_memory import EngineMemory, find_engine_memory
from .kv_cache import sequence_bytes
from .limits import GIB, Limits, limits_of
from .memory import plan_memory
from .setup import Setup
from .ways_out import find_ways_out

TIGHT_SHARE = 0.05
"""Below so much of the budget to spare, what the planner can be off by decides whether it starts."""


def check_fit(
    arch: Architecture,
    device: Device,
    setup: Setup,
    *,
    context_tokens: int | None = None,
    sequences: float = 1,
    devices: Sequence[Device] = (),
) -> MemoryAnswer:
    """Whether `sequences` of `context_tokens` each are held at once by one replica.

    Without `context_tokens`, the longest that the setup or the model allows. `devices`: others that ways out may name.
    """
    asked = asked_setup(arch, device, setup, context_tokens)
    context = asked.max_model_tokens or arch.max_position
    memory = plan_memory(arch, device, asked)
    needed = needed_bytes(arch, device, asked, context, sequences)
    if needed > memory.kv:
        return DoesNotFit(
            memory=memory,
            short_bytes=needed - memory.kv,
            because=because(memory, needed, context, sequences),
            ways_out=find_ways_out(arch, device, asked, context, sequences, devices, fits=fits),
        )
    one = sequence_of(arch, device, asked, context)
    return Fits(
        memory=memory,
        longest_context_tokens=longest_context(arch, device, asked, memory.kv),
        sequences=memory.kv / one * asked.data_parallel if one else math.inf,
        warnings=tightness(memory, needed),
    )


def fits(
    arch: Architecture, device: Device, setup: Setup, context: int, sequences: float
) -> MemoryPlan | None:
    """The plan, if it holds what is asked."""
    memory = plan_memory(arch, device, setup)
    return memory if needed_bytes(arch, device, setup, context, sequences) <= memory.kv else None


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
    low, high = 0, arch.max_position
    while low < high:
        middle = (low + high + 1) // 2
        if _sequence(arch, setup, engine, limits, middle) <= kv_bytes:
            low = middle
        else:
            high = middle - 1
    return low


def because(memory: MemoryPlan, needed: int, context: int, sequences: float) -> str:
    """The largest part, in words."""
    parts = {
        "the weights": memory.weights,
        "the step's own memory (activations)": memory.activations,
        f"the KV cache of {sequences:g} x {context:,} tokens": needed,
    }
    largest = max(parts, key=lambda name: parts[name])
    return (
        f"{largest} need {parts[largest] / GIB:.1f} GiB per device"
        if largest.startswith("the weights")
        else f"{largest} needs {parts[largest] / GIB:.1f} GiB per device"
    ) + f"; the engine may use {memory.budget / GIB:.1f} of {memory.total / GIB:.1f} GiB"


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
