"""What a config's `quantization_config` says about the stored weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from .architecture import WeightFormat

QuantizedParts = Literal["linear", "experts", "linear_and_head"]


@dataclass(frozen=True, slots=True)
class StoredFormat:
    """As `Architecture` has it."""

    native_format: WeightFormat
    quantized_parts: QuantizedParts = "linear"
    group_size: int | None = None
    attention_format: WeightFormat | None = None
    notes: tuple[str, ...] = ()


_DTYPES: Mapping[str, WeightFormat] = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "float32": "fp32",
    "bf16": "bf16",
    "fp16": "fp16",
}
_MIXER = re.compile(
    r"(self_attn|\battn|attention)\W*$|(self_attn|\battn|attention)\.(q|k|v|o|qkv|q_a|q_b|kv_b|out)_proj"
)
"""Whole mixers or their projections; their norms, indexers and the router stay in 16 bit nearly everywhere."""
_MANY_LAYERS = 20
_EXPERT_KEYS = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
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
        return StoredFormat("mxfp4", "experts", 32, attention_format="fp8_block")
    method = str(said.get("quant_method") or said.get("quant_algo") or "").lower().replace("_", "-")
    bits = said.get("bits") or said.get("w_bit")
    group = said.get("group_size") or said.get("q_group_size")
    group = group if isinstance(group, int) and group > 0 else None
    if method == "fp8" and "config_groups" not in said:
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
    return _with_parts(found, said, has_experts=any(text.get(key) for key in _EXPERT_KEYS))


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
    if bits == 4 and kind == "float":
        narrow: WeightFormat = "mxfp4" if size == 32 or "mxfp4" in packing else "nvfp4"
        mixers: WeightFormat | None = "fp8" if _wider_mixers(groups) else None
        return StoredFormat(
            narrow, group_size=size or (32 if narrow == "mxfp4" else 16), attention_format=mixers
        )
    if bits == 4:
        return StoredFormat("int4", group_size=size)
    if bits == 8 and kind == "float":
        block = weights.get("block_structure") or weights.get("strategy") == "block"
        return StoredFormat("fp8_block" if block else "fp8", group_size=128 if block else None)
    if bits == 8:
        return StoredFormat("int8")
    return StoredFormat(plain, notes=(f"its weights have {bits} bits of type {kind}, which is not known",))


def _wider_mixers(groups: object) -> bool:
    """Whether a group of 8 bits names the mixers, beside one of 4 bits for the rest."""
    if not isinstance(groups, Mapping):
        return False
    wide = [group for group in groups.values() if (group.get("weights") or {}).get("num_bits") == 8]
    return any(_MIXER.search(str(target)) for group in wide for target in group.get("targets") or ())


def _mixed(said: Mapping[str, Any]) -> StoredFormat:
    """ModelOpt's MIXED_PRECISION: a scheme per layer. Its 4-bit layers are the experts, the rest is 8 bits wide."""
    layers = said.get("quantized_layers")
    schemes = (
        {str(each.get("quant_algo")) for each in layers.values()} if isinstance(layers, Mapping) else set()
    )
    if not any("NVFP4" in scheme for scheme in schemes):
        return StoredFormat("fp8")
    return StoredFormat("nvfp4", group_size=16, attention_format="fp8" if "FP8" in schemes else None)


def _with_parts(found: StoredFormat, said: Mapping[str, Any], *, has_experts: bool) -> StoredFormat:
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
    if found.quantized_parts == "experts":  # gpt-oss: that is what its method means
        return found
    if _of_all_layers([name for name in kept if _MIXER.search(name)]):
        # DeepSeek-V4's 4-bit copies keep FP8, not 16 bit, in what they exclude.
        mixers: WeightFormat = "fp8_block" if said.get("weight_block_size") else "bf16"
        return replace(found, attention_format=mixers, quantized_parts="experts" if has_experts else "linear")
    head_kept = any(name.endswith("head") or "lm_head" in name for name in kept)
    head_named = "lm_head" in str(said.get("config_groups") or said.get("quantized_layers") or "")
    if said.get("lm_head") is True or (not head_kept and head_named):
        return replace(found, quantized_parts="linear_and_head")
    return found


def _of_all_layers(names: list[str]) -> bool:
    """A pattern, or one entry for each of many layers; some odd layers are no rule."""
    return any("*" in name for name in names) or len(names) >= _MANY_LAYERS


def _first(one: Mapping[str, Any], other: Mapping[str, Any], *keys: str) -> Any:
    for source in (one, other):
        for key in keys:
            if source.get(key) is not None:
                return source[key]
    return None
