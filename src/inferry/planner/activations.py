"""How much an engine needs beside weights and cache while a step runs, on its fullest device.

An engine that profiles itself runs one step of `max_batched_tokens` and then samples for `max_sequences`, after a
look at the largest image; the largest of these moments is its peak.
"""

from __future__ import annotations

from .architecture import Architecture, DenseMlp, Experts
from .facts.engine_memory import EngineMemory
from .limits import Limits
from .setup import Setup
from .weights import SIXTEEN_BIT, bytes_per_weight

IMAGE_TOKENS = 256
"""The smallest image that is usual: V0's dummy step has one sequence per image (worker/model_runner.py, profile_run)."""


ANY_SIZE_PATCHES = 4
LARGEST_IMAGE_TOKENS = 16_384
"""Of Qwen2-VL and its heirs: 12,845,056 pixels at 28 x 28 a token (preprocessor_config.json). Others of that kind may have
less; what they have is not in their config.json."""


def activation_bytes(arch: Architecture, setup: Setup, limits: Limits, engine: EngineMemory) -> int:
    """vLLM V1 0.11 on an H100, Llama 3.1 8B: 1,024 sequences x 128,256 x 38.25 B + 8,192 x 4,096 x 2.5 B = 4.76 GiB."""
    if not engine.sampler_bytes:
        return 0
    moments = (
        forward_bytes(arch, setup, limits, engine),
        sampler_bytes(arch, setup, limits, engine),
        vision_bytes(arch, setup, limits, engine),
    )
    return round(max(moments))


def sees_images(arch: Architecture, setup: Setup) -> bool:
    return arch.vision_params > 0 and not setup.text_only


def vision_bytes(arch: Architecture, setup: Setup, limits: Limits, engine: EngineMemory) -> float:
    """V1 sends as many images through the tower as a step holds, before anything else (v1/worker/gpu_model_runner.py,
    profile_run). Parallel towers split their matrices, but not what flows between them."""
    if not sees_images(arch, setup):
        return 0.0
    patches = image_tokens(arch, limits) * arch.vision_patches_per_token
    return patches * arch.vision_hidden * engine.vision_pass_bytes


def image_tokens(arch: Architecture, limits: Limits) -> int:
    """Of a full step; towers that merge four patches into a token take images of any size, so one may be larger."""
    any_size = arch.vision_patches_per_token == ANY_SIZE_PATCHES
    return max(limits.batched_tokens, LARGEST_IMAGE_TOKENS if any_size else 0)


def forward_bytes(arch: Architecture, setup: Setup, limits: Limits, engine: EngineMemory) -> float:
    """The widest layer of a step."""
    parallel = setup.tensor_parallel > 1
    # An all-reduce puts its sum beside what it adds up.
    hidden_bytes = engine.hidden_bytes + (SIXTEEN_BIT if parallel else 0.0)
    per_token = arch.hidden * hidden_bytes + widest_mlp_bytes(arch, setup, engine)
    if parallel and engine.reduced_held:
        per_token += 2 * arch.layers * arch.hidden * SIXTEEN_BIT
    if sees_images(arch, setup):
        # vLLM V0's dummy step is full of images, and what the tower makes of them waits for the layers.
        per_token += arch.vision_patches_per_token * arch.vision_hidden * engine.vision_patch_bytes
    return limits.batched_tokens * per_token + unpacked_bytes(arch, setup)


def widest_mlp_bytes(arch: Architecture, setup: Setup, engine: EngineMemory) -> float:
    """Per batched token. A mixture keeps, for each expert that a token goes to, its columns and its output."""
    widest = 0.0
    for group in arch.groups:
        if isinstance(group.mlp, DenseMlp):
            columns = group.mlp.intermediate / setup.tensor_parallel
            # Two thirds of a gated MLP's peak are its two inner matrices side by side; a plain one has a single one.
            widest = max(widest, columns * engine.mlp_bytes * (1.0 if group.mlp.gated else 2 / 3))
        elif isinstance(group.mlp, Experts):
            columns = group.mlp.intermediate / setup.tensor_parallel
            routed = group.mlp.per_token * (3 * columns + arch.hidden) * SIXTEEN_BIT
            widest = max(widest, routed)
    return widest


def sampler_bytes(arch: Architecture, setup: Setup, limits: Limits, engine: EngineMemory) -> float:
    """Logits, their sorted copy, probabilities and indices."""
    rows = limits.batched_tokens if engine.logits_for_batch else min(limits.sequences, limits.batched_tokens)
    if engine.vision_patch_bytes and sees_images(arch, setup):
        rows = min(rows, max(limits.batched_tokens // IMAGE_TOKENS, 1))
    held = limits.batched_tokens * arch.hidden * engine.sampler_held_bytes
    if engine.experts_held:
        held += limits.batched_tokens * workspace_bytes(arch, setup)
    if engine.vision_pass_bytes and sees_images(arch, setup):
        held += image_tokens(arch, limits) * arch.hidden * SIXTEEN_BIT
    return rows * arch.vocab * engine.sampler_bytes + held


def workspace_bytes(arch: Architecture, setup: Setup) -> float:
    """Of routed experts, per batched token: both inner matrices side by side or the output, whichever is wider, and what
    comes of the inner ones (vLLM, fused_moe/modular_kernel.py). MXFP4 kernels bring their own."""
    widest = 0.0
    for group in arch.groups:
        if isinstance(group.mlp, Experts) and setup.weights != "mxfp4":
            columns = group.mlp.intermediate / setup.tensor_parallel
            widest = max(
                widest, group.mlp.per_token * (max(2 * columns, arch.hidden) + columns) * SIXTEEN_BIT
            )
    return widest


def unpacked_bytes(arch: Architecture, setup: Setup) -> float:
    """bitsandbytes unpacks the matrix that it multiplies with: the largest one, to 16 bit."""
    if setup.weights != "bnb4":
        return 0.0
    linear_bytes, _ = bytes_per_weight(arch, setup.weights)
    widest = max(
        (group.mlp.intermediate for group in arch.groups if isinstance(group.mlp, DenseMlp)), default=0
    )
    return 2 * widest * arch.hidden / setup.tensor_parallel * (SIXTEEN_BIT - linear_bytes)
