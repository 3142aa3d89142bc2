"""Bytes of weights on a device: by class of tensor, by format and by split."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferry.planner.architecture import Architecture, Experts, FullAttention, LayerGroup
from inferry.planner.facts.model_catalog import find_model
from inferry.planner.params import count_params
from inferry.planner.setup import Setup
from inferry.planner.weights import rotary_bytes, weight_bytes
from tests.unit.planner.known_shapes import DEEPSEEK_R1, GIB, H100, LINEAR, LLAMA_8B, LLAMA_70B, WINDOWED


@pytest.mark.parametrize("arch", [LLAMA_8B, LLAMA_70B, WINDOWED, LINEAR], ids=lambda arch: arch.name)
def test_sixteen_bits_on_one_device_are_two_bytes_per_parameter(arch: Architecture) -> None:
    """Nothing is lost or counted twice between the classes: all parameters and the table of rotations, no more."""
    assert weight_bytes(arch, Setup("vllm")) == 2 * count_params(arch).total + rotary_bytes(arch)


@pytest.mark.parametrize(
    ("model", "setup", "printed_gib"),
    [
        ("meta-llama/Llama-3.1-8B", Setup("vllm"), 14.99),
        ("meta-llama/Llama-3.3-70B-Instruct", Setup("vllm", weights="fp8"), 67.72),
        ("meta-llama/Llama-3.3-70B-Instruct", Setup("vllm", weights="fp8", tensor_parallel=2), 33.88),
        ("Qwen/Qwen3-32B", Setup("vllm"), 61.03),
        ("openai/gpt-oss-20b", Setup("vllm", weights="mxfp4"), 13.47),
        ("openai/gpt-oss-120b", Setup("vllm", weights="mxfp4"), 64.38),
        ("deepseek-ai/DeepSeek-R1", Setup("vllm", weights="fp8_block", tensor_parallel=16), 40.3174),
        ("Qwen/Qwen2-VL-7B-Instruct", Setup("vllm", weights="awq"), 6.47),
    ],
)
def test_what_vllm_printed_is_met_within_half_a_percent(model: str, setup: Setup, printed_gib: float) -> None:
    """Dense, FP8, MXFP4, AWQ, MLA with its absorbed matrices, a vision tower: the weights that starts printed."""
    assert weight_bytes(find_model(model), setup) / GIB == pytest.approx(printed_gib, rel=0.005)


def test_key_and_value_projections_are_copied_beyond_the_number_of_heads() -> None:
    """Two KV heads over four devices: each device has one, not half of one."""
    arch = replace(LLAMA_8B, groups=(LayerGroup(1, FullAttention(32, 2, 128), None),))
    halves, quarters = (weight_bytes(arch, Setup("vllm", tensor_parallel=degree)) for degree in (2, 4))
    queries_and_out = 2 * 4096 * 32 * 128 * 2
    vocabulary = 2 * 128_256 * 4096 * 2
    assert halves - quarters == (queries_and_out + vocabulary) // 4


def test_latents_are_not_split() -> None:
    """MLA's projections into the latents are whole on each device: 16 devices hold more than a sixteenth."""
    whole, part = (
        weight_bytes(DEEPSEEK_R1, Setup("vllm", weights="fp8_block", tensor_parallel=degree))
        for degree in (1, 16)
    )
    down = 61 * 7168 * (1536 + 512 + 64)
    assert part - whole / 16 > 0.9 * down


def test_mixers_count_in_the_format_that_the_checkpoint_has_for_them() -> None:
    """A 4-bit checkpoint with 16-bit mixers: its mixers count 2 bytes each, but in that checkpoint only."""
    plain = replace(LLAMA_8B, native_format="nvfp4")
    mixed = replace(plain, attention_format="bf16")
    mixers = 32 * 2 * 4096 * (4096 + 1024)
    for weights, more in (("nvfp4", mixers * (2 - 0.5625)), ("fp8", 0)):
        setup = Setup("vllm", weights=weights)  # type: ignore[arg-type]
        assert weight_bytes(mixed, setup) - weight_bytes(plain, setup) == more


@pytest.mark.parametrize("name", ["nvidia/Gemma-4-31B-IT-NVFP4", "nvidia/Qwen3.6-27B-NVFP4"])
def test_wider_mixers_of_a_catalog_model_are_counted(name: str) -> None:
    """Published 4-bit checkpoints of dense models keep attention wider, which is gigabytes."""
    arch = find_model(name)
    setup = Setup("vllm", weights="nvfp4")
    assert weight_bytes(arch, setup) > weight_bytes(replace(arch, attention_format=None), setup) + 2 * GIB


def test_a_format_that_is_read_from_a_name_is_of_all_linear_layers() -> None:
    """The 4-bit checkpoint's 16-bit mixers say nothing about another copy of the model."""
    found = find_model("Kimi-K2-Thinking-FP8")
    assert (found.native_format, found.attention_format) == ("fp8", None)


