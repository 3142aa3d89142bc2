"""What a config's `quantization_config` says about the stored weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from .architecture import WeightFormat
from .quantization_parts import few_layers, names_mixers, others_note, read_kept_parts

QuantizedParts = Literal["linear", "experts", "linear_and_head"]


@dataclass(frozen=True, slots=True)
class StoredFormat:
    """As `Architecture` has it."""

    native_format: WeightFormat
    quantized_parts: QuantizedParts = "linear"
    group_size: int | None = None
    attention_format: WeightFormat | None = None
    linear_mixer_format: WeightFormat | None = None
    notes: tuple[str, ...] = ()


_DTYPES: Mapping[str, WeightFormat] = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "float32": "fp32",
    "bf16": "bf16",
    "fp16": "fp16",
}
_EXPERT_KEYS = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
_METHODS: Mapping[str, WeightFormat] = {
    "awq": "awq",
    "awq-marlin": "awq",
    "gptq": "gptq",
    "gptq-marlin": "gptq",
    "auto-round": "gptq",
    "mxfp4": "mxfp4",
    "fbgemm-fp8": "fp8",
    "bitsandbytes": "bnb4",
    "experts-int8": "int8",
    "gguf": "gguf",
}
_BY_GROUPS = ("compressed-tensors", "modelopt", "modelopt-fp4")
_QUARK: Mapping[str, WeightFormat] = {
    "fp8_e4m3": "fp8",
    "int8": "int8",
    "int4": "int4",
    "uint4": "int4",
    "fp4": "mxfp4",
}


def read_stored_format(config: Mapping[str, Any], text: Mapping[str, Any]) -> StoredFormat:
    """Of the whole `config` and its part about the language model. bf16 where neither says anything."""
    dtype = str(_first(text, config, "torch_dtype", "dtype") or "bfloat16").removeprefix("torch.")
    plain: WeightFormat = _DTYPES.get(dtype, "bf16")
    said = _first(config, text, "quantization_config", "compression_config")
    if not isinstance(said, Mapping) or not said:
        return StoredFormat(plain)
    # DeepSeek-V4: what is not an expert is FP8, which is not told apart. NVIDIA's copies of it say what they are instead.
    if text.get("expert_dtype") == "fp4" and not (said.get("quant_algo") or said.get("quantized_layers")):
        return StoredFormat("mxfp4", "experts", 32, attention_format="fp8_block")
    has_experts = any(text.get(key) for key in _EXPERT_KEYS)
    method = str(said.get("quant_method") or said.get("quant_algo") or "").lower().replace("_", "-")
    if method == "fp8" and "config_groups" not in said:
        size = said.get("weight_block_size")
        block = _whole(size[-1] if isinstance(size, list | tuple) and size else size)
        found = StoredFormat("fp8_block" if block else "fp8", group_size=block)
    elif method in _BY_GROUPS or "config_groups" in said:
        found = _from_groups(said, plain, has_experts=has_experts)
    elif method == "quark":
        found = _from_quark(said, plain)
    elif method == "bitsandbytes":
        found = StoredFormat("bnb4" if said.get("load_in_4bit") or said.get("_load_in_4bit") else "int8")
    elif method == "mxfp4":
        found = StoredFormat("mxfp4", "experts", 32)
    elif method in _METHODS:
        found = _packed(_METHODS[method], said)
    else:
        note = f"its quantization method {method!a} is not known; its weights are taken as {plain}"
        return StoredFormat(plain, notes=(note,))
    return _with_parts(found, said, has_experts=has_experts, layers=text.get("num_hidden_layers"))


def _packed(stored: WeightFormat, said: Mapping[str, Any]) -> StoredFormat:
    """AWQ, GPTQ and those that are stored as these."""
    bits = _whole(said.get("bits") or said.get("w_bit"))
    group = _whole(said.get("group_size") or said.get("q_group_size"))
    if stored not in ("awq", "gptq") or bits in (None, 4):
        return StoredFormat(stored, group_size=group)
    if bits == 8:
        return StoredFormat("int8", group_size=group)
    return StoredFormat(stored, group_size=group, notes=(f"its weights have {bits} bits, counted as 4",))


def _from_groups(said: Mapping[str, Any], plain: WeightFormat, *, has_experts: bool) -> StoredFormat:
    """compressed-tensors and NVIDIA's ModelOpt: schemes by groups of layers."""
    algorithm = str(said.get("quant_algo") or "").upper()
    if "NVFP4" in algorithm:
        return StoredFormat("nvfp4", group_size=16)
    if algorithm.startswith("FP8"):
        return StoredFormat("fp8")
    groups = _groups(said)
    if not groups:
        if "MIXED" in algorithm:
            return _mixed(said)
        note = "its quantization_config names no groups; its weights are taken as not quantized"
        return StoredFormat(plain, notes=(note,))
    widest_last = sorted(groups, key=lambda group: _whole(group[1].get("num_bits")) or 16)
    (_, narrow), (wide_targets, wide) = widest_last[0], widest_last[-1]
    packing = str(said.get("format") or "")
    found, widest = _scheme(narrow, packing, plain), _scheme(wide, packing, plain)
    if found.native_format == widest.native_format:
        return found
    if names_mixers(wide_targets):
        return replace(found, attention_format=widest.native_format)
    if has_experts:  # which have the fewest bits in mixed checkpoints, and are most of the model
        return found
    note = f"its layers are of several widths, all counted as the widest, {widest.native_format}"
    return replace(widest, notes=(*widest.notes, note))


