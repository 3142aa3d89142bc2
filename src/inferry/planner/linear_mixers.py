"""Layers with a constant state per sequence: Mamba, Mamba-2, gated DeltaNet, lightning attention, short convolutions."""

from __future__ import annotations

import math

from .architecture import LinearAttention
from .config_fields import ConfigFields


def read_gated_delta_net(fields: ConfigFields, hidden: int) -> LinearAttention:
    """Qwen3-Next and Qwen3.5; projections as in transformers' `Qwen3NextGatedDeltaNet`."""
    key_heads, value_heads = fields.count("linear_num_key_heads"), fields.count("linear_num_value_heads")
    key_dim, value_dim = fields.count("linear_key_head_dim"), fields.count("linear_value_head_dim")
    kernel = fields.count_or(4, "linear_conv_kernel_dim")
    keys, values = key_heads * key_dim, value_heads * value_dim
    convolved = 2 * keys + values
    return LinearAttention(
        state_elements=value_heads * key_dim * value_dim,
        conv_elements=convolved * (kernel - 1),
        params=hidden * (2 * keys + 2 * values + 2 * value_heads)
        + convolved * kernel
        + 2 * value_heads
        + value_dim
        + values * hidden,
        state_bytes_per_element=_state_bytes(fields),
    )


def read_mamba2(fields: ConfigFields, hidden: int) -> LinearAttention:
    """Nemotron-H, Bamba, Granite 4, Falcon-H1, Mamba-2 (Dao and Gu 2024, section 7)."""
    heads = fields.count("mamba_num_heads", "mamba_n_heads", "num_heads")
    head_dim = fields.get("mamba_head_dim", "mamba_d_head", "head_dim")
    if not isinstance(head_dim, int):  # "auto" in Bamba's and Granite's
        head_dim = fields.count_or(2, "mamba_expand", "expand") * hidden // heads
    state = fields.count("ssm_state_size", "mamba_d_state", "state_size")
    groups = fields.count_or(1, "n_groups", "mamba_n_groups")
    kernel = fields.count_or(4, "conv_kernel", "mamba_d_conv")
    inner = heads * head_dim
    convolved = inner + 2 * groups * state
    params = hidden * (inner + convolved + heads) + convolved * kernel + 3 * heads + inner * hidden
    if fields.flag(True, "use_conv_bias", "mamba_conv_bias"):
        params += convolved
    if fields.flag(False, "mamba_proj_bias", "use_bias"):
        params += inner + convolved + heads + hidden
    if fields.flag(True, "mamba_rms_norm"):
        params += inner
    return LinearAttention(
        heads * head_dim * state,
        convolved * (kernel - 1),
        params,
        state_bytes_per_element=_state_bytes(fields),
    )


def read_mamba1(fields: ConfigFields, hidden: int, *, inner_norms: bool) -> LinearAttention:
    """Mamba (Gu and Dao 2023), Falcon-Mamba and, with norms of dt, B and C, Jamba."""
    inner = fields.count_or(fields.count_or(2, "mamba_expand", "expand") * hidden, "intermediate_size_mamba")
    state = fields.count_or(16, "mamba_d_state", "state_size")
    kernel = fields.count_or(4, "mamba_d_conv", "conv_kernel")
    rank = fields.get("mamba_dt_rank", "time_step_rank")
    rank = rank if isinstance(rank, int) else math.ceil(hidden / 16)
    params = (
        hidden * 2 * inner
        + inner * kernel
        + inner * (rank + 2 * state)
        + rank * inner
        + inner
        + inner * state
        + inner
        + inner * hidden
    )
    if fields.flag(True, "mamba_conv_bias", "use_conv_bias"):
        params += inner
    if fields.flag(False, "mamba_proj_bias", "use_bias"):
        params += 2 * inner + hidden
    if inner_norms:
        params += rank + 2 * state
    return LinearAttention(
        inner * state, inner * (kernel - 1), params, state_bytes_per_element=_state_bytes(fields)
    )


def read_lightning(fields: ConfigFields, hidden: int) -> LinearAttention:
    """MiniMax-01 (arXiv 2501.08313, section 2.2): one projection to queries, keys and values, a gate, a norm."""
    width = fields.count("num_attention_heads") * fields.count("head_dim")
    return LinearAttention(
        state_elements=width * fields.count("head_dim"),
        conv_elements=0,
        params=hidden * 3 * width + hidden * width + width * hidden + width,
    )


def read_short_convolution(fields: ConfigFields, hidden: int) -> LinearAttention:
    """LFM2: a gated convolution over a few tokens."""
    kernel = fields.count_or(3, "conv_L_cache")
    biases = 4 * hidden + hidden if fields.flag(False, "conv_bias") else 0
    return LinearAttention(
        0, hidden * (kernel - 1), hidden * 3 * hidden + hidden * kernel + hidden * hidden + biases
    )


def read_kimi_delta(fields: ConfigFields, hidden: int) -> LinearAttention:
    """Kimi Delta Attention (arXiv 2510.26692, section 4): low-rank decay and output gates as wide as one head. Its state is
    fp32 whatever the config says (vLLM, mamba_utils.py: kda_state_dtype)."""
    section = fields.section("linear_attn_config")
    heads, head_dim = section.count("num_heads"), section.count("head_dim")
    kernel = section.count_or(4, "short_conv_kernel_size")
    width = heads * head_dim
    low_rank = 2 * (hidden * head_dim + head_dim * width)
    return LinearAttention(
        state_elements=width * head_dim,
        conv_elements=3 * width * (kernel - 1),
        params=4 * hidden * width + 3 * width * kernel + low_rank + hidden * heads + heads + width + head_dim,
        state_bytes_per_element=4,
    )


def _state_bytes(fields: ConfigFields) -> int:
    """Qwen3.5 writes `mamba_ssm_dtype`, Nemotron 3 `mamba_ssm_cache_dtype`; where neither is told, vLLM takes fp32 for
    Nemotron-H and the weights' own type for the others (models/config.py, mamba_utils.py)."""
    said = str(fields.get("mamba_ssm_dtype", "mamba_ssm_cache_dtype") or "").removeprefix("torch.")
    return 4 if said == "float32" or (not said and fields.get("model_type") == "nemotron_h") else 2
