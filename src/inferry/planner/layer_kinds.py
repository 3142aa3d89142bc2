"""Which mixer each layer of a hybrid model has, read from the several ways in which configs say it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from inferry.core.errors import ConfigError

from .config_fields import ConfigFields

LayerKind: TypeAlias = Literal["full", "sliding", "chunked", "linear", "mlp", "moe"]
"""`mlp` and `moe`: a layer that has only that (Nemotron-H)."""

_WORDS: Mapping[str, LayerKind] = {
    "full_attention": "full",
    "global": "full",
    "attention": "full",
    "deepseek_sparse_attention": "full",
    "minimax_m3_sparse": "full",
    "sliding_attention": "sliding",
    "local": "sliding",
    "chunked_attention": "chunked",
    "linear_attention": "linear",
    "mamba": "linear",
    "mamba2": "linear",
    "recurrent": "linear",
    "conv": "linear",
    "kda": "linear",
    "mlp": "mlp",
    "moe": "moe",
}
_NEMOTRON_LETTERS: Mapping[str, LayerKind] = {"M": "linear", "*": "full", "-": "mlp", "E": "moe"}


def read_layer_kinds(fields: ConfigFields, model_type: str, layers: int) -> list[LayerKind]:
    """One kind per layer. Raises ConfigError where the config's list has another length than its number of layers."""
    pattern = fields.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        return _checked(fields, [_letter(fields, letter) for letter in pattern if letter != "|"], layers)
    named = fields.words("layer_types", "layers_block_type", "block_types")
    if named:
        # Some checkpoints list the layers of multi-token prediction, too.
        return _checked(fields, [_word(fields, word) for word in named[:layers]], layers)
    by_type = _BY_TYPE.get(model_type)
    return by_type(fields, layers) if by_type else _uniform(fields, layers)


def _uniform(fields: ConfigFields, layers: int) -> list[LayerKind]:
    """Mistral 0.1, Starcoder2, Phi-3: each layer alike, sliding where a window is set and switched on. Later Mistrals set
    it to null, though the family's default is 4,096."""
    if fields.switched_off("sliding_window"):
        return ["full"] * layers
    sliding = fields.count_or_none("sliding_window") and fields.flag(True, "use_sliding_window")
    return ["sliding" if sliding else "full"] * layers


def _qwen2(fields: ConfigFields, layers: int) -> list[LayerKind]:
    window = fields.count_or_none("sliding_window")
    if not (fields.flag(False, "use_sliding_window") and window):
        return ["full"] * layers
    first = fields.count_or(layers, "max_window_layers")
    return ["sliding" if index >= first else "full" for index in range(layers)]


def _every(full_every: int, other: LayerKind) -> Callable[[ConfigFields, int], list[LayerKind]]:
    """Layers `full_every`, twice that and so on are full, unless the config names another interval."""

    def kinds(fields: ConfigFields, layers: int) -> list[LayerKind]:
        every = fields.get("sliding_window_pattern", "full_attention_interval", "no_rope_layer_interval")
        if isinstance(every, str):  # EXAONE 4: "LLLG"
            return ["full" if every[index % len(every)] == "G" else other for index in range(layers)]
        if other == "sliding" and not fields.count_or_none("sliding_window"):
            return ["full"] * layers
        step = every if isinstance(every, int) and every > 0 else full_every
        return ["full" if (index + 1) % step == 0 else other for index in range(layers)]

    return kinds


def _llama4(fields: ConfigFields, layers: int) -> list[LayerKind]:
    without_rope = fields.get("no_rope_layers")
    if isinstance(without_rope, list) and len(without_rope) == layers:
        return ["chunked" if rope else "full" for rope in without_rope]
    return _every(4, "chunked")(fields, layers)


def _jamba(fields: ConfigFields, layers: int) -> list[LayerKind]:
    period, offset = fields.count_or(8, "attn_layer_period"), fields.count_or(4, "attn_layer_offset")
    return ["full" if index % period == offset else "linear" for index in range(layers)]


