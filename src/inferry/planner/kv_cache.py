"""How many bytes of cache one token and one sequence take on a device."""

from __future__ import annotations

import math
from collections import Counter

from .architecture import Architecture, Attention, FullAttention, LatentAttention, LinearAttention
from .setup import KvFormat, Setup
from .weights import stage_share

BYTES_PER_ELEMENT: dict[KvFormat, float] = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "nvfp4": 0.5 + 1 / 16,
    "q8_0": 34 / 32,
    "q4_0": 18 / 32,
}
"""With scales where the format has them by block: NVFP4 one byte per 16; ggml's q8_0 and q4_0 one fp16 per 32."""

INDEXER_BYTES_PER_ELEMENT = 1 + 4 / 128
"""DeepSeek Sparse Attention caches its index keys in fp8 with one fp32 scale per 128 (DeepSeek-V3.2, section 2)."""

NEARLY_AS_MANY = 1.25
"""Up to that ratio of layers vLLM pads the rarer kind instead of making more groups."""

CONVOLUTION_BYTES_PER_ELEMENT = 2.0
"""The last inputs of a linear layer's convolution stay in 16 bit, whatever its recurrent state is kept in."""

SPARSE_SCALE_ELEMENTS = 128
"""Latents that are read sparsely are stored in fp8 with one fp32 scale for so many (vLLM, `fp8_ds_mla`), their positions
in 16 bit: DeepSeek-V3.2 takes 512 + 4 x 4 + 2 x 64 = 656 B."""


def kv_bytes_per_token(arch: Architecture, setup: Setup, *, windows_as_full: bool = False) -> float:
    """On the fullest device, of a token beyond every window: 2 x layers x kv_heads/tp x head_dim x bytes for GQA,
    (kv_rank + rope) x layers x bytes for MLA, which tensor parallelism does not split.

    Llama 3.1 8B in 16 bit: 2 x 32 x 8 x 128 x 2 = 131,072. `windows_as_full`: engines that cache windowed layers whole.
    """
    total = sum(
        group.count * layer_bytes_per_token(group.attention, setup)
        for group in arch.groups
        if windows_as_full or window_tokens(group.attention) is None
    )
    return total * stage_share(arch, setup) / setup.context_parallel


def layer_bytes_per_token(attention: Attention, setup: Setup) -> float:
    """Of one layer on one device, as long as the token is kept."""
    width = BYTES_PER_ELEMENT[setup.kv]
    if isinstance(attention, FullAttention):
        if attention.shares_kv:
            return 0.0
        heads = math.ceil(attention.kv_heads / setup.tensor_parallel)
        value_dim = attention.head_dim if attention.v_head_dim is None else attention.v_head_dim
        return heads * (attention.head_dim + value_dim) * width
    if isinstance(attention, LatentAttention):
        if not attention.sparse_top_k:
            return (attention.kv_rank + attention.rope_dim) * width
        index = attention.indexer_dim * INDEXER_BYTES_PER_ELEMENT
        if setup.kv == "fp8":
            scales = 4 * attention.kv_rank / SPARSE_SCALE_ELEMENTS
            return attention.kv_rank + scales + 2 * attention.rope_dim + index
        return (attention.kv_rank + attention.rope_dim) * width + index
    return 0.0


def window_tokens(attention: Attention) -> int | None:
    """How far back a layer keeps its tokens, where that is bounded. Chunked layers (Llama 4) are kept whole: vLLM does
    not take them into its pool of mixed layers unless told (VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE)."""
    return attention.window_tokens if isinstance(attention, FullAttention) else None


def state_bytes_per_sequence(arch: Architecture, setup: Setup) -> float:
    """What a sequence holds on one device whatever its length: the states of its linear layers."""
    total = 0.0
    for group in arch.groups:
        if isinstance(group.attention, LinearAttention):
            linear = group.attention
            wide_state, wide_convolution = _state_widths(linear, setup)
            state = linear.state_elements * wide_state
            convolution = linear.conv_elements * wide_convolution
            total += group.count * (state + convolution) / setup.tensor_parallel
    return total * stage_share(arch, setup)


def _state_widths(linear: LinearAttention, setup: Setup) -> tuple[float, float]:
    """Bytes of an element of the state, and of the convolution before it. SGLang takes fp32 for states unless the config
    says otherwise (configs/mamba_utils.py), llama.cpp for both whatever it says (llama-model.cpp, recurrent_type_k and _v).
    Constant states without a convolution are windows, which are cached like keys."""
    recurrent = linear.conv_elements > 0
    if recurrent and setup.engine in ("llamacpp", "ollama"):
        return 4.0, 4.0
    state = 4.0 if recurrent and setup.engine == "sglang" else float(linear.state_bytes_per_element)
    return state, CONVOLUTION_BYTES_PER_ELEMENT


def sequence_bytes(
    arch: Architecture, setup: Setup, tokens: float, *, windows_as_full: bool = False, batched_tokens: int = 0
) -> float:
    """What one sequence of that length holds on one device. A windowed layer holds its window, and while a prompt is
    read also the tokens of the step (`batched_tokens`; vLLM, v1/kv_cache_interface.py)."""
    total = tokens * kv_bytes_per_token(arch, setup, windows_as_full=windows_as_full)
    if not windows_as_full:
        share = stage_share(arch, setup) / setup.context_parallel
        for group in arch.groups:
            window = window_tokens(group.attention)
            if window is not None:
                held = min(tokens, window + batched_tokens)
                total += group.count * share * held * layer_bytes_per_token(group.attention, setup)
    return total + state_bytes_per_sequence(arch, setup)


def pooled_bytes_per_token(arch: Architecture, setup: Setup) -> float:
    """Where kinds of layers share one pool: groups of as many layers as the rarest kind has (or the most frequent one,
    where they are nearly as many), each with a block of every token (vLLM, v1/core/kv_cache_utils.py). Gemma 3 27B, 10
    full and 52 windowed layers: 1 + 6 groups of 10."""
    layers: Counter[tuple[bool, int | None]] = Counter()
    for group in arch.groups:
        if group.attention is not None and not _without_cache(group.attention):
            layers[_kind(group.attention)] += group.count
    widest = max((layer_bytes_per_token(group.attention, setup) for group in arch.groups), default=0.0)
    rarest, most = min(layers.values()), max(layers.values())
    size = most if most < NEARLY_AS_MANY * rarest else rarest
    pools = sum(math.ceil(count / size) for count in layers.values())
    return pools * size * widest * stage_share(arch, setup) / setup.context_parallel


def _without_cache(attention: Attention) -> bool:
    return isinstance(attention, FullAttention) and attention.shares_kv


def _kind(attention: Attention) -> tuple[bool, int | None]:
    return isinstance(attention, LinearAttention), window_tokens(attention)


def is_hybrid(arch: Architecture) -> bool:
    """Whether layers differ in what they keep, so that tokens alone don't tell what a sequence takes."""
    return {_kind(group.attention) for group in arch.groups if group.attention} != {(False, None)}
