"""From the header of a GGUF file to the `Architecture` that planning needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from inferry.core.errors import ConfigError
from inferry.core.tensor_info import TensorInfo

from .architecture import Architecture
from .config_fields import shortened
from .config_sizes import FAULTS
from .exact_counts import with_tensors
from .model_config import architecture_from_config

_TYPES: Mapping[str, str] = {
    "qwen2moe": "qwen2_moe", "qwen2vl": "qwen2_vl_text", "qwen3moe": "qwen3_moe", "qwen3vl": "qwen3_vl_text",
    "qwen3vlmoe": "qwen3_vl_moe_text", "qwen3next": "qwen3_next", "qwen35": "qwen3_5_text",
    "qwen35moe": "qwen3_5_moe_text", "phi2": "phi", "gptneox": "gpt_neox", "starcoder": "gpt_bigcode",
    "gemma3": "gemma3_text", "gemma3n": "gemma3n_text", "gemma4": "gemma4_text", "command-r": "cohere",
    "deepseek2": "deepseek_v3", "glm4moe": "glm4_moe", "glm-dsa": "glm_moe_dsa", "gpt-oss": "gpt_oss",
    "llama4": "llama4_text", "mistral3": "mistral", "granitehybrid": "granitemoehybrid", "nemotron_h_moe": "nemotron_h",
    "ernie4_5-moe": "ernie4_5_moe", "hunyuan-moe": "hunyuan_v1_moe", "hunyuan-dense": "hunyuan_v1_dense",
    "bailingmoe": "bailing_moe", "falcon-h1": "falcon_h1", "lfm2moe": "lfm2_moe", "minimax-m2": "minimax_m2",
    "kimi-linear": "kimi_linear", "grok": "grok-1", "step35": "step3p5", "mimo2": "mimo_v2_flash",
}  # fmt: skip
"""llama.cpp's names (src/llama-arch.cpp) where they differ from transformers' own."""

_KEYS: Mapping[str, str] = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.value_length": "v_head_dim",
    "attention.sliding_window": "sliding_window",
    "attention.kv_lora_rank": "kv_lora_rank",
    "attention.q_lora_rank": "q_lora_rank",
    "attention.indexer.head_count": "index_n_heads",
    "attention.indexer.key_length": "index_head_dim",
    "attention.indexer.top_k": "index_topk",
    "attention.shared_kv_layers": "num_kv_shared_layers",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_count": "n_shared_experts",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "moe_latent_size": "moe_latent_size",
    "leading_dense_block_count": "first_k_dense_replace",
    "interleave_moe_layer_step": "interleave_moe_layer_step",
    "full_attention_interval": "full_attention_interval",
    "ssm.conv_kernel": "conv_kernel",
    "ssm.state_size": "ssm_state_size",
    "ssm.group_count": "n_groups",
    "shortconv.l_cache": "conv_L_cache",
}
"""Keys behind the architecture's name (gguf-py/gguf/constants.py), and those of config.json that mean the same."""


def architecture_from_gguf(
    name: str, header: Mapping[str, Any], tensors: Sequence[TensorInfo], *, source: str = ""
) -> Architecture:
    """`header`: the file's pairs; `tensors`: all of them, of a model in several files those of all files.

    Sizes that the header leaves out are taken from the tensors' shapes. Raises ConfigError as the reading of configs.
    """
    try:
        return _read(name, header, tensors, source)
    except FAULTS as error:
        what = f"{type(error).__name__}: {shortened(str(error))}"
        raise ConfigError(
            f"{name}: its header can't be read as a model's ({what}); fetch it again"
        ) from error


def _read(name: str, header: Mapping[str, Any], tensors: Sequence[TensorInfo], source: str) -> Architecture:
    kind = str(header.get("general.architecture") or "")
    if not kind:
        raise ConfigError(f"{name}: its header has no 'general.architecture'; is it a model, or an adapter?")
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    config: dict[str, Any] = {
        ours: header[f"{kind}.{theirs}"] for theirs, ours in _KEYS.items() if f"{kind}.{theirs}" in header
    }
    config["model_type"] = _TYPES.get(kind, kind)
    config.setdefault("vocab_size", _vocabulary(header, shapes))
    config["tie_word_embeddings"] = bool(shapes) and "output.weight" not in shapes
    _by_layer(config, kind, header)
    _recurrent(config, kind, header)
    _latent(config, kind, header)
    if kind in ("starcoder", "gpt2", "gptj", "bloom", "mpt", "falcon"):
        config.setdefault("num_key_value_heads", config.get("num_attention_heads"))
    arch = architecture_from_config(name, config, source=source)
    return replace(with_tensors(arch, tensors), native_format="gguf")


def _vocabulary(header: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """ggml writes the fastest dimension first: an embedding is hidden x vocabulary."""
    if "token_embd.weight" in shapes:
        return shapes["token_embd.weight"][-1]
    tokens = header.get("tokenizer.ggml.tokens")
    return len(tokens) if isinstance(tokens, list) else 0


def _by_layer(config: dict[str, Any], kind: str, header: Mapping[str, Any]) -> None:
    """Hybrid models list heads and widths by layer; no KV heads means a recurrent layer, neither that nor a width none."""
    heads = config.get("num_key_value_heads")
    if not isinstance(heads, list):
        return
    widths = config.get("intermediate_size")
    experts = config["model_type"] == "nemotron_h"
    kinds = []
    for index, kv_heads in enumerate(heads):
        width = widths[index] if isinstance(widths, list) else 0
        if kv_heads:
            kinds.append("attention")
        elif experts and width:
            kinds.append("moe" if config.get("num_experts") else "mlp")
        else:
            kinds.append("mamba")
    config["layer_types"] = kinds
    config["num_key_value_heads"] = max(heads)
    for key in ("num_attention_heads", "intermediate_size"):
        if isinstance(config.get(key), list):
            config[key] = max(config[key])


def _recurrent(config: dict[str, Any], kind: str, header: Mapping[str, Any]) -> None:
    """ggml counts a mixer's heads as `time_step_rank` and tells its inner width."""
    inner, rank = header.get(f"{kind}.ssm.inner_size"), header.get(f"{kind}.ssm.time_step_rank")
    if not inner or not rank:
        return
    if config["model_type"] in ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"):
        config["linear_num_value_heads"] = rank
        config["linear_value_head_dim"] = inner // rank
        config["linear_num_key_heads"] = header.get(f"{kind}.ssm.group_count")
        config["linear_key_head_dim"] = config.get("ssm_state_size")
    elif config["model_type"] in ("jamba", "mamba", "falcon_mamba"):
        config["mamba_dt_rank"] = rank
        config["mamba_d_state"] = config.get("ssm_state_size")
    else:
        config["mamba_num_heads"] = rank
        config["mamba_head_dim"] = inner // rank


def _latent(config: dict[str, Any], kind: str, header: Mapping[str, Any]) -> None:
    """MLA: older files tell whole keys as `key_length`, newer ones as `key_length_mla`."""
    if not config.get("kv_lora_rank"):
        if config.get("v_head_dim") == config.get("head_dim"):
            config.pop("v_head_dim", None)
        return
    rope = header.get(f"{kind}.rope.dimension_count", 64)
    key = header.get(f"{kind}.attention.key_length_mla", config.get("head_dim", 0))
    config["qk_rope_head_dim"] = rope
    config["qk_nope_head_dim"] = key - rope
    config["v_head_dim"] = header.get(f"{kind}.attention.value_length_mla", config.get("v_head_dim"))
    config.pop("head_dim", None)
