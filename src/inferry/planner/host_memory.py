"""What a CPU engine's processes hold of the machine's memory, as the kernel counts it (PSS), when it is ready.

Measured on the project's test machine (docs/calibrate.md): weights + copies of them in another layout + KV cache + the
program itself. llama.cpp maps the file and touches all of it, and keeps a second copy of types that its kernels want
interleaved (ggml-cpu/repack.cpp: Q4_0, Q4_K, Q2_K, IQ4_NL on x86); it clears, and so touches, the whole KV cache.
vLLM's CPU build touches all of VLLM_CPU_KVCACHE_SPACE.
"""

from __future__ import annotations

from .architecture import Architecture
from .kv_cache import kv_bytes_per_token
from .params import count_params
from .setup import Setup

LLAMACPP_BASE_BYTES = 46_000_000
"""Measured with xllamacpp 2026.10: 46 MB beside weights and KV cache, the same for four models from 0.3 to 1.1 GB."""
VLLM_CPU_BASE_BYTES = 1_906_000_000
"""Measured with vLLM 0.32.0+cpu: Python, torch and its libraries in two processes, the same at 1 and 2 GiB of KV cache."""
REPACKED_BYTES_PER_WEIGHT = {"q4_0": 18 / 32, "q4_k": 144 / 256, "q2_k": 84 / 256, "iq4_nl": 18 / 32}


def host_memory_bytes(
    engine: str,
    arch: Architecture,
    weights_bytes: float,
    weights_format: str,
    *,
    kv_tokens: int,
    kv_space_bytes: int,
    base: int | None = None,
) -> int:
    """`kv_tokens`: of all slots, for llama.cpp; `kv_space_bytes`: what vLLM is told to take. `base`: as calibrated."""
    if engine == "vllm":
        return int(weights_bytes + kv_space_bytes + (VLLM_CPU_BASE_BYTES if base is None else base))
    kv_bytes = kv_tokens * kv_bytes_per_token(arch, Setup("llamacpp", kv="fp16"))
    copies = repacked_bytes(arch, weights_format)
    return int(weights_bytes + copies + kv_bytes + (LLAMACPP_BASE_BYTES if base is None else base))


def repacked_bytes(arch: Architecture, weights_format: str) -> float:
    """Of the second copy: all layers' matrices; the tables of tokens are of another type in such files, and stay."""
    each = REPACKED_BYTES_PER_WEIGHT.get(weights_format, 0.0)
    params = count_params(arch)
    return each * (params.total - params.embedding - params.head - params.norms)


def base_bytes(
    loaded_bytes: int,
    engine: str,
    arch: Architecture,
    weights_bytes: float,
    weights_format: str,
    *,
    kv_tokens: int,
    kv_space_bytes: int,
) -> int:
    """What a measured start had besides weights, copies and KV cache; the shipped figure where nothing was measured."""
    rest = host_memory_bytes(
        engine,
        arch,
        weights_bytes,
        weights_format,
        kv_tokens=kv_tokens,
        kv_space_bytes=kv_space_bytes,
        base=0,
    )
    shipped = VLLM_CPU_BASE_BYTES if engine == "vllm" else LLAMACPP_BASE_BYTES
    return max(loaded_bytes - rest, 0) or shipped
