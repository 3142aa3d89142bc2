"""How many bytes of weights the fullest device of a replica holds, by class of tensor and how an engine splits it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .architecture import (
    Architecture,
    Attention,
    DenseMlp,
    Experts,
    FullAttention,
    LatentAttention,
    LayerGroup,
    Mlp,
    WeightFormat,
)
from .device import Device
from .gguf_bits import USUAL_BITS
from .setup import Setup

VOCAB_PADDING = 64
"""vLLM and SGLang pad the vocabulary so that each rank gets a multiple of it (vocab_parallel_embedding.py)."""

MXFP4_PADDING = 256
"""To it the kernels round up the width of MXFP4 experts: gpt-oss-20b's 2,880 become 3,072, and it takes 13.47 GiB, not
12.8 (vLLM 0.11 on an H100, llm-d-benchmark's empirical-vllm-memory-results.md)."""

SIXTEEN_BIT = 2.0

BYTES_PER_WEIGHT: dict[WeightFormat, float] = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "fp8_block": 1.0 + 4 / (128 * 128),
    "int8": 1.0,
    "nvfp4": 0.5 + 1 / 16,
    "mxfp4": 0.5 + 1 / 32,
    "bnb4": 0.5 + 1 / 64 + 4 / (64 * 256),
}
"""With its scales: FP8 blocks of 128 x 128 with one fp32 (DeepSeek-V3, section 3.3.2), NVFP4 one fp8 per 16 and MXFP4 one
e8m0 per 32 (OCP MX 1.0), bitsandbytes one byte per 64 and one fp32 per 256 of those (vLLM has its
statistics compressed: Llama 3.1 8B takes 5.34 GiB). Scales per tensor or per channel are below 0.1 %."""

SPLIT_TOWERS = ("vllm", "sglang")
"""Engines whose vision towers are of parallel layers (vLLM, model_executor/models/clip.py, siglip.py, qwen2_vl.py): with two
GPUs Qwen3.8-27B FP8 printed 14.28 GiB, 14.26 with the tower split and 14.69 without."""

GROUP_SIZE = 128
"""Of AWQ, GPTQ and packed int4 where the checkpoint says none: what their quantizers use unless told."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Weights of one class on one device."""

    linear: float = 0.0
    """Elements that a quantized checkpoint may store in its format."""
    mixer: float = 0.0
    """Those of the mixers, which it may store in another one."""
    recurrent: float = 0.0
    """Those of mixers with a constant state, for which the same holds."""
    experts: float = 0.0
    plain: float = 0.0
    """Elements that always stay in 16 bit: norms, routers, biases."""

    def __add__(self, other: Slice) -> Slice:
        return Slice(
            self.linear + other.linear,
            self.mixer + other.mixer,
            self.recurrent + other.recurrent,
            self.experts + other.experts,
            self.plain + other.plain,
        )

    def times(self, count: float) -> Slice:
        return Slice(
            self.linear * count,
            self.mixer * count,
            self.recurrent * count,
            self.experts * count,
            self.plain * count,
        )


def weight_bytes(arch: Architecture, setup: Setup, device: Device | None = None) -> int:
    """Bytes on the fullest device. A GGUF file's own size is split evenly, since its types differ by tensor. `device`: for
    what kernels pad; None: the least."""
    if arch.stored_bytes is not None and setup.weights == arch.native_format == "gguf":
        return math.ceil(arch.stored_bytes / (setup.tensor_parallel * setup.pipeline_parallel))
    held = layers_slice(arch, setup, device)
    table_bytes, head_bytes = vocabulary_bytes(arch, setup)
    linear_bytes, expert_bytes = bytes_per_weight(arch, setup.weights)
    wide = wide_bytes(setup.weights)
    total = held.linear * linear_bytes + held.experts * expert_bytes + held.plain * wide
    mixer_bytes, recurrent_bytes = mixer_bytes_per_weight(arch, setup.weights)
    total += held.mixer * mixer_bytes + held.recurrent * recurrent_bytes
    # The last stage of a pipeline has the head, the first one the table: the larger decides. A tied table is on both.
    ends = table_bytes + head_bytes if setup.pipeline_parallel == 1 else max(table_bytes, head_bytes)
    vision = 0.0 if setup.text_only else arch.vision_params * wide
    if setup.engine in SPLIT_TOWERS:
        vision /= setup.tensor_parallel
    return math.ceil(
        total
        + ends
        + vision
        + absorbed_bytes(arch, setup)
        + rotary_bytes(arch)
        + (arch.position_params + arch.other_params) * wide
    )