def _bamba(fields: ConfigFields, layers: int) -> list[LayerKind]:
    full = fields.get("attn_layer_indices", "full_attn_idxs") or ()
    return ["full" if index in full else "linear" for index in range(layers)]


def _kimi_linear(fields: ConfigFields, layers: int) -> list[LayerKind]:
    full = fields.section("linear_attn_config").get("full_attn_layers")
    if full is None:
        return ["full"] * layers
    return ["full" if index + 1 in full else "linear" for index in range(layers)]


def _flags(
    key: str, when_set: LayerKind, otherwise: LayerKind
) -> Callable[[ConfigFields, int], list[LayerKind]]:
    def kinds(fields: ConfigFields, layers: int) -> list[LayerKind]:
        flags = fields.get(key)
        if not isinstance(flags, list):
            return ["full"] * layers
        return _checked(fields, [when_set if flag else otherwise for flag in flags], layers)

    return kinds


def _linear(fields: ConfigFields, layers: int) -> list[LayerKind]:
    return ["linear"] * layers


def _full(fields: ConfigFields, layers: int) -> list[LayerKind]:
    return ["full"] * layers


_BY_TYPE: Mapping[str, Callable[[ConfigFields, int], list[LayerKind]]] = {
    **dict.fromkeys(("qwen2", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text", "qwen2_moe"), _qwen2),
    **dict.fromkeys(("qwen3", "qwen3_moe", "mimo"), _qwen2),
    "gemma2": _every(2, "sliding"),
    "gemma3_text": _every(6, "sliding"),
    "gemma3n_text": _every(5, "sliding"),
    "gemma4_text": _every(6, "sliding"),
    "cohere2": _every(4, "sliding"),
    "olmo3": _every(4, "sliding"),
    "exaone4": _every(4, "sliding"),
    "gpt_oss": _every(2, "sliding"),
    "qwen3_next": _every(4, "linear"),
    "qwen3_5_text": _every(4, "linear"),
    "qwen3_5_moe_text": _every(4, "linear"),
    "llama4_text": _llama4,
    "jamba": _jamba,
    "bamba": _bamba,
    "lfm2": _bamba,
    "lfm2_moe": _bamba,
    "kimi_linear": _kimi_linear,
    "mimo_v2_flash": _flags("hybrid_layer_pattern", "sliding", "full"),
    "minimax": _flags("attn_type_list", "full", "linear"),
    "minimax_text_01": _flags("attn_type_list", "full", "linear"),
    "mamba": _linear,
    "mamba2": _linear,
    "falcon_mamba": _linear,
    "mixtral": _uniform,
    "nemotron-nas": _full,
}  # fmt: skip


def window_tokens(fields: ConfigFields, max_position: int) -> int | None:
    """None where the window is as long as the whole context."""
    window = fields.count_or_none("sliding_window", "sliding_window_size", "attention_window_size")
    return None if not window or window >= (max_position or math.inf) else window


def _letter(fields: ConfigFields, letter: str) -> LayerKind:
    try:
        return _NEMOTRON_LETTERS[letter]
    except KeyError:
        raise ConfigError(
            f"{fields.name}: hybrid_override_pattern has a {letter!r}; the planner knows M, *, - and E"
        ) from None


def _word(fields: ConfigFields, word: str) -> LayerKind:
    try:
        return _WORDS[word]
    except KeyError:
        known = ", ".join(_WORDS)
        raise ConfigError(f"{fields.name}: layer_types has a {word!r}; the planner knows {known}") from None


def _checked(fields: ConfigFields, kinds: list[LayerKind], layers: int) -> list[LayerKind]:
    if len(kinds) != layers:
        raise ConfigError(
            f"{fields.name}: its config lists {len(kinds)} layers' kinds, but {layers} layers; one of both is wrong"
        )
    return kinds