def test_only_linear_layers_shrink() -> None:
    """FP8 saves one byte of each linear weight; tables, norms and routers stay as they are."""
    plain, small = (weight_bytes(LLAMA_8B, Setup("vllm", weights=weights)) for weights in ("bf16", "fp8"))
    params = count_params(LLAMA_8B)
    assert plain - small == params.attention + params.dense_mlp


def test_experts_spread_over_all_devices_of_a_stage() -> None:
    """With attention data parallelism the experts are shared out over all ranks, the attention is on each."""
    arch = replace(LLAMA_8B, groups=(LayerGroup(1, FullAttention(32, 8, 128), Experts(64, 4, 1024)),))
    alone, ranks = (weight_bytes(arch, Setup("sglang", data_parallel=degree)) for degree in (1, 8))
    assert alone - ranks == 64 * 3 * 4096 * 1024 * 2 * 7 // 8


def test_uneven_experts_count_for_the_fullest_device() -> None:
    """Ten whole experts over four devices: somebody has three."""
    arch = replace(LLAMA_8B, groups=(LayerGroup(1, None, Experts(10, 2, 1024)),))
    one = 3 * 4096 * 1024 * 2
    empty = replace(LLAMA_8B, groups=(LayerGroup(1, None, Experts(0, 0, 1024)),))
    setup = Setup("vllm", tensor_parallel=4, expert_parallel=4)
    routers = 4096 * 10 * 2
    assert (
        weight_bytes(arch, setup) - weight_bytes(empty, replace(setup, expert_parallel=1))
        == 3 * one + routers
    )


def test_a_file_of_known_size_is_taken_at_its_word() -> None:
    """GGUF's types differ by tensor: the file's own size counts."""
    arch = replace(LLAMA_8B, native_format="gguf", stored_bytes=5_000_000_000)
    assert weight_bytes(arch, Setup("llamacpp", weights="gguf")) == 5_000_000_000


def test_a_tied_table_is_held_once_but_at_both_ends_of_a_pipeline() -> None:
    """One device holds the table once. With two stages each end needs it."""
    one, two = (weight_bytes(WINDOWED, Setup("vllm", pipeline_parallel=degree)) for degree in (1, 2))
    table = 32_000 * 2048 * 2
    on_each = table + rotary_bytes(WINDOWED) + 2048 * 2
    assert two == pytest.approx((one - on_each) / 2 + on_each, abs=2)


def test_a_gguf_file_of_unknown_size_is_estimated_as_a_whole() -> None:
    """Q4_K_M of Llama 3.1 8B is a file of 4.92 GB: 4.89 bits of each weight, tables too."""
    held = weight_bytes(LLAMA_8B, Setup("llamacpp", weights="gguf")) - rotary_bytes(LLAMA_8B)
    assert held / 1e9 == pytest.approx(4.92, rel=0.02)


@pytest.mark.parametrize(
    ("capability", "vendor", "tensor", "columns"),
    [
        ("9.0", "nvidia", 1, 2880),
        ("9.0", "nvidia", 8, 384),
        ("8.0", "nvidia", 1, 2944),
        ("12.0", "nvidia", 1, 2944),
        ("10.0", "nvidia", 1, 3072),
        (None, "amd", 1, 3072),
    ],
)
def test_kernels_pad_the_columns_of_mxfp4_experts(
    capability: str | None, vendor: str, tensor: int, columns: int
) -> None:
    """gpt-oss-120b's 2,880 by the step of the device's kernels, on each device: 36 layers x 128 experts x 3 matrices of
    3,072 padded rows."""
    arch = find_model("openai/gpt-oss-120b")
    device = replace(H100, compute_capability=capability, vendor=vendor)
    setup = Setup("vllm", weights="mxfp4", tensor_parallel=tensor)
    more = weight_bytes(arch, setup, device) - weight_bytes(arch, replace(setup, tensor_parallel=1)) / tensor
    per_column = 36 * 128 * 3 * 3072 * (0.5 + 1 / 32)
    # Devices also have copies of norms, routers and of padded rows of the vocabulary: below 0.15 GiB.
    assert more / GIB == pytest.approx((columns - 2880 / tensor) * per_column / GIB, abs=0.15)


def test_bytes_of_safetensors_are_no_size_of_a_gguf_file() -> None:
    """A folder of 16-bit weights, asked for as GGUF: by bits per weight, as if its bytes were not known."""
    arch = replace(LLAMA_8B, stored_bytes=16_060_000_000)
    setup = Setup("llamacpp", weights="gguf")
    assert weight_bytes(arch, setup) == weight_bytes(LLAMA_8B, setup)
    assert weight_bytes(replace(arch, native_format="gguf"), setup) == 16_060_000_000
