"""From a Hugging Face `config.json` to the `Architecture` that planning needs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from inferry.core.errors import ConfigError

from .architecture import Architecture, Attention, FullAttention, LayerGroup, LinearAttention
from .attention_reading import read_full_attention, read_latent_attention
from .block_configs import read_block_configs
from .compressed_attention import read_compressed_layers
from .config_fields import ConfigFields, as_flag, shortened
from .config_sizes import (
    FAULTS,
    HIDDEN_KEYS,
    LAYER_KEYS,
    LAYER_LISTS,
    LAYERS_MAX,
    VOCAB_KEYS,
    check_plausible,
    check_sizes,
)
from .layer_kinds import LayerKind, read_layer_kinds
from .linear_mixers import (
    read_gated_delta_net,
    read_kimi_delta,
    read_lightning,
    read_mamba1,
    read_mamba2,
    read_short_convolution,
)
from .mlp_reading import read_dense_mlp, read_experts, read_mlp
from .model_families import FAMILIES, Family
from .quantization_reading import read_stored_format
from .vision_params import count_vision
from .vision_shape import patches_per_token, tower_complexity, tower_hidden

_TEXT_SECTIONS = ("text_config", "llm_config", "language_config", "thinker_config")
_ALIASES: Mapping[str, str] = {
    "RefinedWeb": "falcon",
    "RefinedWebModel": "falcon",
    "Yi": "llama",
    "phi-msft": "phi",
    "stablelm_epoch": "stablelm",
    "deepseek_ref": "deepseek_v4",
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "llama4": "llama4_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "minimax_m3_vl": "minimax_m3",
}
_NOT_CAUSAL = {
    "whisper", "bert", "roberta", "xlm-roberta", "modernbert", "distilbert", "albert", "electra", "deberta",
    "deberta-v2", "mpnet", "nomic_bert", "t5", "mt5", "umt5", "bart", "mbart", "marian", "pegasus", "clip", "siglip",
    "vit", "wav2vec2", "hubert", "speecht5",
}  # fmt: skip
_MLA_SPARSE = {"deepseek_v32", "glm_moe_dsa"}
_TOLD_AS_TWO = {"deepseek_v4", "falcon_h1"}
_ONE_NAME = {"deepseek_v4", "kimi_linear", "minimax", "minimax_text_01"}
"""Hybrids whose mixers all have the name of attention, so that what a quantization excludes by that name are all."""


def architecture_from_config(name: str, config: Mapping[str, Any], *, source: str = "") -> Architecture:
    """`config` is the parsed config.json of `name`. Raises ConfigError where it is no causal language model, or where
    a size that matters is missing or impossible; what is only doubtful stands in the answer's `notes`."""
    text = text_section(config)
    model_type = _model_type(name, config, text)
    fields = ConfigFields(
        name, {**text, "model_type": model_type}, FAMILIES.get(model_type, Family()).defaults
    )
    try:
        return check_plausible(_read(fields, config, text, source))
    except FAULTS as error:
        value, what = fields.get(fields.latest), f"{type(error).__name__}: {shortened(str(error))}"
        raise ConfigError(
            f"{name}: its config can't be read near {fields.latest!r}, which is {shortened(value)} ({what}). Take the "
            "config.json that its makers published."
        ) from error


def _read(
    fields: ConfigFields, config: Mapping[str, Any], text: Mapping[str, Any], source: str
) -> Architecture:
    name, model_type = fields.name, str(fields.get("model_type"))
    family = FAMILIES.get(model_type)
    notes: list[str] = []
    if family is None:
        family = Family()
        notes.append(
            f"the model type {model_type!a} is not known to the planner; it is read as if it were a Llama"
        )
    notes += check_sizes(fields, model_type, inner=text is not config)
    hidden = fields.count(*HIDDEN_KEYS)
    layers = _layer_count(fields)
    max_position = _max_position(fields)
    groups = _layer_groups(fields, family, model_type, hidden, layers, max_position)
    vocab = fields.count(*VOCAB_KEYS)
    stored = read_stored_format(config, text)
    vision = count_vision(name, config, hidden)
    other = _other_params(fields, family, hidden, vocab, layers)
    if model_type in _TOLD_AS_TWO:
        notes.append(f"each of its {layers} layers is told as two, by their caches")
    if fields.get("sparse_attention_config"):  # MiniMax-M3
        notes.append("the indexer of its sparse attention is not counted: neither its weights nor its cache")
    if unread := fields.unread_sizes():
        notes.append(f"not understood, and perhaps of weight: {', '.join(unread)}")
    return Architecture(
        name=name,
        hidden=hidden,
        vocab=vocab,
        groups=groups,
        tied_embeddings=_tied(config, text, family),
        max_position=max_position,
        native_format=stored.native_format,
        quantized_parts=stored.quantized_parts,
        attention_format=stored.attention_format,
        linear_mixer_format=None if model_type in _ONE_NAME else stored.linear_mixer_format,
        group_size=stored.group_size,
        vision_params=vision.params,
        vision_hidden=tower_hidden(config),
        vision_patches_per_token=patches_per_token(config),
        vision_complexity=tower_complexity(config),
        mtp_layers=fields.count_or(0, "num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules"),
        position_params=_position_params(fields, model_type, hidden),
        other_params=other,
        source=source,
        notes=(*notes, *stored.notes, *vision.notes),
    )


