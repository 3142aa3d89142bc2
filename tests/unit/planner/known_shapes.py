"""Architectures of published models by hand, so that tests of memory don't depend on the catalog."""

from __future__ import annotations

from inferry.planner.architecture import (
    Architecture,
    DenseMlp,
    Experts,
    FullAttention,
    LatentAttention,
    LayerGroup,
    LinearAttention,
)
from inferry.planner.device import Device

GIB = 2**30


def gpu(
    usable_gib: float, name: str = "h100-80g", memory_gib: float | None = None, vendor: str = "nvidia"
) -> Device:
    return Device(
        name=name,
        kind="gpu",
        vendor=vendor,
        memory_bytes=int((memory_gib or usable_gib * 1.01) * GIB),
        usable_bytes=int(usable_gib * GIB),
        bandwidth_bytes_per_s=3.35e12,
        flops_per_s={"bf16": 9.9e14, "fp8": 1.98e15},
        link_bytes_per_s=4.5e11,
        compute_capability="9.0",
    )


H100 = gpu(79.19)


def dense(
    *,
    hidden: int,
    layers: int,
    heads: int,
    kv_heads: int,
    mlp: int,
    vocab: int,
    position: int = 131_072,
    tied: bool = False,
) -> Architecture:
    return Architecture(
        name="dense",
        hidden=hidden,
        vocab=vocab,
        groups=(LayerGroup(layers, FullAttention(heads, kv_heads, 128), DenseMlp(mlp)),),
        tied_embeddings=tied,
        max_position=position,
    )


LLAMA_8B = dense(hidden=4096, layers=32, heads=32, kv_heads=8, mlp=14_336, vocab=128_256)
LLAMA_70B = dense(hidden=8192, layers=80, heads=64, kv_heads=8, mlp=28_672, vocab=128_256)

DEEPSEEK_R1 = Architecture(
    name="deepseek-r1",
    hidden=7168,
    vocab=129_280,
    groups=(
        LayerGroup(3, LatentAttention(128, 512, 64, 128, 128, q_rank=1536), DenseMlp(18_432)),
        LayerGroup(
            58,
            LatentAttention(128, 512, 64, 128, 128, q_rank=1536),
            Experts(256, 8, 2048, shared_intermediate=2048),
        ),
    ),
    tied_embeddings=False,
    max_position=163_840,
    native_format="fp8_block",
)

WINDOWED = Architecture(
    name="windowed",
    hidden=2048,
    vocab=32_000,
    groups=(
        LayerGroup(4, FullAttention(16, 4, 128), DenseMlp(8192)),
        LayerGroup(20, FullAttention(16, 4, 128, window_tokens=1024), DenseMlp(8192)),
    ),
    tied_embeddings=True,
    max_position=131_072,
)
"""One layer in six sees everything, like Gemma 3."""

LINEAR = Architecture(
    name="linear",
    hidden=2048,
    vocab=151_936,
    groups=(
        LayerGroup(10, FullAttention(16, 2, 256), DenseMlp(8192)),
        LayerGroup(
            30,
            LinearAttention(state_elements=524_288, conv_elements=24_576, params=25_000_000),
            DenseMlp(8192),
        ),
    ),
    tied_embeddings=False,
    max_position=262_144,
)
