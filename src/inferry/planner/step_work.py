"""What one engine step asks of each device: the ideal time of each part at the maker's peak rates, and counts of launches.

An ideal time times a fitted constant is a predicted time (step_time.py). Sources of the forms: roofline (Williams 2009);
experts touched by a batch, 1 - (1 - k/E)^tokens; ring all-reduce, 2 (n - 1)/n of the bytes; launches per layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .architecture import (
    Architecture,
    Attention,
    Experts,
    FullAttention,
    LatentAttention,
    LinearAttention,
    WeightFormat,
)
from .device import ComputeType, Device
from .setup import KvFormat, Setup

# Bytes of a weight with its scales: AWQ and GPTQ at groups of 128; NVFP4 one FP8 scale for 16, MXFP4 one byte for 32.
BYTES_PER_WEIGHT: Mapping[WeightFormat, float] = MappingProxyType(
    {
        "fp32": 4.0,
        "bf16": 2.0,
        "fp16": 2.0,
        "fp8": 1.0,
        "fp8_block": 1.0,
        "int8": 1.0,
        "awq": 0.53,
        "gptq": 0.53,
        "int4": 0.53,
        "nvfp4": 0.5625,
        "mxfp4": 0.53125,
        "bnb4": 0.53,
        "gguf": 0.6,
    }
)
BYTES_PER_KV: Mapping[KvFormat, float] = MappingProxyType(
    {
        "bf16": 2.0,
        "fp16": 2.0,
        "fp32": 4.0,
        "fp8": 1.0,
        "int8": 1.0,
        "nvfp4": 0.5625,
        "q8_0": 1.0625,
        "q4_0": 0.5625,
    }
)
# The type that multiplies, first choice first; a device without it takes the next (weights are widened on the fly).
_MULTIPLIES_IN: Mapping[WeightFormat, tuple[ComputeType, ...]] = MappingProxyType(
    {
        "fp32": ("fp32",),
        "fp8": ("fp8", "bf16", "fp16"),
        "fp8_block": ("fp8", "bf16", "fp16"),
        "int8": ("int8", "bf16", "fp16"),
        "nvfp4": ("fp4", "bf16", "fp16"),
        "mxfp4": ("fp4", "bf16", "fp16"),
    }
)
_SIXTEEN_BIT: tuple[ComputeType, ...] = ("bf16", "fp16")
_FOUR_BIT: frozenset[WeightFormat] = frozenset({"nvfp4", "mxfp4", "int4", "awq", "gptq", "bnb4"})
_EXPERTS_ONLY = frozenset({"nvfp4", "mxfp4", "int4"})
"""Formats whose checkpoints of mixture models leave attention in 16 bit (NVIDIA's and Moonshot's; gpt-oss)."""


@dataclass(frozen=True, slots=True)
class Matrices:
    """Weights by how a step reads them, as counts of parameters. `active`: multiplied for each token."""

    attention: float
    dense_mlp: float
    routed: float
    routed_active: float
    shared: float
    router: float
    head: float
    layers: int
    moe_layers: int
    latent_layers: int
    linear_layers: int
    experts: int
    experts_per_token: int

    @property
    def active(self) -> float:
        return self.attention + self.dense_mlp + self.routed_active + self.shared + self.router + self.head


def matrices_of(arch: Architecture) -> Matrices:
    attention = dense = routed = active = shared = router = 0.0
    moe = latent = linear = count = per_token = 0
    for group in arch.groups:
        n = group.count
        attention += n * _attention_params(arch.hidden, group.attention)
        latent += n * isinstance(group.attention, LatentAttention)
        linear += n * isinstance(group.attention, LinearAttention)
        mlp = group.mlp
        if mlp is None:
            continue
        width = (3 if mlp.gated else 2) * arch.hidden
        if isinstance(mlp, Experts):
            moe += n
            count, per_token = mlp.count, mlp.per_token
            routed += n * width * mlp.intermediate * mlp.count
            active += n * width * mlp.intermediate * mlp.per_token
            shared += n * width * mlp.shared_intermediate
            router += n * arch.hidden * mlp.count
        else:
            dense += n * width * mlp.intermediate
    head = float(arch.vocab * arch.hidden)
    return Matrices(
        attention,
        dense,
        routed,
        active,
        shared,
        router,
        head,
        arch.layers,
        moe,
        latent,
        linear,
        count,
        per_token,
    )


def _attention_params(hidden: int, attention: Attention) -> float:
    match attention:
        case FullAttention(heads=heads, kv_heads=kv_heads, head_dim=dim):
            values = attention.v_head_dim or dim
            queries = heads * dim * (2 if attention.gated else 1)
            return hidden * (queries + kv_heads * (dim + values) + heads * values)
        case LatentAttention(heads=heads, kv_rank=rank, rope_dim=rope, nope_dim=nope, v_head_dim=values):
            query = heads * (nope + rope)
            queries = query * hidden if attention.q_rank is None else attention.q_rank * (hidden + query)
            return queries + hidden * (rank + rope) + rank * heads * (nope + values) + heads * values * hidden
        case LinearAttention(params=params):
            return params
        case None:
            return 0.0


def is_quantized(arch: Architecture, matrices: Matrices, weights: WeightFormat) -> tuple[bool, bool]:
    """Whether attention, and whether MLPs and experts, are stored in `weights` rather than in 16 bit."""
    experts_only = matrices.experts > 0 and (arch.quantized_parts == "experts" or weights in _EXPERTS_ONLY)
    return not experts_only, True


def peak_flops(device: Device, weights: WeightFormat) -> float:
    for compute in (*_MULTIPLIES_IN.get(weights, _SIXTEEN_BIT), *_SIXTEEN_BIT, "fp32"):
        rate = device.flops_per_s.get(compute)
        if rate:
            return float(rate)
    return max(device.flops_per_s.values())


@dataclass(frozen=True, slots=True)
class StepModel:
    """Everything of a model, a device and a setup that does not change from step to step."""

    matrices: Matrices
    arch: Architecture
    device: Device
    setup: Setup
    fixed_bytes: float
    """Per device: read in each step whatever the batch."""
    expert_bytes: float
    """Per device: all routed experts."""
    flops_ms_per_token: float
    """Of all multiplications of one token at peak, on the devices of one stage and rank together."""

    @property
    def ranks(self) -> int:
        return self.setup.data_parallel


def step_model(arch: Architecture, device: Device, setup: Setup) -> StepModel:
    m = matrices_of(arch)
    attention_q, mlp_q = is_quantized(arch, m, setup.weights)
    small = BYTES_PER_WEIGHT[setup.weights]
    attention_bytes = small if attention_q else 2.0
    mlp_bytes = small if mlp_q else 2.0
    tp, group = setup.tensor_parallel, setup.tensor_parallel * setup.data_parallel
    fixed = (
        m.attention * attention_bytes + (m.dense_mlp + m.shared) * mlp_bytes + (m.router + m.head) * 2.0
    ) / tp
    fast, wide = peak_flops(device, setup.weights), peak_flops(device, "bf16")
    in_wide = m.router + m.head + (0.0 if attention_q else m.attention)
    seconds = 2 * ((m.active - in_wide) / fast + in_wide / wide) / group
    return StepModel(m, arch, device, setup, fixed, m.routed * mlp_bytes / group, seconds * 1e3)


def kv_read_bytes(model: StepModel, context_tokens: float) -> float:
    """Per device, to attend once over a context of that length: windows and sparse attention read less."""
    setup, total = model.setup, 0.0
    element = BYTES_PER_KV[setup.kv]
    for group in model.arch.groups:
        match group.attention:
            case FullAttention(kv_heads=kv_heads, head_dim=dim) as a:
                seen = min(context_tokens, a.window_tokens or a.chunk_tokens or context_tokens)
                heads = max(1.0, kv_heads / setup.tensor_parallel)
                total += group.count * seen * heads * (dim + (a.v_head_dim or dim)) * element
            case LatentAttention(kv_rank=rank, rope_dim=rope) as a:
                seen = min(context_tokens, a.sparse_top_k or context_tokens)
                total += group.count * (seen * (rank + rope) + context_tokens * a.indexer_dim) * element
            case LinearAttention(state_elements=state):
                total += group.count * 2 * state * 4.0 / setup.tensor_parallel  # read and written, in 32 bit
            case None:
                pass
    return total


def touched(matrices: Matrices, tokens: float) -> float:
    """Share of the experts that a batch of `tokens` reads, were routing uniform. 8 of 256 and 32 tokens: 0.638."""
    if not matrices.experts:
        return 0.0
    return float(1.0 - (1.0 - matrices.experts_per_token / matrices.experts) ** max(tokens, 1.0))


def reduce_ms(model: StepModel, tokens: float) -> float:
    """All-reduces of one pass over `tokens`, two per layer, 16-bit activations, at the link's rate."""
    ways = model.setup.tensor_parallel * model.setup.data_parallel
    if ways == 1:  # CPUs and Apple chips have no link
        return 0.0
    moved = 2 * model.matrices.layers * tokens / model.ranks * model.arch.hidden * 2.0 * 2 * (ways - 1) / ways
    return 1e3 * moved / model.device.link_rate(ways)


