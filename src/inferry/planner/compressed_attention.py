"""DeepSeek-V4's layers: a short window as it is, and everything older compressed by 4 or 128 tokens to one entry.

Layout as in `modeling_deepseek_v4.py` of Hugging Face transformers (5.23, Apache-2.0). Each layer is told as two: a mixer
with a constant state (the window, and all matrices), and one that only caches the compressed entries.
"""

from __future__ import annotations

from .architecture import LatentAttention, LayerGroup, LinearAttention
from .config_fields import ConfigFields
from .mlp_reading import read_experts

_SPARSE_RATIO = 4
"""Layers of that ratio choose among their entries by an indexer; those of a larger one read all."""


def read_compressed_layers(fields: ConfigFields, hidden: int, layers: int) -> list[LayerGroup]:
    """`compress_ratios` has one number per layer (0: the window alone), and further ones for the layers of
    multi-token prediction."""
    ratios = [int(ratio) for ratio in fields.get("compress_ratios") or ()][:layers]
    ratios += [0] * (layers - len(ratios))
    head_dim = fields.count("head_dim")
    window = fields.count_or(128, "sliding_window")
    experts = read_experts(fields, hidden)
    norms = 2 * hidden + _hyper_connections(fields, hidden)
    found = []
    for ratio in ratios:
        params = _matrices(fields, hidden, head_dim) + _compressor(fields, hidden, head_dim, ratio)
        cache = _entries(fields, head_dim, ratio)
        if cache is not None:
            params -= hidden * (cache.kv_rank + cache.indexer_dim)  # which a latent's own formula counts
            found.append(LayerGroup(1, cache, None, 0))
        found.append(LayerGroup(1, LinearAttention(window * head_dim, 0, params), experts, norms))
    return found


def _matrices(fields: ConfigFields, hidden: int, head_dim: int) -> int:
    """Queries through a latent, one head for keys and values together, outputs by groups through another latent."""
    heads, q_rank = fields.count("num_attention_heads"), fields.count("q_lora_rank")
    o_rank, o_groups = fields.count("o_lora_rank"), fields.count("o_groups")
    queries = q_rank * (hidden + heads * head_dim) + q_rank
    outputs = o_rank * heads * head_dim + o_groups * o_rank * hidden
    return queries + hidden * head_dim + head_dim + outputs + heads


def _compressor(fields: ConfigFields, hidden: int, head_dim: int, ratio: int) -> int:
    if not ratio:
        return 0
    if ratio != _SPARSE_RATIO:
        return 2 * hidden * head_dim + ratio * head_dim + head_dim
    heads, width = fields.count("index_n_heads"), fields.count("index_head_dim")
    indexer = 4 * hidden * width + 2 * ratio * width + width
    indexer += fields.count("q_lora_rank") * heads * width + hidden * heads
    return 4 * hidden * head_dim + 2 * ratio * head_dim + head_dim + indexer


def _entries(fields: ConfigFields, head_dim: int, ratio: int) -> LatentAttention | None:
    """What a token adds to the cache: its share of one entry, and of an index key."""
    if not ratio:
        return None
    chosen = ratio == _SPARSE_RATIO
    return LatentAttention(
        heads=0,
        kv_rank=head_dim // ratio,
        rope_dim=0,
        nope_dim=0,
        v_head_dim=0,
        sparse_top_k=fields.count_or_none("index_topk") if chosen else None,
        indexer_dim=fields.count("index_head_dim") // ratio if chosen else 0,
    )


def _hyper_connections(fields: ConfigFields, hidden: int) -> int:
    """Two per layer, each mixing `hc_mult` streams (manifold-constrained hyper-connections)."""
    streams = fields.count_or(4, "hc_mult")
    mixed = (2 + streams) * streams
    return 2 * (mixed * streams * hidden + mixed + 3)