def _groups(said: Mapping[str, Any]) -> list[tuple[list[Any], Mapping[str, Any]]]:
    """Targets and scheme of each, without those that name a few single layers beside others that name all."""
    section = said.get("config_groups")
    groups = (
        [each for each in section.values() if isinstance(each, Mapping)]
        if isinstance(section, Mapping)
        else []
    )
    found = []
    for group in groups:
        targets, weights = group.get("targets"), group.get("weights")
        if isinstance(weights, Mapping) and weights:
            found.append((targets if isinstance(targets, list) else [], weights))
    return [group for group in found if not few_layers(group[0])] or found


def _scheme(weights: Mapping[str, Any], packing: str, plain: WeightFormat) -> StoredFormat:
    """Of one group of compressed-tensors."""
    bits, kind, size = _whole(weights.get("num_bits")), weights.get("type"), _whole(weights.get("group_size"))
    if bits == 4 and kind == "float":
        narrow: WeightFormat = "mxfp4" if size == 32 or "mxfp4" in packing else "nvfp4"
        return StoredFormat(narrow, group_size=size or (32 if narrow == "mxfp4" else 16))
    if bits == 4:
        return StoredFormat("int4", group_size=size)
    if bits == 8 and kind == "float":
        block = weights.get("block_structure") or weights.get("strategy") == "block"
        return StoredFormat("fp8_block" if block else "fp8", group_size=128 if block else None)
    if bits == 8:
        return StoredFormat("int8")
    said = f"{bits} bits of type {kind!a}" if bits else "no number of bits"
    return StoredFormat(plain, notes=(f"its weights have {said}, which is not known; taken as {plain}",))


def _from_quark(said: Mapping[str, Any], plain: WeightFormat) -> StoredFormat:
    """AMD's Quark: one scheme for all, besides what its lists exclude."""
    section = said.get("global_quant_config")
    weights = section.get("weight") if isinstance(section, Mapping) else None
    scheme = weights[0] if isinstance(weights, list) and weights else weights
    dtype = str(scheme.get("dtype") or "") if isinstance(scheme, Mapping) else ""
    stored = _QUARK.get(dtype)
    if stored is None:
        return StoredFormat(
            plain, notes=(f"its weights are {dtype!a} to Quark, which is not known; taken as {plain}",)
        )
    return StoredFormat(stored, group_size=32 if stored == "mxfp4" else None)


def _mixed(said: Mapping[str, Any]) -> StoredFormat:
    """ModelOpt's MIXED_PRECISION: a scheme per layer. Its 4-bit layers are the experts, the rest is 8 bits wide."""
    layers = said.get("quantized_layers")
    schemes = (
        {str(each.get("quant_algo")) for each in layers.values() if isinstance(each, Mapping)}
        if isinstance(layers, Mapping)
        else set()
    )
    if not any("NVFP4" in scheme for scheme in schemes):
        return StoredFormat("fp8")
    eight_bits = any("FP8" in scheme for scheme in schemes)  # MXFP8, too
    return StoredFormat("nvfp4", group_size=16, attention_format="fp8" if eight_bits else None)


def _with_parts(
    found: StoredFormat, said: Mapping[str, Any], *, has_experts: bool, layers: object
) -> StoredFormat:
    """Which parts stay in 16 bit, by the names that the config excludes."""
    if found.quantized_parts == "experts":  # gpt-oss: that is what its method means
        return found
    kept = read_kept_parts(said, layers)
    if kept.others:
        found = replace(found, notes=(*found.notes, others_note(kept.others)))
    # DeepSeek-V4's 4-bit copies keep FP8, not 16 bit, in what they exclude.
    wide: WeightFormat = "fp8_block" if said.get("weight_block_size") else "bf16"
    if kept.attention or kept.linear_mixers:
        inner = found.attention_format or found.native_format
        found = replace(
            found,
            attention_format=wide if kept.attention else found.attention_format,
            linear_mixer_format=wide if kept.linear_mixers else inner,
        )
    if kept.attention and kept.beside_experts and has_experts:
        return replace(found, quantized_parts="experts")
    head_named = "lm_head" in str(said.get("config_groups") or said.get("quantized_layers") or "")
    if said.get("lm_head") is True or (not kept.head and head_named):
        return replace(found, quantized_parts="linear_and_head")
    return found


def _whole(value: object) -> int | None:
    """A positive whole number, or None: configs say -1 for no groups, and some write numbers as texts."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _first(one: Mapping[str, Any], other: Mapping[str, Any], *keys: str) -> Any:
    for source in (one, other):
        for key in keys:
            if source.get(key) is not None:
                return source[key]
    return None
