"""What a token and a sequence take of the cache: closed forms, computed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferry.planner.architecture import FullAttention, LayerGroup, LinearAttention
from inferry.planner.facts.model_catalog import find_model
from inferry.planner.kv_cache import is_hybrid, kv_bytes_per_token, sequence_bytes, state_bytes_per_sequence
from inferry.planner.setup import EngineName, Setup
from tests.unit.planner.known_shapes import DEEPSEEK_R1, LINEAR, LLAMA_8B, LLAMA_70B, WINDOWED


@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        (Setup("vllm"), 131_072),
        (Setup("vllm", kv="fp8"), 65_536),
        (Setup("vllm", tensor_parallel=8), 16_384),
        (Setup("vllm", tensor_parallel=16), 16_384),
        (Setup("vllm", pipeline_parallel=2), 65_536),
        (Setup("llamacpp", kv="q8_0"), 131_072 * 34 / 64),
    ],
)
def test_grouped_heads(setup: Setup, expected: float) -> None:
    """2 x 32 layers x 8 heads x 128 x 2 B = 128 KiB; heads are shared out until each device has one."""
    assert kv_bytes_per_token(LLAMA_8B, setup) == expected


def test_latents_are_cached_whole_on_every_device() -> None:
    """DeepSeek R1: (512 + 64) x 61 layers x 2 B = 70,272 B, at any tensor parallelism."""
    assert kv_bytes_per_token(DEEPSEEK_R1, Setup("vllm")) == 70_272
    assert kv_bytes_per_token(DEEPSEEK_R1, Setup("vllm", tensor_parallel=8)) == 70_272


def test_decode_context_parallel_spreads_the_tokens() -> None:
    """Trap 2: Kimi K2 on eight devices prints 8 x as many tokens of the same memory."""
    setup = Setup("vllm", tensor_parallel=8)
    spread = replace(setup, context_parallel=8)
    assert kv_bytes_per_token(DEEPSEEK_R1, spread) * 8 == kv_bytes_per_token(DEEPSEEK_R1, setup)


def test_windowed_layers_stop_growing() -> None:
    """Four full layers grow by 8 KiB a token; 20 windowed ones hold 1,024 tokens, and more while a prompt is read."""
    setup = Setup("vllm")
    layer = 2 * 4 * 128 * 2
    assert kv_bytes_per_token(WINDOWED, setup) == 4 * layer
    assert sequence_bytes(WINDOWED, setup, 10_000) == (4 * 10_000 + 20 * 1024) * layer
    assert sequence_bytes(WINDOWED, setup, 10_000, batched_tokens=2048) == (4 * 10_000 + 20 * 3072) * layer
    assert sequence_bytes(WINDOWED, setup, 500) == 24 * 500 * layer


def test_engines_that_don_t_know_windows_keep_every_token() -> None:
    """vLLM V0 treats windowed layers as full ones."""
    setup = Setup("vllm")
    assert kv_bytes_per_token(WINDOWED, setup, windows_as_full=True) == 24 * 2 * 4 * 128 * 2
    assert sequence_bytes(WINDOWED, setup, 10_000, windows_as_full=True) == 10_000 * 24 * 2 * 4 * 128 * 2


def test_linear_layers_cost_a_sequence_not_a_token() -> None:
    """30 layers of (524,288 + 24,576) elements of 2 B, split by devices; 10 full layers grow."""
    setup = Setup("vllm")
    state = 30 * (524_288 + 24_576) * 2
    assert state_bytes_per_sequence(LINEAR, setup) == state
    assert state_bytes_per_sequence(LINEAR, replace(setup, tensor_parallel=4)) == state / 4
    assert sequence_bytes(LINEAR, setup, 1000) == state + 1000 * 10 * 2 * 2 * 256 * 2


def test_a_layer_that_reads_another_s_cache_has_none() -> None:
    """Gemma 3n's last layers share the keys and values of earlier ones."""
    shared = FullAttention(32, 8, 128, shares_kv=True)
    arch = replace(LLAMA_8B, groups=(*LLAMA_8B.groups, LayerGroup(16, shared, None)))
    assert kv_bytes_per_token(arch, Setup("vllm")) == kv_bytes_per_token(LLAMA_8B, Setup("vllm"))


def test_only_mixed_models_are_hybrid() -> None:
    """Tokens alone tell what a sequence takes where all layers keep every token."""
    assert [is_hybrid(arch) for arch in (LLAMA_70B, DEEPSEEK_R1, WINDOWED, LINEAR)] == [
        False,
        False,
        True,
        True,
    ]


def test_latents_that_are_read_sparsely_have_a_layout_of_their_own_in_fp8() -> None:
    """DeepSeek-V3.2: 656 B of latent and 132 of index per layer and token, not 576 + 132; V3 has 576."""
    setup = Setup("vllm", weights="fp8_block", kv="fp8", tensor_parallel=8)
    sparse = find_model("deepseek-ai/DeepSeek-V3.2")
    assert kv_bytes_per_token(sparse, setup) == 61 * (656 + 132)
    assert kv_bytes_per_token(sparse, replace(setup, kv="bf16")) == 61 * (2 * 576 + 132)
    assert kv_bytes_per_token(find_model("deepseek-ai/DeepSeek-V3"), setup) == 61 * 576


@pytest.mark.parametrize("width", [2, 4])
def test_states_are_as_wide_as_the_model_asks(width: int) -> None:
    """Recurrent states of one layer in 16 or 32 bit, the convolution's inputs always in 16."""
    mixer = LinearAttention(state_elements=1000, conv_elements=100, params=1, state_bytes_per_element=width)
    arch = replace(LLAMA_8B, groups=(LayerGroup(3, mixer, None),))
    assert state_bytes_per_sequence(arch, Setup("vllm")) == 3 * (1000 * width + 100 * 2)


@pytest.mark.parametrize(
    ("engine", "state", "convolution"),
    [("vllm", 2, 2), ("sglang", 4, 2), ("llamacpp", 4, 4), ("ollama", 4, 4)],
)
def test_some_engines_keep_states_in_fp32_unasked(engine: EngineName, state: int, convolution: int) -> None:
    """SGLang its states, llama.cpp also what its convolutions need; a window that is told as a state stays as it is."""
    recurrent = LinearAttention(state_elements=1000, conv_elements=100, params=1)
    window = LinearAttention(state_elements=1000, conv_elements=0, params=1)
    held = [
        state_bytes_per_sequence(replace(LLAMA_8B, groups=(LayerGroup(1, mixer, None),)), Setup(engine))
        for mixer in (recurrent, window)
    ]
    assert held == [1000 * state + 100 * convolution, 1000 * 2]
