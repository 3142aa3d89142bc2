"""How each `model_type` departs from Llama: biases, norms, gates, and the defaults of keys that its configs leave out.

Source of each row: the configuration and modelling files of that type in Hugging Face transformers (5.23, Apache-2.0),
and the remote code that the older checkpoints carry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Family:
    """Llama is all defaults: RMS norms without bias, two a layer, SwiGLU, no biases, an untied head."""

    gated_mlp: bool = True
    biased_norms: bool = False
    norms_per_layer: int = 2
    qkv_bias: bool = False
    """Unless the config says otherwise (`attention_bias`, `qkv_bias` and the like)."""
    out_bias: bool | None = None
    """None: as `qkv_bias`, also where the config sets that."""
    mlp_bias: bool = False
    head_bias: bool = False
    qk_norm: Literal["none", "head", "width"] = "none"
    """`head`: one norm of `head_dim` for queries and one for keys; `width`: as wide as all heads together."""
    tied: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)


def _llama_sized(**other: Any) -> dict[str, Any]:
    return {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
        **other,
    }


_MISTRAL = _llama_sized(
    intermediate_size=14336, num_key_value_heads=8, max_position_embeddings=131072, sliding_window=4096
)
_GEMMA3 = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
}
_QWEN2 = Family(qkv_bias=True, out_bias=False)
_QWEN3 = Family(qk_norm="head")
_GPT = Family(
    gated_mlp=False,
    biased_norms=True,
    qkv_bias=True,
    mlp_bias=True,
    tied=True,
)

FAMILIES: Mapping[str, Family] = {
    "llama": Family(defaults=_llama_sized()),
    "mistral": Family(defaults=_MISTRAL),
    "ministral": Family(defaults=_MISTRAL),
    "ministral3": Family(defaults={**_MISTRAL, "sliding_window": None}),
    "mixtral": Family(defaults={**_MISTRAL, "sliding_window": None, "num_local_experts": 8}),
    "yi": Family(),
    "aquila": Family(),
    "baichuan": Family(),
    "internlm": Family(qkv_bias=True),
    "internlm2": Family(),
    "internlm3": Family(),
    "xverse": Family(),
    "orion": Family(biased_norms=True),
    "mistral4": Family(),
    "solar_open": Family(),
    "minicpm": Family(tied=True),
    "minicpm3": Family(tied=True),
    "smollm3": Family(tied=True),
    "granite": Family(tied=True),
    "granitemoe": Family(tied=True),
    "granitemoeshared": Family(tied=True),
    "granitemoehybrid": Family(tied=True),
    "exaone": Family(),
    "exaone4": Family(qk_norm="head"),
    "solar": Family(),
    "helium": Family(),
    "arcee": Family(gated_mlp=False),
    "apertus": Family(gated_mlp=False, qk_norm="head"),
    "seed_oss": Family(qkv_bias=True, out_bias=False),
    "ernie4_5": Family(tied=True),
    "ernie4_5_moe": Family(tied=True),
    "hunyuan_v1_dense": Family(qk_norm="head"),
    "hunyuan_v1_moe": Family(qk_norm="head"),
    "telechat": Family(),
    "qwen": Family(qkv_bias=True, out_bias=False),
    "qwen2": _QWEN2,
    "qwen2_vl": _QWEN2,
    "qwen2_vl_text": _QWEN2,
    "qwen2_5_vl": _QWEN2,
    "qwen2_5_vl_text": _QWEN2,
    "qwen2_moe": _QWEN2,
    "qwen3": _QWEN3,
    "qwen3_moe": _QWEN3,
    "qwen3_vl_text": _QWEN3,
    "qwen3_vl_moe_text": _QWEN3,
    "qwen3_next": _QWEN3,
    "qwen3_5_text": _QWEN3,
    "qwen3_5_moe_text": _QWEN3,
    "mimo": _QWEN2,
    "mimo_v2_flash": Family(),
    "gemma": Family(tied=True),
    "gemma2": Family(tied=True, norms_per_layer=4, defaults={"sliding_window": 4096}),
    "gemma3_text": Family(tied=True, norms_per_layer=4, qk_norm="head", defaults=_GEMMA3),
    "gemma3n_text": Family(tied=True, norms_per_layer=4, qk_norm="head"),
    "gemma4_text": Family(tied=True, norms_per_layer=4, qk_norm="head"),
    "phi3": Family(),
    "phi3small": Family(biased_norms=True, qkv_bias=True, mlp_bias=True, tied=True),
    "phimoe": Family(biased_norms=True, head_bias=True),
    "phi": Family(
        gated_mlp=False, biased_norms=True, norms_per_layer=1, qkv_bias=True, mlp_bias=True, head_bias=True
    ),
    "glm": Family(qkv_bias=True, out_bias=False),
    "glm4": Family(norms_per_layer=4, qkv_bias=True, out_bias=False),
    "glm4_moe": Family(out_bias=False),
    "glm4v_text": Family(norms_per_layer=4, qkv_bias=True, out_bias=False),
    "glm4v_moe_text": Family(qkv_bias=True, out_bias=False),
    "glm4_moe_lite": Family(),
    "glm_moe_dsa": Family(),
    "chatglm": Family(qkv_bias=True, out_bias=False),
    "cohere": Family(norms_per_layer=1, tied=True),
    "cohere2": Family(norms_per_layer=1, tied=True),
    "olmo": Family(norms_per_layer=0),
    "olmo2": Family(qk_norm="width"),
    "olmo3": Family(qk_norm="width"),
    "olmoe": Family(qk_norm="width"),
    "stablelm": Family(biased_norms=True),
    "starcoder2": Family(
        gated_mlp=False, biased_norms=True, qkv_bias=True, mlp_bias=True, tied=True,
    ),
    "gpt_bigcode": _GPT,
    "gpt2": _GPT,
    "opt": _GPT,
    "bloom": _GPT,
    "gpt_neo": Family(gated_mlp=False, biased_norms=True, out_bias=True, mlp_bias=True, tied=True),
    "gpt_neox": Family(gated_mlp=False, biased_norms=True, qkv_bias=True, mlp_bias=True),
    "gptj": Family(gated_mlp=False, biased_norms=True, norms_per_layer=1, mlp_bias=True, head_bias=True),
    "falcon": Family(gated_mlp=False, biased_norms=True, norms_per_layer=1, tied=True),
    "mpt": Family(gated_mlp=False, tied=True),
    "nemotron": Family(gated_mlp=False, biased_norms=True),
    "deepseek": Family(),
    "deepseek_v2": Family(),
    "deepseek_v3": Family(),
    "deepseek_v32": Family(),
    "deepseek_v4": Family(),
    "kimi_k2": Family(),
    "dots1": Family(qk_norm="head"),
    "bailing_moe": Family(),
    "minimax": Family(),
    "minimax_text_01": Family(),
    "minimax_m2": Family(qk_norm="width"),
    "minimax_m3": Family(qk_norm="head"),
    "llama4_text": Family(defaults={"attention_chunk_size": 8192, "max_position_embeddings": 131072}),
    "gpt_oss": Family(qkv_bias=True),
    "dbrx": Family(norms_per_layer=2),
    "grok-1": Family(norms_per_layer=4),
    "jamba": Family(),
    "mamba": Family(norms_per_layer=1, tied=True),
    "mamba2": Family(norms_per_layer=1),
    "falcon_mamba": Family(norms_per_layer=1, tied=True),
    "bamba": Family(),
    "falcon_h1": Family(),
    "nemotron_h": Family(norms_per_layer=1, gated_mlp=False),
    "nemotron-nas": Family(),
    "kimi_linear": Family(),
    "lfm2": Family(tied=True, qk_norm="head"),
    "lfm2_moe": Family(tied=True, qk_norm="head"),
    "step3p5": Family(qk_norm="head"),
    "step3p7": Family(qk_norm="head"),
}  # fmt: skip
