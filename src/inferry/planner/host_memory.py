"""What a CPU engine's processes hold of the machine's memory, as the kernel counts it (PSS), when it is ready.

Measured on the project's test machine (docs/calibrate.md): weights + copies of them in another layout + KV cache + the
program itself. llama.cpp maps the file and touches all of it, and keeps a second copy of types that its kernels want
interleaved; it clears, and so touches, the whole KV cache. vLLM's CPU build touches all of VLLM_CPU_KVCACHE_SPACE.
"""

from __future__ import annotations

from collections.abc import Sequence

from inferry.core.tensor_info import TensorInfo

from .architecture import Architecture
from .kv_cache import kv_bytes_per_token
from .setup import Setup

LLAMACPP_BASE_BYTES = 46_000_000
"""Measured with xllamacpp 2026.10 on models of 0.33B parameters in Q4_1 and Q8_0, beside weights and KV cache."""
VLLM_CPU_BASE_BYTES = 1_906_000_000
"""Measured with vLLM 0.32.0+cpu: Python, torch and its libraries in all its processes, the same at 1 and 2 GiB of KV cache."""
REPACKED_TYPES = frozenset({"Q4_0", "Q4_K", "Q2_K", "IQ4_NL"})
"""On x86 with AVX2 (ggml-cpu/repack.cpp). Measured: Q4_0 and Q4_K are held twice, Q4_1 and Q8_0 once."""


def host_memory_bytes(
    engine: str,
    arch: Architecture,
    weights_bytes: float,
    *,
    copies_bytes: float,
    kv_tokens: int,
    kv_space_bytes: int,
    base: int | None = None,
) -> int:
    """`kv_tokens`: of all slots, for llama.cpp; `kv_space_bytes`: what vLLM is told to take. `base`: as calibrated."""
    if engine == "vllm":
        return int(weights_bytes + kv_space_bytes + (VLLM_CPU_BASE_BYTES if base is None else base))
    kv_bytes = kv_tokens * kv_bytes_per_token(arch, Setup("llamacpp", kv="fp16"))
    return int(weights_bytes + copies_bytes + kv_bytes + (LLAMACPP_BASE_BYTES if base is None else base))


def repacked_bytes(tensors: Sequence[TensorInfo]) -> int:
    """Of the second copy. The table of tokens is looked up by rows, and stays as it is."""
    return sum(
        each.stored_bytes
        for each in tensors
        if each.stored_type in REPACKED_TYPES and not each.name.startswith("token_embd")
    )


def base_bytes(loaded_bytes: int, engine: str, without_base_bytes: int) -> int:
    """What a measured start had besides weights, copies and KV cache; the shipped figure where that can't be: pages of
    a file that other processes have mapped too are counted in part only."""
    shipped = VLLM_CPU_BASE_BYTES if engine == "vllm" else LLAMACPP_BASE_BYTES
    base = loaded_bytes - without_base_bytes
    return base if base > shipped / 2 else shipped
