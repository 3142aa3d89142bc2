"""Models that a search has thinned out layer by layer: NVIDIA's Nemotron Super and Ultra (`nemotron-nas`).

Layout of `block_configs` as in the remote code of nvidia/Llama-3_3-Nemotron-Super-49B-v1: each layer's attention may be
gone or a single matrix, each MLP has a width of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferry.core.errors import ConfigError

from .architecture import Attention, DenseMlp, FullAttention, LayerGroup, LinearAttention, Mlp
from .attention_reading import head_counts, head_width
from .config_fields import ConfigFields
from .model_families import Family


def read_block_configs(
    fields: ConfigFields, family: Family, hidden: int, max_position: int
) -> tuple[LayerGroup, ...]:
    """Raises ConfigError where `block_configs` is missing."""
    blocks = fields.get("block_configs")
    if not isinstance(blocks, list) or not blocks:
        raise ConfigError(
            f"{fields.name}: its config has no 'block_configs', which tell the size of each layer"
        )
    order: dict[LayerGroup, int] = {}
    for block in blocks:
        attention = _attention(fields, block.get("attention") or {}, hidden)
        mlp = _mlp(block.get("ffn") or {}, hidden)
        norms = hidden * ((attention is not None) + (mlp is not None))
        group = LayerGroup(1, attention, mlp, norms)
        order[group] = order.get(group, 0) + 1
    return tuple(LayerGroup(n, group.attention, group.mlp, group.norm_params) for group, n in order.items())


def _attention(fields: ConfigFields, block: Mapping[str, Any], hidden: int) -> Attention:
    if block.get("no_op"):
        return None
    if block.get("replace_with_linear"):
        return LinearAttention(state_elements=0, conv_elements=0, params=hidden * hidden)
    heads, _ = head_counts(fields)
    return FullAttention(heads, heads // int(block["n_heads_in_group"]), head_width(fields, hidden, heads))


def _mlp(block: Mapping[str, Any], hidden: int) -> Mlp:
    """Widths are the multiple of two thirds of `hidden`, rounded up to 256, as Llama's own rule has it."""
    if block.get("no_op"):
        return None
    if block.get("replace_with_linear"):
        return DenseMlp(hidden, gated=False)
    wanted = int(2 * float(block["ffn_mult"]) * hidden / 3)
    return DenseMlp(256 * -(-wanted // 256))
