"""From a config's fields to the attention of one layer."""

from __future__ import annotations

from .architecture import FullAttention, LatentAttention
from .config_fields import ConfigFields
from .layer_kinds import LayerKind, window_tokens
from .model_families import Family

HEAD_KEYS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_KV_HEADS = (
    "num_key_value_heads",
    "num_kv_heads",
    "n_head_kv",
    "multi_query_group_num",
    "num_attention_groups",
)
_HEAD_DIM = ("head_dim", "attention_head_dim", "kv_channels", "d_head", "head_size")
_QKV_BIAS = ("attention_bias", "qkv_bias", "add_qkv_bias", "use_qkv_bias", "bias", "use_bias")


def head_counts(fields: ConfigFields) -> tuple[int, int]:
    """Heads of queries, and of keys and values."""
    heads = fields.count(*HEAD_KEYS)
    kv_heads = fields.count_or_none(*_KV_HEADS)
    if kv_heads is None:
        kv_heads = fields.section("attn_config").count_or(heads, "kv_n_heads")
    if fields.get("multi_query") and not fields.flag(
        False, "new_decoder_architecture"
    ):  # Falcon, GPT-BigCode
        kv_heads = 1
    return heads, kv_heads


def head_width(fields: ConfigFields, hidden: int, heads: int) -> int:
    return fields.count_or(hidden // heads, *_HEAD_DIM)


def read_full_attention(
    fields: ConfigFields, family: Family, hidden: int, kind: LayerKind, max_position: int
) -> FullAttention:
    heads, kv_heads = head_counts(fields)
    head_dim = head_width(fields, hidden, heads)
    v_head_dim = fields.count_or_none("v_head_dim")
    if kind == "sliding" and fields.given("swa_num_key_value_heads"):  # MiMo-V2
        heads = fields.count("swa_num_attention_heads")
        kv_heads = fields.count("swa_num_key_value_heads")
        head_dim, v_head_dim = fields.count("swa_head_dim"), fields.count("swa_v_head_dim")
    if kind == "sliding":  # Step 3.5
        heads = fields.count_or(heads, "num_sliding_attention_heads")
    keys_are_values = False
    if kind == "full" and fields.count_or_none("global_head_dim"):  # Gemma 4
        head_dim = fields.count("global_head_dim")
        keys_are_values = fields.flag(False, "attention_k_eq_v")
        if keys_are_values:
            kv_heads = fields.count_or(kv_heads, "num_global_key_value_heads")
    bias = fields.flag(family.qkv_bias, *_QKV_BIAS)
    if fields.get("no_bias"):  # MPT
        bias = False
    out_bias = bias if family.out_bias is None else family.out_bias
    norm = _norm_kind(fields, family)
    extra = 0
    if bias:
        extra += heads * head_dim + (1 if keys_are_values else 2) * kv_heads * head_dim
    if out_bias:
        extra += hidden
    if norm == "head":
        extra += 2 * head_dim
    elif norm == "width":
        extra += (heads + kv_heads) * head_dim
    if fields.flag(False, "use_head_wise_attn_gate"):
        extra += hidden * heads
    extra += _sinks(fields, kind, heads)
    return FullAttention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        v_head_dim=None if v_head_dim == head_dim else v_head_dim,
        window_tokens=window_tokens(fields, max_position) if kind == "sliding" else None,
        chunk_tokens=fields.count_or_none("attention_chunk_size") if kind == "chunked" else None,
        gated=fields.flag(False, "attn_output_gate", "attention_output_gate")
        or fields.get("model_type") == "qwen3_next",
        qk_norm=norm != "none",
        bias=bias,
        extra_params=extra,
        keys_are_values=keys_are_values,
    )


def read_latent_attention(fields: ConfigFields, *, sparse: bool, indexed: bool = True) -> LatentAttention:
    """`sparse`: the model has DeepSeek's sparse attention; `indexed`: this layer holds an indexer of its own."""
    q_rank = fields.count_or_none("q_lora_rank")
    kv_rank = fields.count("kv_lora_rank")
    indexer_dim = fields.count_or(0, "index_head_dim") if sparse and indexed else 0
    return LatentAttention(
        heads=fields.count(*HEAD_KEYS),
        kv_rank=kv_rank,
        rope_dim=fields.count("qk_rope_head_dim"),
        nope_dim=fields.count("qk_nope_head_dim"),
        v_head_dim=fields.count("v_head_dim"),
        q_rank=q_rank,
        sparse_top_k=fields.count_or_none("index_topk") if sparse else None,
        indexer_dim=indexer_dim,
        indexer_heads=fields.count_or(0, "index_n_heads") if indexer_dim else 0,
        gated=fields.flag(False, "mla_use_output_gate"),
        extra_params=(q_rank or 0) + kv_rank + 2 * indexer_dim,
    )


def _norm_kind(fields: ConfigFields, family: Family) -> str:
    if fields.get("qk_norm_type") == "per_head":
        return "head"
    said = fields.get("use_qk_norm", "qk_layernorm", "qk_norm")
    if said is None:
        return family.qk_norm
    if not said:
        return "none"
    if fields.get("model_type") == "llama4_text":  # its norm has no weights
        return "none"
    return (
        "width"
        if family.qk_norm == "width" or fields.get("model_type") in ("cohere", "minimax_m2")
        else "head"
    )


def _sinks(fields: ConfigFields, kind: LayerKind, heads: int) -> int:
    """One number per head: gpt-oss on every layer, MiMo-V2 where it says so."""
    if fields.get("model_type") == "gpt_oss":
        return heads
    key = "add_swa_attention_sink_bias" if kind == "sliding" else "add_full_attention_sink_bias"
    return heads if fields.flag(False, key) else 0
