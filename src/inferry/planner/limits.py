"""What an engine takes for the limits that a setup leaves open."""

from __future__ import annotations

from dataclasses import dataclass

from .architecture import Architecture
from .device import Device
from .facts.engine_memory import EngineMemory, find_engine_memory
from .setup import Setup

GIB = 2**30
LARGE_BYTES = 70 * GIB
"""From here vLLM's defaults are those for H100 (engine/arg_utils.py); A100 is excepted by name there."""

SGLANG_BY_TENSOR_PARALLEL = ((16, 0.79), (8, 0.81), (4, 0.85), (2, 0.87), (1, 0.88))
"""server_args.py up to 0.4.7."""

SGLANG_RESERVED_GIB = ((35, 2.8, 0.1), (90, 9.5, 0.5), (160, 12.0, 0.5), (float("inf"), 32.0, 0.0))
"""server_args.py from 0.4.8: up to that GiB, a base, and more per GPU of the replica."""

SGLANG_STEPS = ((35, 2048, 24), (60, 4096, 80), (160, 8192, 256), (float("inf"), 16384, 512))
"""server_args.py from 0.5.4: up to that GiB, the tokens of a prefill chunk, and the largest batch of a CUDA graph. An RTX
4090 has 0.847 by them, an H100 0.836."""

MULTIMODAL_BATCHED_TOKENS = 5120
"""vLLM V0's least for models with images (config.py, _MULTIMODAL_MODEL_MAX_NUM_BATCHED_TOKENS)."""


@dataclass(frozen=True, slots=True)
class Limits:
    fraction: float
    model_tokens: int
    sequences: int
    batched_tokens: int


def limits_of(arch: Architecture, device: Device, setup: Setup) -> Limits:
    """The setup's own where it says them, else the engine's defaults for its version and the device."""
    engine = find_engine_memory(setup.engine, setup.engine_version)
    model_tokens = setup.max_model_tokens or min(
        arch.max_position, engine.context_tokens or arch.max_position
    )
    large = device.kind == "gpu" and device.usable_bytes >= LARGE_BYTES and not device.name.startswith("a100")
    sequences = setup.max_sequences or (engine.sequences_large if large else engine.sequences_small)
    return Limits(
        fraction=setup.memory_fraction
        if setup.memory_fraction is not None
        else _fraction(engine, device, setup),
        model_tokens=model_tokens,
        sequences=sequences,
        batched_tokens=setup.max_batched_tokens
        or _batched_tokens(arch, engine, setup, model_tokens, large=large),
    )


def _fraction(engine: EngineMemory, device: Device, setup: Setup) -> float:
    gpus = setup.tensor_parallel * setup.data_parallel
    if engine.fraction_rule == "by_tensor_parallel":
        return next(fraction for least, fraction in SGLANG_BY_TENSOR_PARALLEL if gpus >= least)
    if engine.fraction_rule == "by_memory":
        total_gib = device.memory_bytes / GIB
        _, base, each = next(row for row in SGLANG_RESERVED_GIB if total_gib < row[0])
        return round((total_gib - base - each * gpus * setup.pipeline_parallel) / total_gib, 3)
    if engine.fraction_rule == "by_step":
        return _fraction_by_step(device.memory_bytes / GIB, gpus * setup.pipeline_parallel)
    return engine.fraction


def _fraction_by_step(total_gib: float, gpus: int) -> float:
    chunk, batch = next((chunk, batch) for below, chunk, batch in SGLANG_STEPS if total_gib < below)
    reserved_gib = (512 + 1.5 * chunk + 2 * batch + 1024 * gpus / 8) / 1024
    if total_gib > 60:
        reserved_gib = max(reserved_gib, 10.0)
    return round((total_gib - reserved_gib) / total_gib, 3)


def _batched_tokens(
    arch: Architecture, engine: EngineMemory, setup: Setup, model_tokens: int, *, large: bool
) -> int:
    if engine.batched_tokens != "whole_context":
        return engine.batched_tokens_large if large else engine.batched_tokens_small
    multimodal = bool(arch.vision_params) and not setup.text_only
    chunked = setup.chunked_prefill
    if chunked is None:
        chunked = model_tokens > engine.chunked_above_tokens and not multimodal
    if chunked:
        return engine.chunked_default_tokens
    return max(model_tokens, MULTIMODAL_BATCHED_TOKENS if multimodal else 2048)