def text_section(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part about the language model, of a multimodal model's config; else the config itself."""
    found = config
    while inner := next((found[key] for key in _TEXT_SECTIONS if _is_section(found.get(key))), None):
        found = inner
    return found


def _is_section(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value)


def _model_type(name: str, config: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    said = text.get("model_type") or config.get("model_type")
    said = _ALIASES.get(str(said), str(said)) if said else ""
    if config.get("is_encoder_decoder") or said in _NOT_CAUSAL:
        what = said or "an encoder and a decoder"
        raise ConfigError(f"{name} is no causal language model ({what}); the planner plans those only")
    if not said and not any(key in text for key in HIDDEN_KEYS):
        raise ConfigError(f"{name}: this is no model's config: it has neither 'model_type' nor 'hidden_size'")
    return said or "llama"


def _layer_groups(
    fields: ConfigFields, family: Family, model_type: str, hidden: int, layers: int, max_position: int
) -> tuple[LayerGroup, ...]:
    if model_type == "nemotron-nas":
        return read_block_configs(fields, family, hidden, max_position)
    if model_type == "deepseek_v4":
        return collapse(read_compressed_layers(fields, hidden, layers))
    kinds = read_layer_kinds(fields, model_type, layers)
    norms = _norms(fields, family, model_type, hidden)
    made = [
        _layer(fields, family, model_type, kind, hidden, index, layers, max_position, norms)
        for index, kind in enumerate(kinds)
    ]
    if model_type == "falcon_h1":  # attention and Mamba side by side in each layer: planned as two mixers
        mixer = read_mamba2(fields, hidden)
        made += [LayerGroup(1, mixer, None, 0)] * layers
    return collapse(made)


def collapse(layers: list[LayerGroup]) -> tuple[LayerGroup, ...]:
    """Like layers together, in the order in which each kind first appears."""
    order: dict[LayerGroup, int] = {}
    for layer, run in groupby(layers):
        order[layer] = order.get(layer, 0) + sum(1 for _ in run)
    return tuple(
        LayerGroup(count, layer.attention, layer.mlp, layer.norm_params) for layer, count in order.items()
    )


def _layer(
    fields: ConfigFields,
    family: Family,
    model_type: str,
    kind: LayerKind,
    hidden: int,
    index: int,
    layers: int,
    max_position: int,
    norms: int,
) -> LayerGroup:
    attention: Attention
    if kind in ("mlp", "moe"):
        mlp = read_experts(fields, hidden) if kind == "moe" else read_dense_mlp(fields, family, hidden)
        return LayerGroup(1, None, mlp, norms)
    if kind == "linear":
        attention = _linear_mixer(fields, model_type, hidden)
    elif fields.count_or_none("kv_lora_rank"):
        attention = _latent(fields, model_type, index)
    else:
        attention = read_full_attention(fields, family, hidden, kind, max_position)
    if model_type in ("nemotron_h", "mamba", "mamba2", "falcon_mamba"):
        return LayerGroup(1, attention, None, norms)
    if isinstance(attention, FullAttention) and _shares_cache(fields, index, layers):
        attention = _without_cache(attention)
    return LayerGroup(1, attention, read_mlp(fields, family, hidden, index, layers), norms)


def _latent(fields: ConfigFields, model_type: str, index: int) -> Attention:
    kinds = fields.words("indexer_types")  # GLM-5.2: some layers use the indexer of another
    indexed = not kinds or kinds[index] == "full"
    return read_latent_attention(fields, sparse=model_type in _MLA_SPARSE, indexed=indexed)


def _linear_mixer(fields: ConfigFields, model_type: str, hidden: int) -> LinearAttention:
    if fields.count_or_none("linear_num_value_heads"):
        return read_gated_delta_net(fields, hidden)
    if model_type == "kimi_linear":
        return read_kimi_delta(fields, hidden)
    if model_type in ("lfm2", "lfm2_moe"):
        return read_short_convolution(fields, hidden)
    if model_type.startswith("minimax"):
        return read_lightning(fields, hidden)
    if model_type in ("jamba", "mamba", "falcon_mamba"):
        return read_mamba1(fields, hidden, inner_norms=model_type == "jamba")
    return read_mamba2(fields, hidden)


def _shares_cache(fields: ConfigFields, index: int, layers: int) -> bool:
    return index >= layers - fields.count_or(0, "num_kv_shared_layers")


def _without_cache(attention: FullAttention) -> FullAttention:
    return FullAttention(
        heads=attention.heads,
        kv_heads=attention.kv_heads,
        head_dim=attention.head_dim,
        window_tokens=attention.window_tokens,
        qk_norm=attention.qk_norm,
        extra_params=attention.extra_params - (attention.head_dim if attention.qk_norm else 0),
        shares_kv=True,
    )


def _norms(fields: ConfigFields, family: Family, model_type: str, hidden: int) -> int:
    """Of one layer."""
    per_layer = family.norms_per_layer
    if model_type == "falcon" and fields.flag(False, "new_decoder_architecture"):
        per_layer = fields.count_or(2, "num_ln_in_parallel_attn")
    return per_layer * hidden * (2 if family.biased_norms else 1)


def _layer_count(fields: ConfigFields) -> int:
    found = fields.count_or_none(*LAYER_KEYS)
    listed = len(fields.words(*LAYER_LISTS))
    if found is None:
        found = listed or fields.count("num_hidden_layers")  # the latter says what is missing
    if found > LAYERS_MAX:
        raise ConfigError(
            f"{fields.name}: its config gives {found:,} layers; at most {LAYERS_MAX:,} can be planned"
        )
    return found


def _max_position(fields: ConfigFields) -> int:
    return fields.count_or(
        0, "max_position_embeddings", "n_positions", "max_sequence_length", "model_max_length", "seq_length",
        "max_seq_len", "n_ctx",
    )  # fmt: skip


def _tied(config: Mapping[str, Any], text: Mapping[str, Any], family: Family) -> bool:
    for section in (text, config):
        if section.get("tie_word_embeddings") is not None:
            return as_flag(section["tie_word_embeddings"])
    return family.tied


def _position_params(fields: ConfigFields, model_type: str, hidden: int) -> int:
    """Learned absolute positions. OPT keeps two rows more than it has positions."""
    positions = _max_position(fields)
    if model_type == "opt":
        return (positions + 2) * fields.count_or(hidden, "word_embed_proj_dim")
    return positions * hidden if model_type in ("gpt2", "gpt_bigcode", "gpt_neo") else 0


def _other_params(fields: ConfigFields, family: Family, hidden: int, vocab: int, layers: int) -> int:
    found = hidden if family.biased_norms else 0  # the bias of the last norm
    if family.head_bias:
        found += vocab
    if fields.get("model_type") == "bloom":
        found += 2 * hidden  # a norm after the embedding
    if fields.get("model_type") == "olmo":
        found -= hidden  # its norms have no weights, the last one neither
    return found + _per_layer_embeddings(fields, hidden, layers)


def _per_layer_embeddings(fields: ConfigFields, hidden: int, layers: int) -> int:
    """Gemma 3n and the small Gemma 4: a narrow embedding for each layer, and what brings it to the layer's width.

    Gemma 3n also has low-rank residuals and several streams (transformers, `modeling_gemma3n.py`).
    """
    width = fields.count_or(0, "hidden_size_per_layer_input")
    rows = fields.count_or(0, "vocab_size_per_layer_input")
    rank, streams = fields.count_or(0, "laurel_rank"), fields.count_or(1, "altup_num_inputs")
    found = layers * (2 * hidden * rank + hidden) if rank else 0
    found += 2 * (streams - 1) * hidden * hidden
    if width:
        found += (rows + hidden) * layers * width + width + layers * (2 * hidden * width + hidden)
    return found
