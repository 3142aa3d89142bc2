"""GGUF headers mean the same as the config.json that they were made from."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.core.errors import ConfigError
from inferry.core.tensor_info import TensorInfo
from inferry.planner.architecture import Architecture
from inferry.planner.facts.model_catalog import find_model
from inferry.planner.model_gguf import architecture_from_gguf
from inferry.planner.params import count_params


def read(kind: str, keys: dict[str, Any], hidden: int, vocab: int, *, tied: bool = False) -> Architecture:
    """A header with `keys` behind the architecture's name, and the two tensors that tell vocabulary and head."""
    names = ["token_embd.weight"] + ([] if tied else ["output.weight"])
    tensors = [TensorInfo(name, (hidden, vocab), "Q8_0", hidden * vocab * 34 // 32) for name in names]
    header = {"general.architecture": kind, **{f"{kind}.{key}": value for key, value in keys.items()}}
    return architecture_from_gguf("m", {**header, f"{kind}.embedding_length": hidden}, tensors)


def test_llama() -> None:
    """Llama 3.1 8B, from the keys that llama.cpp writes."""
    keys = {
        "block_count": 32,
        "feed_forward_length": 14336,
        "attention.head_count": 32,
        "attention.head_count_kv": 8,
        "context_length": 131072,
        "rope.dimension_count": 128,
    }
    found = read("llama", keys, 4096, 128256)
    assert count_params(found).total == count_params(find_model("llama3.1:8b")).total
    assert found.native_format == "gguf"
    assert "its files hold" in found.notes[0]  # two tensors are no whole model


def test_a_mixture_with_norms_of_heads() -> None:
    """Qwen3 30B-A3B."""
    keys = {
        "block_count": 48,
        "feed_forward_length": 6144,
        "expert_feed_forward_length": 768,
        "expert_count": 128,
        "expert_used_count": 8,
        "attention.head_count": 32,
        "attention.head_count_kv": 4,
        "attention.key_length": 128,
        "attention.value_length": 128,
        "context_length": 40960,
    }
    found = read("qwen3moe", keys, 2048, 151936)
    assert found.groups == find_model("Qwen/Qwen3-30B-A3B").groups


@pytest.mark.parametrize(
    "lengths",
    [
        {"attention.key_length": 192, "attention.value_length": 128},
        {
            "attention.key_length": 576,
            "attention.value_length": 512,
            "attention.key_length_mla": 192,
            "attention.value_length_mla": 128,
        },
    ],
)
def test_mla_of_older_and_newer_files(lengths: dict[str, int]) -> None:
    """DeepSeek-V3: files made before llama.cpp absorbed the latent tell other key lengths, and mean the same."""
    keys = {
        "block_count": 61,
        "feed_forward_length": 18432,
        "expert_feed_forward_length": 2048,
        "expert_count": 256,
        "expert_used_count": 8,
        "expert_shared_count": 1,
        "leading_dense_block_count": 3,
        "attention.head_count": 128,
        "attention.head_count_kv": 1,
        "attention.q_lora_rank": 1536,
        "attention.kv_lora_rank": 512,
        "rope.dimension_count": 64,
        "context_length": 163840,
        **lengths,
    }
    found = read("deepseek2", keys, 7168, 129280)
    assert found.groups == find_model("deepseek-ai/DeepSeek-V3").groups


def test_windows_and_a_tied_head() -> None:
    """Gemma 3 1B: five layers of six have a window; without output.weight the embedding is the head."""
    keys = {
        "block_count": 26,
        "feed_forward_length": 6912,
        "attention.head_count": 4,
        "attention.head_count_kv": 1,
        "attention.key_length": 256,
        "attention.value_length": 256,
        "attention.sliding_window": 512,
        "context_length": 32768,
    }
    found = read("gemma3", keys, 1152, 262144, tied=True)
    assert found.groups == find_model("google/gemma-3-1b-it").groups
    assert found.tied_embeddings


def test_a_hybrid_lists_its_layers_by_their_kv_heads() -> None:
    """Nemotron-H: no KV heads and a width is an MLP, neither is a Mamba."""
    keys = {
        "block_count": 4,
        "feed_forward_length": [0, 128, 0, 0],
        "attention.head_count": 4,
        "attention.head_count_kv": [0, 0, 2, 0],
        "attention.key_length": 16,
        "attention.value_length": 16,
        "ssm.conv_kernel": 4,
        "ssm.state_size": 16,
        "ssm.group_count": 2,
        "ssm.inner_size": 128,
        "ssm.time_step_rank": 8,
        "context_length": 4096,
    }
    found = read("nemotron_h", keys, 64, 100)
    assert [(type(group.attention).__name__, group.count) for group in found.groups] == [
        ("LinearAttention", 2),
        ("NoneType", 1),
        ("FullAttention", 1),
    ]


def test_an_adapter_is_no_model() -> None:
    """Without an architecture there is nothing to plan."""
    with pytest.raises(ConfigError, match="adapter"):
        architecture_from_gguf("m", {"general.type": "adapter"}, ())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.head_count_kv", []),
        ("attention.head_count_kv", ["a", "b"]),
        ("block_count", "two"),
        ("rope.dimension_count", "x"),
        ("ssm.inner_size", "x"),
        ("attention.sliding_window", float("nan")),
        ("expert_used_count", 99),
    ],
)
def test_a_damaged_header_is_an_error(key: str, value: object) -> None:
    """Texts and lists where numbers belong."""
    keys: dict[str, Any] = {
        "block_count": 2,
        "feed_forward_length": 64,
        "attention.head_count": 4,
        "attention.kv_lora_rank": 8 if key.startswith("rope") else 0,
        "expert_count": 8 if key.startswith("expert") else 0,
        "ssm.time_step_rank": 4,
    }
    with pytest.raises(ConfigError, match=r"^m\b"):
        read("gemma3" if "window" in key else "llama", {**keys, key: value}, 64, 100)
