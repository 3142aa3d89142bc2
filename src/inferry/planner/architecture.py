"""What of a model decides its bytes and operations: its layers, one by one, and how its weights are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class FullAttention:
    """MHA, GQA or MQA over the whole context, or over the last `window_tokens` of it.

    `chunk_tokens`: attention within chunks of that length (Llama 4). `gated`: an output gate as wide as the queries.
    """

    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int | None = None
    window_tokens: int | None = None
    chunk_tokens: int | None = None
    gated: bool = False
    qk_norm: bool = False
    bias: bool = False
    extra_params: int = 0
    """Besides the four matrices: biases, norms of queries and keys, sinks; always kept in 16 bit."""
    keys_are_values: bool = False
    """No value matrix (Gemma 4's global layers); the cache holds both all the same."""
    shares_kv: bool = False
    """Reads the cache of an earlier layer: no key and value matrices, no cache of its own (Gemma 3n)."""


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """MLA (DeepSeek-V2, section 2.1): one latent of `kv_rank + rope_dim` elements per token is cached for all heads.

    `sparse_top_k`: DeepSeek Sparse Attention reads at most that many tokens; its indexer caches `indexer_dim` elements more.
    """

    heads: int
    kv_rank: int
    rope_dim: int
    nope_dim: int
    v_head_dim: int
    q_rank: int | None = None
    sparse_top_k: int | None = None
    indexer_dim: int = 0
    indexer_heads: int = 0
    gated: bool = False
    extra_params: int = 0
    """Norms of the latents and of the indexer, biases."""


@dataclass(frozen=True, slots=True)
class LinearAttention:
    """Gated DeltaNet, Mamba-2, lightning attention: a constant state per sequence instead of a cache per token."""

    state_elements: int
    conv_elements: int
    params: int
    """Of the mixer of one layer, all its projections."""
    state_bytes_per_element: int = 2
    """4 where the model asks for fp32 states; those of the convolutions stay in 16 bit."""


Attention: TypeAlias = FullAttention | LatentAttention | LinearAttention | None
"""None: a layer without a mixer (Nemotron-H's MLP layers)."""


@dataclass(frozen=True, slots=True)
class DenseMlp:
    intermediate: int
    gated: bool = True
    """Three matrices (SwiGLU) instead of two."""
    bias: bool = False


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture: `per_token` of `count` routed experts for each token, and `shared_intermediate` columns for all."""

    count: int
    per_token: int
    intermediate: int
    shared_intermediate: int = 0
    gated: bool = True
    latent: int | None = None
    """Routed experts work on that many columns instead of `hidden`, projected down and up again (Nemotron 3 Super)."""
    extra_params: int = 0
    """Biases of experts and router, the gate of the shared ones."""


Mlp: TypeAlias = DenseMlp | Experts | None


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """`count` layers that are alike; their order within the model does not matter for sizes."""

    count: int
    attention: Attention
    mlp: Mlp
    norm_params: int | None = None
    """Norms of one layer. None: two of `hidden`."""


WeightFormat: TypeAlias = Literal[
    "fp32",
    "bf16",
    "fp16",
    "fp8",
    "fp8_block",
    "int8",
    "awq",
    "gptq",
    "int4",
    "nvfp4",
    "mxfp4",
    "bnb4",
    "gguf",
]
"""How linear layers are stored. `gguf`: by the file's own types, see `Architecture.stored_bytes`."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One model, as far as planning needs it.

    `params_exact` and `stored_bytes` come from safetensors or GGUF metadata and are None where only the config is known.
    `native_format` is what the checkpoint holds; `quantized_parts` says which parts it covers ("experts" for gpt-oss,
    "linear" for most), the rest stays in 16 bit.
    """

    name: str
    hidden: int
    vocab: int
    groups: tuple[LayerGroup, ...]
    tied_embeddings: bool
    max_position: int
    native_format: WeightFormat = "bf16"
    quantized_parts: Literal["linear", "experts", "linear_and_head"] = "linear"
    attention_format: WeightFormat | None = None
    """Where the checkpoint stores its mixers in another format than `native_format`: bf16 for many 4-bit ones."""
    linear_mixer_format: WeightFormat | None = None
    """Of mixers with a constant state, where it is another than that of attention."""
    group_size: int | None = None
    """Weights per scale of a quantized checkpoint, where it says one."""
    gguf_bits: float | None = None
    """Per weight of a GGUF file that only its name is known of."""
    made_of: str = ""
    """The repository whose weights Ollama's file of that name was made of."""
    vision_params: int = 0
    vision_hidden: int = 0
    """The vision tower's own width; 0: not known."""
    vision_patches_per_token: float = 0.0
    vision_complexity: int = 0
    """The tower's layers x width squared, as SGLang reads them in its config; 0: not known."""
    mtp_layers: int = 0
    """Layers of multi-token prediction that the checkpoint has besides `groups`; not loaded unless asked for."""
    position_params: int = 0
    """Learned absolute positions (OPT, GPT-2)."""
    other_params: int = 0
    """Whatever no other field counts: biases of norms and head, embeddings per layer (Gemma 3n)."""
    params_exact: int | None = None
    stored_bytes: int | None = None
    source: str = ""
    """Where the facts come from: a file, or a page with the revision."""
    notes: tuple[str, ...] = ()
    """What the planner does not know of this model, for people."""
    extra: Mapping[str, float] = field(default_factory=dict)

    @property
    def layers(self) -> int:
        return sum(group.count for group in self.groups)
