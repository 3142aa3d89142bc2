"""Which degrees of parallelism a model's shape and the engine allow."""

from __future__ import annotations

from inferry.planner.architecture import (
    Architecture,
    DenseMlp,
    Experts,
    FullAttention,
    LayerGroup,
    Mlp,
    WeightFormat,
)
from inferry.planner.parallel_choices import Parallel, parallel_choices, pipeline_problem, tensor_problem


def model(
    *, heads: int, kv_heads: int, mlp: Mlp, layers: int = 32, native: WeightFormat = "bf16"
) -> Architecture:
    attention = FullAttention(heads, kv_heads, 128)
    return Architecture(
        name="m",
        hidden=heads * 128,
        vocab=128_256,
        groups=(LayerGroup(layers, attention, mlp),),
        tied_embeddings=False,
        max_position=8192,
        native_format=native,
    )


LLAMA_8B = model(heads=32, kv_heads=8, mlp=DenseMlp(14_336))
QWEN_7B = model(heads=28, kv_heads=4, mlp=DenseMlp(18_944), layers=28)
QWEN_235B = model(heads=64, kv_heads=4, mlp=Experts(128, 8, 1536), layers=94, native="fp8_block")


def test_heads_that_do_not_divide_leave_a_pipeline() -> None:
    """28 heads are no good for 8 devices: 4 of them beside each other, in two stages."""
    assert "28 attention heads" in str(tensor_problem(QWEN_7B, "vllm", 8))
    assert parallel_choices(QWEN_7B, "vllm", 8)[0] == Parallel(tensor=4, pipeline=2)


def test_kv_heads_are_copied_where_devices_outnumber_them_but_not_in_tgi() -> None:
    """16 devices hold 8 KV heads twice in vLLM; TGI wants one of its own on each."""
    assert tensor_problem(LLAMA_8B, "vllm", 16) is None
    assert "8 KV heads" in str(tensor_problem(LLAMA_8B, "tgi", 16))


def test_blocks_that_share_a_scale_stay_whole() -> None:
    """1,536 FP8 columns over 8 are 192 each, no whole blocks of 128: spread whole experts, or take 4."""
    assert "whole groups of 128" in str(tensor_problem(QWEN_235B, "vllm", 8))
    assert tensor_problem(QWEN_235B, "vllm", 8, expert=8) is None
    assert tensor_problem(QWEN_235B, "vllm", 8, "bf16") is None
    choices = parallel_choices(QWEN_235B, "vllm", 8)
    assert Parallel(8, 1, 8) in choices
    assert Parallel(8, 1, 1) not in choices
    assert all(choice.devices == 8 for choice in choices)


def test_engines_differ_in_what_they_can() -> None:
    """TGI has tensor parallelism only; llama.cpp lays whole layers; a dense model has no experts to spread."""
    assert "no pipeline" in str(pipeline_problem(LLAMA_8B, "tgi", 2))
    assert parallel_choices(LLAMA_8B, "llamacpp", 3) == (Parallel(pipeline=3),)
    assert parallel_choices(LLAMA_8B, "llamacpp", 33) == ()
    assert parallel_choices(LLAMA_8B, "tgi", 2) == (Parallel(tensor=2),)
    assert "no experts" in str(tensor_problem(LLAMA_8B, "vllm", 2, expert=2))
    assert "no expert parallelism" in str(tensor_problem(QWEN_235B, "tgi", 4, expert=4))


def test_one_device_needs_no_splitting() -> None:
    """Whatever the shape, one device has one way."""
    assert parallel_choices(QWEN_7B, "sglang", 1) == (Parallel(),)