_PASSES_PER_LAYER = 10
"""How often a layer's norms, residual sums and quantization read or write a token's hidden state, about."""


def replicated_ms(model: StepModel, tokens: float) -> float:
    """What tensor parallelism doesn't split: element-wise work on the hidden states, at the memory's rate."""
    elements = _PASSES_PER_LAYER * model.matrices.layers * model.arch.hidden
    return 1e3 * tokens / model.ranks * elements * 2.0 / model.device.bandwidth_bytes_per_s


def decode_terms(model: StepModel, decodes: float, context_tokens: float) -> dict[str, float]:
    """Ideal parts of one decode step of `decodes` sequences in the replica, of mean context `context_tokens`, in ms or counts."""
    m, setup = model.matrices, model.setup
    batch = decodes / setup.pipeline_parallel
    bandwidth = model.device.bandwidth_bytes_per_s / 1e3
    parallel = setup.tensor_parallel * setup.data_parallel > 1
    kv_ms = batch / model.ranks * kv_read_bytes(model, context_tokens) / bandwidth
    narrow = setup.weights in _FOUR_BIT and is_quantized(model.arch, m, setup.weights)[0]
    return {
        "weights": model.fixed_bytes / bandwidth,
        "experts": model.expert_bytes * touched(m, batch) / bandwidth,
        "kv": kv_ms,
        "latent_kv": kv_ms if m.latent_layers else 0.0,
        "narrow_weights": model.fixed_bytes / bandwidth if narrow else 0.0,
        "compute": batch * model.flops_ms_per_token,
        "layers": float(m.layers),
        "moe_layers": float(m.moe_layers),
        "latent_layers": float(m.latent_layers),
        "linear_layers": float(m.linear_layers),
        "parallel_layers": float(m.layers) if parallel else 0.0,
        "block_layers": float(m.layers) if setup.weights == "fp8_block" else 0.0,
        "reduce": reduce_ms(model, batch),
        "sequences": batch,
        "replicated": replicated_ms(model, batch),
        "step": 1.0,
    }


