"""Where the memory of a replica's fullest device goes, and how many tokens of KV cache are left."""

from __future__ import annotations

from dataclasses import dataclass

from .activations import activation_bytes
from .answers import MemoryPlan
from .architecture import Architecture, LinearAttention
from .device import Device
from .facts.engine_memory import EngineMemory, find_engine_memory, graph_memory
from .kv_cache import is_hybrid, kv_bytes_per_token, pooled_bytes_per_token, sequence_bytes
from .limits import GIB, Limits, limits_of
from .setup import Setup
from .weights import weight_bytes

MANY = 4
"""Devices above which buffers for talking were seen to be larger."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is not for the cache, in bytes. `slack` is what loading leaves unusable."""

    weights: int
    slack: int
    activations: int
    context: int
    graphs: int


def plan_memory(
    arch: Architecture, device: Device, setup: Setup, *, facts: EngineMemory | None = None
) -> MemoryPlan:
    """What the engine would print at its start, leaning low by its era's `lean_gib`. `facts`: other constants than those
    that ship for the engine's version.

    States of linear layers and windows come out of the same pool as the cache, so `state` is 0 and `sequence_bytes`
    of `kv_cache.py` tells what one sequence takes of `kv`.
    """
    engine = facts or find_engine_memory(setup.engine, setup.engine_version)
    limits = limits_of(arch, device, setup)
    weights = weight_bytes(arch, setup, device)
    held = Held(
        weights=weights,
        slack=round(slack_share(engine, device, setup) * weights),
        activations=activation_bytes(arch, setup, limits, engine),
        context=runtime_bytes(engine, device, setup),
        graphs=graph_bytes(arch, device, setup),
    )
    budget, left = divide(engine, device.usable_bytes, limits.fraction * limits.kept_share, held)
    lean = round(min(engine.lean_gib * GIB, engine.lean_share * left)) if left > 0 else 0
    kv = left - lean
    per_token = kv_bytes_per_token(arch, setup, windows_as_full=engine.windows_as_full)
    return MemoryPlan(
        total=device.usable_bytes,
        budget=budget,
        weights=weights,
        activations=held.activations,
        graphs=held.graphs,
        runtime=held.context + held.slack + lean,
        state=0,
        kv=kv,
        kv_bytes_per_token=per_token,
        kv_tokens=kv_tokens(arch, setup, limits, engine, kv),
        setup=setup,
        graphs_in_budget=engine.graphs_in_budget,
    )


def kv_tokens(arch: Architecture, setup: Setup, limits: Limits, engine: EngineMemory, kv_bytes: int) -> int:
    """As the engine prints it: of the whole replica, in full blocks.

    Where layers differ in what they keep, vLLM V1 prints how many tokens a pool holds that all of them share, and from
    0.21 on how many sequences of the longest length it holds, times that length (v1/core/kv_cache_utils.py): neither is
    a capacity in tokens for shorter ones.
    """
    if kv_bytes <= 0:
        return 0
    mixed = is_hybrid(arch) and not engine.windows_as_full
    per_token = kv_bytes_per_token(arch, setup, windows_as_full=engine.windows_as_full)
    if mixed and engine.hybrid_tokens == "pools" and per_token > 0:
        tokens = kv_bytes / pooled_bytes_per_token(arch, setup)
    elif mixed or per_token == 0:
        model_tokens = max(1, limits.model_tokens)  # 0: nobody has told the longest context
        longest = sequence_bytes(arch, setup, model_tokens, batched_tokens=limits.batched_tokens)
        if any(isinstance(group.attention, LinearAttention) for group in arch.groups):
            longest *= engine.linear_hybrid_factor
        tokens = kv_bytes / longest * model_tokens
    else:
        block = engine.block_tokens * setup.context_parallel
        tokens = kv_bytes // (per_token * block) * block
    return int(tokens) * setup.data_parallel


def runtime_bytes(engine: EngineMemory, device: Device, setup: Setup) -> int:
    """The engine's context and kernels, and buffers for talking to other devices."""
    if device.kind != "gpu" and engine.runtime_host_gib is not None:
        return round(engine.runtime_host_gib * GIB)
    if device.vendor == "amd" and engine.runtime_amd_gib is not None:
        return round(engine.runtime_amd_gib * GIB)
    if setup.devices == 1:
        return round(engine.runtime_gib * GIB)
    needs = [engine.runtime_parallel_gib]
    if setup.devices > device.devices_per_host_max:
        needs.append(engine.runtime_nodes_gib)
    if setup.devices > MANY and engine.runtime_many_gib is not None:
        needs.append(engine.runtime_many_gib)
    if setup.tensor_parallel > 1 and engine.runtime_fused_gib is not None and fuses_reduction(device):
        needs.append(engine.runtime_fused_gib)
    return round(max(needs) * GIB)


def fuses_reduction(device: Device) -> bool:
    """From Hopper on (vLLM, config/vllm.py), but not the cards without NVLink, whose capability is 12.x."""
    return (device.compute_capability or "").partition(".")[0] in ("9", "10")


def slack_share(engine: EngineMemory, device: Device, setup: Setup) -> float:
    """Of the weights: what the allocator can't give back after loading and converting them."""
    share = engine.load_slack.get(setup.weights, 0.0)
    amd = device.kind == "gpu" and device.vendor == "amd"
    return max(share, engine.load_slack_amd) if amd and setup.weights in ("fp8", "fp8_block") else share


def graph_bytes(arch: Architecture, device: Device, setup: Setup) -> int:
    """An estimate, for vLLM and SGLang; the others count theirs elsewhere."""
    if device.kind != "gpu" or not setup.cuda_graphs or setup.engine not in ("vllm", "sglang"):
        return 0
    facts = graph_memory()
    return round((facts.vllm_gib + facts.vllm_per_layer_gib * arch.layers) * GIB)


def divide(engine: EngineMemory, total: int, fraction: float, held: Held) -> tuple[int, int]:
    """What the engine may use, and what of that is left for the cache; negative where weights alone are too much."""
    fixed = held.weights + held.slack
    if engine.law == "profiled":
        budget = round(fraction * total)
        graphs = held.graphs if engine.graphs_in_budget else 0
        return budget, budget - fixed - held.context - held.activations - graphs
    if engine.law == "fraction_of_available":
        # What the process finds is already without its own context; the fraction is of that.
        budget = round(fraction * (total - held.context))
        return budget, budget - fixed
    if engine.law == "fraction_of_free":
        free = total - fixed - held.context - held.activations
        return total, round(fraction * free) if free > 0 else free
    budget = round(fraction * total)
    return budget, budget - fixed - held.context - held.activations
