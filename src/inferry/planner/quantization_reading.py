"""What a config's `quantization_config` says about the stored weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .architecture import WeightFormat

QuantizedParts = Literal["linear", "experts", "linear_and_head"]


@dataclass(frozen=True, slots=True)
class StoredFormat:
    """As `Architecture` has it."""

    native_format: WeightFormat
    quantized_parts: QuantizedParts = "linear"
    group_size: int | None = None
    notes: tuple[str, ...] = ()


_DTYPES: Mapping[str, WeightFormat] = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "float32": "fp32",
    "bf16": "bf16",
    "fp16": "fp16",
}
_METHODS: Mapping[str, WeightFormat] = {
    "awq": "awq",
    "gptq": "gptq",
    "auto-round": "gptq",
    "mxfp4": "mxfp4",
    "fbgemm_fp8": "fp8",
    "bitsandbytes": "bnb4",
    "experts_int8": "int8",
    "gguf": "gguf",
}


def read_stored_format(config: Mapping[str, Any], text: Mapping[str, Any]) -> StoredFormat:
    """Of the whole `config` and its part about the language model. bf16 where neither says anything."""
    dtype = str(_first(text, config, "torch_dtype", "dtype") or "bfloat16").removeprefix("torch.")
    plain: WeightFormat = _DTYPES.get(dtype, "bf16")
    said = _first(config, text, "quantization_config", "compression_config")
    if not isinstance(said, Mapping) or not said:
        return StoredFormat(plain)
    if (
        text.get("expert_dtype") == "fp4"
    ):  # DeepSeek-V4: what is not an expert is FP8, which is not told apart
        note = "its experts are stored as mxfp4, the rest in fp8, which is counted as 16 bit"
        return StoredFormat("mxfp4", "experts", 32, (note,))
    method = str(said.get("quant_method") or said.get("quant_algo") or "").lower().replace("_", "-")
    bits = said.get("bits") or said.get("w_bit")
    group = said.get("group_size") or said.get("q_group_size")
    group = group if isinstance(group, int) and group > 0 else None
    if method == "fp8":
        block = said.get("weight_block_size")
        found = StoredFormat("fp8_block" if block else "fp8", group_size=block[-1] if block else None)
    elif method in ("compressed-tensors", "modelopt", "modelopt-fp4", "quark") or "config_groups" in said:
        found = _from_groups(said, plain)
    elif method == "bitsandbytes":
        found = StoredFormat("bnb4" if said.get("load_in_4bit") or said.get("_load_in_4bit") else "int8")
    elif method in ("awq", "gptq") and bits == 8:
        found = StoredFormat("int8", group_size=group)
    elif method == "mxfp4":
        found = StoredFormat("mxfp4", "experts", 32)
    elif method.replace("-", "_") in _METHODS or method in _METHODS:
        found = StoredFormat(_METHODS.get(method) or _METHODS[method.replace("-", "_")], group_size=group)
    else:
        note = f"its quantization method {method!r} is not known; its weights are taken as {plain}"
        return StoredFormat(plain, notes=(note,))
    return _with_parts(found, said)


def _from_groups(said: Mapping[str, Any], plain: WeightFormat) -> StoredFormat:
    """compressed-tensors and NVIDIA's ModelOpt: schemes by groups of layers; the widest use counts."""
    groups = said.get("config_groups")
    algorithm = str(said.get("quant_algo") or "").upper()
    if "NVFP4" in algorithm:
        return StoredFormat("nvfp4", group_size=16)
    if algorithm.startswith("FP8"):
        return StoredFormat("fp8")
    schemes = [group.get("weights") or {} for group in groups.values()] if isinstance(groups, Mapping) else []
    if not schemes:
        if "MIXED" in algorithm:
            return _mixed(said)
        note = "its quantization_config names no groups; its weights are taken as not quantized"
        return StoredFormat(plain, notes=(note,))
    # Mixed checkpoints keep the fewest bits for the experts, which are most of the model.
    weights = min(schemes, key=lambda scheme: scheme.get("num_bits") or 16)
    bits, kind, size = weights.get("num_bits"), weights.get("type"), weights.get("group_size")
    packing = str(said.get("format") or "")
    notes = ("its layers are quantized in several ways; planned as the narrowest of them",) if len(
        {scheme.get("num_bits") for scheme in schemes}
    ) > 1 else ()  # fmt: skip
    if bits == 4 and kind == "float":
        narrow: WeightFormat = "mxfp4" if size == 32 or "mxfp4" in packing else "nvfp4"
        return StoredFormat(narrow, group_size=size or (32 if narrow == "mxfp4" else 16), notes=notes)
    if bits == 4:
        return StoredFormat("int4", group_size=size, notes=notes)
    if bits == 8 and kind == "float":
        block = weights.get("block_structure") or weights.get("strategy") == "block"
        return StoredFormat("fp8_block" if block else "fp8", group_size=128 if block else None, notes=notes)
    if bits == 8:
        return StoredFormat("int8", notes=notes)
    return StoredFormat(plain, notes=(f"its weights have {bits} bits of type {kind}, which is not known",))


def _mixed(said: Mapping[str, Any]) -> StoredFormat:
    """ModelOpt's MIXED_PRECISION: a scheme per layer."""
    layers = said.get("quantized_layers")
    schemes = [str(each.get("quant_algo")) for each in layers.values()] if isinstance(layers, Mapping) else []
    narrow = any("NVFP4" in scheme for scheme in schemes)
    note = "its layers are quantized in several ways; planned as the narrowest of them"
    return StoredFormat("nvfp4" if narrow else "fp8", group_size=16 if narrow else None, notes=(note,))


def _with_parts(found: StoredFormat, said: Mapping[str, Any]) -> StoredFormat:
    """Which parts stay in 16 bit, by the names that the config excludes."""
    kept = [
        str(name)
        for key in (
            "modules_to_not_convert",
            "ignore",
            "ignored_layers",
            "exclude_modules",
            "llm_int8_skip_modules",
        )
        for name in said.get(key) or ()
    ]
    attention_kept = any("self_attn" in name or "attention" in name for name in kept)
    mlp_kept = sum("experts" not in name and "mlp" in name and "gate." not in name for name in kept) > 8
    if found.native_format == "mxfp4" or (attention_kept and _names_all_layers(kept)):
        return StoredFormat(found.native_format, "experts", found.group_size, found.notes)
    head_kept = not kept or any("lm_head" in name for name in kept)
    if said.get("lm_head") or (not head_kept and "lm_head" in str(said.get("config_groups") or "")):
        return StoredFormat(found.native_format, "linear_and_head", found.group_size, found.notes)
    notes = found.notes
    if mlp_kept:
        notes = (*notes, "some of its MLP layers stay in 16 bit, which is not counted")
    return StoredFormat(found.native_format, "linear", found.group_size, notes)


def _names_all_layers(kept: list[str]) -> bool:
    """A pattern, or one entry for each of many layers; one odd layer is no rule."""
    named = [name for name in kept if "self_attn" in name]
    return any("*" in name for name in named) or len(named) >= 12


def _first(one: Mapping[str, Any], other: Mapping[str, Any], *keys: str) -> Any:
    for source in (one, other):
        for key in keys:
            if source.get(key) is not None:
                return source[key]
    return None