def prefill_terms(
    model: StepModel, tokens: float, prompts: float = 1.0, passes: float = 1.0
) -> dict[str, float]:
    """Ideal parts of the prefill of `prompts` prompts of `tokens` each, in ms or counts. `passes`: how often the weights
    are read for them; prompts that are read together share a pass, and a long one takes several."""
    m, setup = model.matrices, model.setup
    bandwidth = model.device.bandwidth_bytes_per_s / 1e3
    parallel = setup.tensor_parallel * setup.data_parallel > 1
    weights = model.fixed_bytes + model.expert_bytes * touched(m, tokens)
    return {
        "prefill_compute": prompts * tokens * model.flops_ms_per_token,
        "prefill_attention": prompts * attention_ms(model, tokens),
        "prefill_reduce": prompts * reduce_ms(model, tokens),
        "prefill_replicated": prompts * replicated_ms(model, tokens),
        "prefill_weights": passes * weights / bandwidth,
        "prefill_layers": passes * m.layers,
        "prefill_moe_layers": passes * m.moe_layers,
        "prefill_parallel_layers": passes * m.layers if parallel else 0.0,
    }


def attention_ms(model: StepModel, tokens: float) -> float:
    """The quadratic part of a prefill: scores and values of each token over those before it, in 16 bit, at peak."""
    flops = 0.0
    for group in model.arch.groups:
        match group.attention:
            case FullAttention(heads=heads, head_dim=dim) as a:
                seen = min(tokens / 2, a.window_tokens or a.chunk_tokens or tokens)
                flops += group.count * 2 * heads * (dim + (a.v_head_dim or dim)) * seen * tokens
            case LatentAttention(heads=heads, nope_dim=nope, rope_dim=rope, v_head_dim=values) as a:
                seen = min(tokens / 2, a.sparse_top_k or tokens)
                flops += group.count * 2 * heads * (nope + rope + values) * seen * tokens
            case LinearAttention() | None:
                pass
    return 1e3 * flops / peak_flops(model.device, "bf16") / model.setup.tensor_parallel