def bytes_per_weight(arch: Architecture, weights: WeightFormat) -> tuple[float, float]:
    """Of one element of a linear layer, and of one of a routed expert."""
    if weights in ("awq", "gptq", "int4"):
        own = arch.group_size if arch.native_format == weights else None
        group = own or GROUP_SIZE
        # One fp16 scale per group, and where the format has them, a 4-bit zero point.
        bytes_each = 0.5 + (2.0 if weights == "int4" else 2.5) / group
    elif weights == "gguf":
        bytes_each = (arch.gguf_bits or USUAL_BITS) / 8
    else:
        bytes_each = BYTES_PER_WEIGHT[weights]
    if weights == arch.native_format and arch.quantized_parts == "experts":
        return SIXTEEN_BIT, bytes_each
    return bytes_each, bytes_each


def mixer_bytes_per_weight(arch: Architecture, weights: WeightFormat) -> tuple[float, float]:
    """Of one element of attention's linear layers, and of one of those of mixers with a constant state: the checkpoint's
    own format for them, where it is served as it is."""
    attention = recurrent = weights
    if weights == arch.native_format:
        attention = arch.attention_format or weights
        recurrent = arch.linear_mixer_format or attention
    return bytes_per_weight(arch, attention)[0], bytes_per_weight(arch, recurrent)[0]


def wide_bytes(weights: WeightFormat) -> float:
    """Of an element that no format shrinks."""
    return 4.0 if weights == "fp32" else SIXTEEN_BIT


def vocabulary_bytes(arch: Architecture, setup: Setup) -> tuple[float, float]:
    """The embedding table and the output head on one device; a tied head is the table itself."""
    step = VOCAB_PADDING * setup.tensor_parallel
    rows = math.ceil(arch.vocab / step) * step / setup.tensor_parallel
    elements = rows * arch.hidden
    linear_bytes, _ = bytes_per_weight(arch, setup.weights)
    # GGUF's types are of all tensors; its usual bits per weight are of the whole file.
    table = elements * (linear_bytes if setup.weights == "gguf" else wide_bytes(setup.weights))
    if arch.tied_embeddings:
        return table, table if setup.pipeline_parallel > 1 else 0.0
    head_quantized = arch.quantized_parts == "linear_and_head" and setup.weights == arch.native_format
    return table, elements * linear_bytes if head_quantized else table


def layers_slice(arch: Architecture, setup: Setup, device: Device | None) -> Slice:
    """All layers of the fullest stage on one device."""
    stage = stage_share(arch, setup)
    held = Slice(plain=arch.hidden)
    for group in arch.groups:
        held = held + group_slice(arch, group, setup, device).times(group.count * stage)
    return held


def stage_share(arch: Architecture, setup: Setup) -> float:
    """Share of the layers that the longest stage of a pipeline has."""
    return math.ceil(arch.layers / setup.pipeline_parallel) / arch.layers


def group_slice(arch: Architecture, group: LayerGroup, setup: Setup, device: Device | None) -> Slice:
    """One layer: its mixer, its MLP and its norms."""
    norms = 2 * arch.hidden if group.norm_params is None else group.norm_params
    mixer = attention_slice(arch.hidden, group.attention, setup.tensor_parallel)
    return mixer + mlp_slice(arch.hidden, group.mlp, setup, device) + Slice(plain=norms)


def attention_slice(hidden: int, attention: Attention, tensor_parallel: int) -> Slice:
    """One mixer. Key and value projections are copied where there are fewer KV heads than devices."""
    if attention is None:
        return Slice()
    if isinstance(attention, FullAttention):
        value_dim = attention.head_dim if attention.v_head_dim is None else attention.v_head_dim
        heads = math.ceil(attention.heads / tensor_parallel)
        kv_heads = 0 if attention.shares_kv else math.ceil(attention.kv_heads / tensor_parallel)
        queries = heads * attention.head_dim * (2 if attention.gated else 1)
        keys_values = kv_heads * (attention.head_dim + (0 if attention.keys_are_values else value_dim))
        return Slice(mixer=hidden * (queries + keys_values + heads * value_dim), plain=attention.extra_params)
    if isinstance(attention, LatentAttention):
        return latent_slice(hidden, attention, tensor_parallel)
    return Slice(recurrent=attention.params / tensor_parallel)


