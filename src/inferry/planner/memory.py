"""Where the memory of a replica's fullest device goes, and how many tokens of KV cache are left."""

from __future__ import annotations

from .activations import activation_bytes
from .answers import MemoryPlan
from .architecture import Architecture
from .device import Device
from .facts.engine_memory import EngineMemory, find_engine_memory, graph_memory
from .kv_cache import is_hybrid, kv_bytes_per_token, sequence_bytes
from .limits import GIB, Limits, limits_of
from .setup import Setup
from .weights import weight_bytes


def plan_memory(arch: Architecture, device: Device, setup: Setup) -> MemoryPlan:
    """What the engine would print at its start, leaning low by its era's `lean_gib`.

    States of linear layers and windows come out of the same pool as the cache, so `state` is 0 and `sequence_bytes`
    of `kv_cache.py` tells what one sequence takes of `kv`.
    """
    engine = find_engine_memory(setup.engine, setup.engine_version)
    limits = limits_of(arch, device, setup)
    weights = weight_bytes(arch, setup)
    activations = activation_bytes(arch, setup, limits, engine)
    runtime = round((engine.runtime_parallel_gib if setup.devices > 1 else engine.runtime_gib) * GIB)
    graphs = graph_bytes(arch, setup)
    lean = round(engine.lean_gib * GIB)
    budget, left = _budget(engine, device, limits, weights, activations, runtime, graphs)
    kv = left - lean
    per_token = kv_bytes_per_token(arch, setup, windows_as_full=engine.windows_as_full)
    return MemoryPlan(
        total=device.usable_bytes,
        budget=budget,
        weights=weights,
        activations=activations,
        graphs=graphs,
        runtime=runtime + lean,
        state=0,
        kv=kv,
        kv_bytes_per_token=per_token,
        kv_tokens=kv_tokens(arch, setup, limits, engine, kv),
        setup=setup,
        graphs_in_budget=engine.graphs_in_budget,
    )


def kv_tokens(arch: Architecture, setup: Setup, limits: Limits, engine: EngineMemory, kv_bytes: int) -> int:
    """As the engine prints it: of the whole replica, in full blocks.

    Where layers differ in what they keep, vLLM V1 prints how many sequences of the longest length it holds, times that
    length (v1/core/kv_cache_utils.py): not a capacity in tokens for shorter ones.
    """
    if kv_bytes <= 0:
        return 0
    if is_hybrid(arch) and not engine.windows_as_full:
        longest = sequence_bytes(arch, setup, limits.model_tokens, batched_tokens=limits.batched_tokens)
        tokens = kv_bytes / longest * limits.model_tokens
    else:
        per_token = kv_bytes_per_token(arch, setup, windows_as_full=engine.windows_as_full)
        block = engine.block_tokens * setup.context_parallel
        tokens = kv_bytes // (per_token * block) * block
    return int(tokens) * setup.data_parallel


def graph_bytes(arch: Architecture, setup: Setup) -> int:
    """An estimate, for vLLM and SGLang; the others count theirs elsewhere."""
    if not setup.cuda_graphs or setup.engine not in ("vllm", "sglang"):
        return 0
    facts = graph_memory()
    return round((facts.vllm_gib + facts.vllm_per_layer_gib * arch.layers) * GIB)


def _budget(
    engine: EngineMemory,
    device: Device,
    limits: Limits,
    weights: int,
    activations: int,
    runtime: int,
    graphs: int,
) -> tuple[int, int]:
    """What the engine may use, and what of that is left for the cache; negative where weights alone are too much."""
    total = device.usable_bytes
    held = weights + runtime + activations
    if engine.law == "profiled":
        budget = round(limits.fraction * total)
        return budget, budget - held - (graphs if engine.graphs_in_budget else 0)
    if engine.law == "fraction_of_available":
        # What the process finds is already without its own context; the fraction is of that.
        before = total - runtime
        budget = round(limits.fraction * before)
        return budget, budget - weights
    if engine.law == "fraction_of_free":
        free = total - held
        return total, round(limits.fraction * free) if free > 0 else free
    budget = round(limits.fraction * total)
    return budget, budget - held
