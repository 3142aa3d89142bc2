"""From a config's fields to the MLP of one layer: dense, or a mixture of experts."""

from __future__ import annotations

from .architecture import DenseMlp, Experts, Mlp
from .config_fields import ConfigFields
from .model_families import Family

_EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
_PER_TOKEN = (
    "num_experts_per_tok", "num_experts_per_token", "top_k_experts", "experts_per_token", "moe_topk", "moe_k",
    "num_selected_experts", "moe_top_k",
)  # fmt: skip
_WIDTH = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "d_ff", "block_ff_dim")
_DENSE_WIDTH = ("intermediate_size_mlp", "dense_intermediate_size", *_WIDTH)
_EXPERT_WIDTH = (
    "moe_intermediate_size", "expert_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size", *_WIDTH,
)  # fmt: skip
WIDTH_KEYS = tuple(dict.fromkeys((*_WIDTH, *_DENSE_WIDTH, *_EXPERT_WIDTH)))
FOUR_TIMES = {"gpt2", "gpt_bigcode", "gpt_neo", "gptj", "bloom", "falcon", "mpt"}
"""Types whose MLP is four times as wide as the model unless the config says otherwise (their files in transformers)."""
_CORRECTED = {
    "deepseek_v3", "deepseek_v32", "kimi_k2", "glm4_moe", "glm4v_moe_text", "glm_moe_dsa", "glm4_moe_lite", "dots1",
    "ernie4_5_moe", "mimo_v2_flash", "kimi_linear", "nemotron_h", "deepseek_v4", "solar_open", "bailing_moe_v2",
}  # fmt: skip
"""Balance the load by a bias per expert (arXiv 2408.15664), which the checkpoint holds."""


def read_mlp(fields: ConfigFields, family: Family, hidden: int, index: int, layers: int) -> Mlp:
    """Of layer `index`."""
    if has_experts(fields) and _is_sparse(fields, index, layers):
        return read_experts(fields, hidden)
    return read_dense_mlp(fields, family, hidden, index)


def has_experts(fields: ConfigFields) -> bool:
    count = fields.count_or_none(*_EXPERTS) or fields.section("ffn_config").count_or(0, "moe_num_experts")
    return count > 1 and fields.flag(True, "enable_moe_block")


def read_dense_mlp(fields: ConfigFields, family: Family, hidden: int, index: int = 0) -> DenseMlp:
    widths = fields.get(*_DENSE_WIDTH)
    if isinstance(widths, list):  # Gemma 3n: one per layer
        width = int(widths[index])
    elif widths is not None:
        width = fields.count(*_DENSE_WIDTH)
    elif fields.get("model_type") in FOUR_TIMES:
        width = fields.count_or(4, "expansion_ratio") * hidden
    else:
        width = fields.count("intermediate_size")  # says that it is missing
    if fields.get("model_type") == "qwen":  # the first Qwen counts gate and value together
        width //= 2
    if fields.flag(False, "block_auto_adjust_ff_dim"):  # LFM2
        multiple = fields.count_or(256, "block_multiple_of")
        width = int(fields.get("block_ffn_dim_multiplier") or 1) * (2 * width // 3)
        width = multiple * -(-width // multiple)
    bias = fields.flag(family.mlp_bias, "mlp_bias", "add_bias_linear")
    if fields.get("use_bias") is not None:
        bias = (
            fields.flag(bias, "use_bias")
            if family.mlp_bias or fields.get("model_type") == "ernie4_5"
            else bias
        )
    if fields.get("model_type") in ("falcon", "mpt"):
        bias = fields.flag(False, "bias") and not fields.flag(False, "no_bias")
    return DenseMlp(width, gated=family.gated_mlp, bias=bias)


def read_experts(fields: ConfigFields, hidden: int) -> Experts:
    section = fields.section("ffn_config")  # DBRX
    model_type = fields.get("model_type")
    count = fields.count_or_none(*_EXPERTS) or section.count("moe_num_experts")
    width = fields.count_or_none(*_EXPERT_WIDTH) or section.count("ffn_hidden_size")
    extra = 0
    if model_type == "gpt_oss":
        extra = count * (2 * width + hidden) + count  # biases of both matrices, and of the router
    elif model_type in _CORRECTED or fields.flag(False, "use_routing_bias", "use_moe_router_bias"):
        extra = count
    shared = _shared_width(fields, width)
    if shared and model_type in ("qwen2_moe", "qwen3_next", "qwen3_5_moe_text"):
        extra += hidden  # decides how much of the shared expert counts
    return Experts(
        count=count,
        per_token=fields.count_or_none(*_PER_TOKEN) or section.count("moe_top_k"),
        intermediate=width,
        shared_intermediate=shared,
        gated=model_type != "nemotron_h",
        latent=fields.count_or_none("moe_latent_size", "routed_expert_hidden_size"),
        extra_params=extra,
    )


def _shared_width(fields: ConfigFields, width: int) -> int:
    number = fields.count_or(
        0, "n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts"
    )
    said = fields.count_or_none(
        "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "share_expert_dim",
        "shared_intermediate_size",
    )  # fmt: skip
    if said is not None:
        return said
    if fields.get("model_type") == "llama4_text":
        return width
    if fields.get("model_type") == "gemma4_text":  # a dense MLP beside the experts
        return fields.count("intermediate_size")
    return number * width


def _is_sparse(fields: ConfigFields, index: int, layers: int) -> bool:
    kinds = fields.words("mlp_layer_types")
    if kinds:
        return kinds[index] == "sparse"
    enumerated = fields.get("moe_layers_enum", "moe_layers")  # Step 3, Llama 4
    if isinstance(enumerated, str) and enumerated:
        enumerated = [int(each) for each in enumerated.split(",")]
    if isinstance(enumerated, list) and enumerated:
        return index in enumerated
    if index in (fields.get("mlp_only_layers") or ()):
        return False
    if index < fields.count_or(0, "first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"):
        return False
    if index > fields.count_or(layers, "moe_layer_end_index"):
        return False
    frequency = fields.get("moe_layer_freq", "moe_layer_interval")
    if isinstance(frequency, list):
        return bool(frequency[index])
    if fields.get("model_type") == "jamba":
        return index % fields.count_or(2, "expert_layer_period") == fields.count_or(1, "expert_layer_offset")
    if isinstance(frequency, int) and frequency > 1:
        return index % frequency == 0
    step = fields.count_or(1, "decoder_sparse_step", "interleave_moe_layer_step") or 1
    return (index + 1) % step == 0