def latent_slice(hidden: int, attention: LatentAttention, tensor_parallel: int) -> Slice:
    """MLA: projections into the latents and the indexer are on every device, those out of them are split by heads."""
    heads = math.ceil(attention.heads / tensor_parallel)
    query_columns = heads * (attention.nope_dim + attention.rope_dim)
    if attention.q_rank is None:
        queries = hidden * query_columns
    else:
        queries = attention.q_rank * (hidden + query_columns)
    down = hidden * (attention.kv_rank + attention.rope_dim)
    up = attention.kv_rank * heads * (attention.nope_dim + attention.v_head_dim)
    out = heads * attention.v_head_dim * hidden * (2 if attention.gated else 1)
    index_inputs = (attention.q_rank or hidden) * attention.indexer_dim + hidden
    indexer = attention.indexer_heads * index_inputs + hidden * attention.indexer_dim
    return Slice(mixer=queries + down + up + out + indexer, plain=attention.extra_params)


def mlp_slice(hidden: int, mlp: Mlp, setup: Setup, device: Device | None) -> Slice:
    """One MLP. Routed experts spread over all devices of a stage, whether by columns or by whole experts."""
    if mlp is None:
        return Slice()
    matrices = 3 if mlp.gated else 2
    if isinstance(mlp, DenseMlp):
        columns = mlp.intermediate / setup.tensor_parallel
        bias = (matrices - 1) * columns + hidden if mlp.bias else 0
        return Slice(linear=matrices * hidden * columns, plain=bias)
    width = hidden if mlp.latent is None else mlp.latent
    columns = mlp.intermediate * mlp.count / expert_spread(mlp, setup)
    if setup.weights == "mxfp4":
        width = math.ceil(width / MXFP4_PADDING) * MXFP4_PADDING
        part = mlp.intermediate if setup.expert_parallel > 1 else mlp.intermediate / expert_spread(mlp, setup)
        step = mxfp4_step(device)
        columns *= math.ceil(part / step) * step / part
    projections = 0 if mlp.latent is None else 2 * hidden * mlp.latent
    return Slice(
        linear=matrices * hidden * mlp.shared_intermediate / setup.tensor_parallel + projections,
        experts=matrices * width * columns,
        plain=hidden * mlp.count + mlp.extra_params,
    )


def mxfp4_step(device: Device | None) -> int:
    """To what a device's share of an MXFP4 expert's inner columns is rounded up: 256 for FlashInfer's kernels on compute
    capability 10 and for AMD's, 64 for Triton's on 9, 128 for Marlin's on all others (vLLM, quantization/mxfp4.py)."""
    if device is None:
        return 64
    generation = (device.compute_capability or "").partition(".")[0]
    if device.vendor == "amd" or generation == "10":
        return 256
    return 64 if generation == "9" else 128


def expert_spread(mlp: Experts, setup: Setup) -> float:
    """Over how many devices the routed experts of a layer are spread; whole experts do not split evenly always."""
    group = setup.tensor_parallel * setup.data_parallel
    if setup.expert_parallel > 1:
        whole = max(group, setup.expert_parallel)
        return mlp.count / math.ceil(mlp.count / whole)
    return group


def absorbed_bytes(arch: Architecture, setup: Setup) -> float:
    """MLA decodes with the up-projections folded into queries and outputs: 16-bit copies beside the stored ones
    (DeepSeek-V2, appendix; vLLM mla/common.py, SGLang deepseek_v2.py). GGUF files hold those matrices apart already."""
    if setup.weights == "gguf":
        return 0.0
    total = 0.0
    for group in arch.groups:
        attention = group.attention
        if isinstance(attention, LatentAttention):
            heads = math.ceil(attention.heads / setup.tensor_parallel)
            total += (
                group.count
                * heads
                * (attention.nope_dim + attention.v_head_dim)
                * attention.kv_rank
                * SIXTEEN_BIT
            )
    return total * stage_share(arch, setup)


def rotary_bytes(arch: Architecture) -> float:
    """The table of cosines and sines, one for all layers: Llama 3.1 8B has 131072 x 128 x 2 B = 32 MiB of it."""
    if arch.position_params:
        return 0.0
    widths = [rotary_dim(group.attention) for group in arch.groups]
    return arch.max_position * max(widths, default=0) * SIXTEEN_BIT


def rotary_dim(attention: Attention) -> int:
    if isinstance(attention, FullAttention):
        return attention.head_dim
    return attention.rope_dim if isinstance(attention, LatentAttention) else 0
