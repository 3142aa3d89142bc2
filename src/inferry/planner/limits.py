"""What an engine takes for the limits that a setup leaves open."""

from __future__ import annotations

from dataclasses import dataclass

from .architecture import Architecture
from .device import Device
from .facts.engine_memory import EngineMemory, find_engine_memory
from .setup import Setup
from .sglang_fraction import default_fraction, kept_fraction

GIB = 2**30
LARGE_BYTES = 70 * GIB
"""From here vLLM's defaults are those for H100 (engine/arg_utils.py); A100 is excepted by name there."""

MULTIMODAL_BATCHED_TOKENS = 5120
"""vLLM V0's least for models with images (config.py, _MULTIMODAL_MODEL_MAX_NUM_BATCHED_TOKENS)."""


@dataclass(frozen=True, slots=True)
class Limits:
    fraction: float
    """As the engine is told it, or would tell it."""
    kept_share: float
    """What the engine silently makes of any fraction."""
    model_tokens: int
    sequences: int
    batched_tokens: int


def limits_of(arch: Architecture, device: Device, setup: Setup) -> Limits:
    """The setup's own where it says them, else the engine's defaults for its version and the device."""
    engine = find_engine_memory(setup.engine, setup.engine_version)
    longest = arch.max_position or engine.context_tokens or 0
    model_tokens = setup.max_model_tokens or min(longest, engine.context_tokens or longest)
    large = device.kind == "gpu" and device.usable_bytes >= LARGE_BYTES and not device.name.startswith("a100")
    sequences = setup.max_sequences or (engine.sequences_large if large else engine.sequences_small)
    fraction, kept = setup.memory_fraction, 1.0
    if fraction is None:
        fraction = default_fraction(arch, engine, device, setup) if engine.fraction_rule else engine.fraction
    if engine.fraction_rule:
        kept = kept_fraction(arch, engine, device, setup, model_tokens)
    return Limits(
        fraction=fraction,
        kept_share=kept,
        model_tokens=model_tokens,
        sequences=sequences,
        batched_tokens=setup.max_batched_tokens
        or _batched_tokens(arch, engine, setup, model_tokens, large=large),
    )


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
