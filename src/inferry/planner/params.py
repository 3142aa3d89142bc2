"""How many parameters a model has, part by part."""

from __future__ import annotations

from dataclasses import dataclass

from .architecture import (
    Architecture,
    Attention,
    DenseMlp,
    Experts,
    FullAttention,
    LatentAttention,
    LayerGroup,
    LinearAttention,
)


@dataclass(frozen=True, slots=True)
class Params:
    """Elements, not bytes. `norms` holds every small vector: norms, biases, sinks; engines keep those in 16 bit.

    `total` is the whole model without its layers of multi-token prediction. `active_per_token` are the weights of the
    language model that one token is multiplied with: without the look-up in an untied embedding, without the experts
    that it is not sent to, without the vision tower.
    """

    embedding: int
    head: int
    """0 where it is the embedding, used again."""
    attention: int
    dense_mlp: int
    routed_experts: int
    shared: int
    router: int
    norms: int
    vision: int
    other: int
    """Learned positions, embeddings per layer."""
    total: int
    active_per_token: int


def count_params(arch: Architecture) -> Params:
    """Of the formulas of each kind of layer; equal to the published counts where the config tells all (see tests)."""
    embedding = arch.vocab * arch.hidden
    head = 0 if arch.tied_embeddings else embedding
    parts = [_layer_parts(group, arch.hidden) for group in arch.groups]
    attention, dense, routed, shared, router, norms = (sum(part[kind] for part in parts) for kind in range(6))
    norms += arch.hidden
    other = arch.position_params + arch.other_params
    total = (
        embedding + head + attention + dense + routed + shared + router + norms + arch.vision_params + other
    )
    idle = sum(
        group.count * expert_params(group.mlp, arch.hidden) * (group.mlp.count - group.mlp.per_token)
        for group in arch.groups
        if isinstance(group.mlp, Experts)
    )
    looked_up = 0 if arch.tied_embeddings else embedding
    return Params(
        embedding=embedding,
        head=head,
        attention=attention,
        dense_mlp=dense,
        routed_experts=routed,
        shared=shared,
        router=router,
        norms=norms,
        vision=arch.vision_params,
        other=other,
        total=total,
        active_per_token=total - idle - looked_up - arch.vision_params - other,
    )


def attention_params(attention: Attention, hidden: int) -> int:
    """The matrices of one layer's mixer."""
    match attention:
        case FullAttention():
            return _full(attention, hidden)
        case LatentAttention():
            return _latent(attention, hidden)
        case LinearAttention():
            return attention.params
        case None:
            return 0


def expert_params(experts: Experts, hidden: int) -> int:
    """Of one routed expert."""
    return (3 if experts.gated else 2) * (experts.latent or hidden) * experts.intermediate


def _layer_parts(group: LayerGroup, hidden: int) -> tuple[int, int, int, int, int, int]:
    """Attention, dense MLP, routed experts, shared experts, router, norms, of the whole group."""
    dense = routed = shared = router = 0
    norms = 2 * hidden if group.norm_params is None else group.norm_params
    if isinstance(group.attention, FullAttention | LatentAttention):
        norms += group.attention.extra_params
    match group.mlp:
        case DenseMlp(intermediate, gated, bias):
            dense = (3 if gated else 2) * hidden * intermediate
            if bias:
                norms += (2 if gated else 1) * intermediate + hidden
        case Experts() as experts:
            routed = experts.count * expert_params(experts, hidden)
            shared = (3 if experts.gated else 2) * hidden * experts.shared_intermediate
            if experts.latent is not None:
                shared += 2 * hidden * experts.latent
            router = hidden * experts.count
            norms += experts.extra_params
        case None:
            pass
    times = group.count
    attention = attention_params(group.attention, hidden)
    return (
        times * attention,
        times * dense,
        times * routed,
        times * shared,
        times * router,
        times * norms,
    )


def _full(attention: FullAttention, hidden: int) -> int:
    v_head_dim = attention.head_dim if attention.v_head_dim is None else attention.v_head_dim
    queries = attention.heads * attention.head_dim * (2 if attention.gated else 1)
    keys = 0 if attention.shares_kv else attention.kv_heads * attention.head_dim
    values = 0 if attention.shares_kv or attention.keys_are_values else attention.kv_heads * v_head_dim
    return hidden * (queries + keys + values + attention.heads * v_head_dim)


def _latent(attention: LatentAttention, hidden: int) -> int:
    """DeepSeek-V2 (arXiv 2405.04434), section 2.1.2 and appendix C; the indexer as in DeepSeek-V3.2's model file."""
    a = attention
    query_width = a.heads * (a.nope_dim + a.rope_dim)
    queries = hidden * query_width if a.q_rank is None else a.q_rank * (hidden + query_width)
    latent = hidden * (a.kv_rank + a.rope_dim) + a.kv_rank * a.heads * (a.nope_dim + a.v_head_dim)
    output = a.heads * a.v_head_dim * hidden * (2 if a.gated else 1)
    indexer = a.indexer_heads * ((a.q_rank or hidden) * a.indexer_dim + hidden) + hidden * a.indexer_dim
    return queries + latent + output + indexer
