"""Which parts of a model its quantization leaves as they were, read from the names that a config excludes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LIST_KEYS = (
    "modules_to_not_convert",
    "ignore",
    "ignored_layers",
    "exclude_modules",
    "exclude",
    "llm_int8_skip_modules",
)
_OF_REGEX = re.compile(r"^re:|[\\^$()?]")
_NUMBER = re.compile(r"\d+")
_ATTENTION = re.compile(
    r"(self_attn|\battn|self_attention|\battention)(\W*$|\.(\w*\|)*(q|k|v|o|qkv|q_a|q_b|kv_a|kv_b|out)(\|\w*)*_proj)"
    r"|\bmixer(\W*$|\.(q|k|v|o)_proj)"
)
"""Whole mixers or their projections; their norms, indexers and the router stay in 16 bit nearly everywhere."""
_LINEAR = re.compile(
    r"(linear_attn|linear_attention|\bmamba|\bmixer)(\W*$|\.(\w*\|)*(in_proj|in_proj_qkvz?|in_proj_z|out_proj)\b)"
)
_BESIDE_EXPERTS = re.compile(r"shared_expert|\bmlp(\W*$|\.([\w|]*)(gate|up|down))")
_SMALL = re.compile(
    r"head|embed|norm|router|\bgate\W*$|expert_gate|index|conv1d|bias|in_proj_(a|b|ba)\b|\b(x|dt)_proj|score"
)
"""What every engine leaves wide, or what has no weight."""
_OUTSIDE = re.compile(r"vis(ion|ual)|vit\b|image|audio|mm_|modal|projector|merge|\bmtp|nextn|eh_proj|\bdraft")
"""Towers, which are counted in 16 bit anyway, and layers of multi-token prediction, which are not loaded."""
_MANY_LAYERS = 20
_SHOWN_MAX = 4


@dataclass(frozen=True, slots=True)
class KeptParts:
    """What stays as it was, of all layers or nearly all."""

    attention: bool = False
    linear_mixers: bool = False
    """Those of layers with a constant state."""
    beside_experts: bool = False
    """Shared experts, or the MLP of layers without experts."""
    head: bool = False
    others: tuple[str, ...] = ()
    """Names with weight that are none of these: some layers, or parts of them."""


def read_kept_parts(said: Mapping[str, Any], layers: object = None) -> KeptParts:
    """`said`: a `quantization_config`; of the model's `layers` each further one is for multi-token prediction."""
    lists = [said.get(key) for key in _LIST_KEYS]
    listed = [str(name) for each in lists if isinstance(each, list | tuple) for name in each]
    names = [name for name in listed if not (isinstance(layers, int) and _layer(name) >= layers)]
    plain = [_OF_REGEX.sub("", name).replace("layers.d+", "layers.*") for name in names]
    attention, linear = (_of_all_layers(plain, pattern) for pattern in (_ATTENTION, _LINEAR))
    beside = _of_all_layers(plain, _BESIDE_EXPERTS)
    told = [
        pattern
        for pattern, kept in ((_ATTENTION, attention), (_LINEAR, linear), (_BESIDE_EXPERTS, beside))
        if kept
    ]
    others = {
        _NUMBER.sub("#", shown): shown  # one of those that differ by their layer
        for shown, name in zip(names, plain, strict=True)
        if not any(pattern.search(name) for pattern in (*told, _SMALL, _OUTSIDE))
    }
    return KeptParts(
        attention=attention,
        linear_mixers=linear,
        beside_experts=beside,
        head=any(name.endswith("head") or "lm_head" in name for name in plain),
        others=tuple(others.values()),
    )


def names_mixers(targets: Sequence[object]) -> bool:
    """Whether any of a group's targets is a mixer or a projection of one."""
    plain = [_OF_REGEX.sub("", str(target)) for target in targets]
    return any(_ATTENTION.search(name) or _LINEAR.search(name) for name in plain)


def few_layers(targets: Sequence[object]) -> bool:
    """Whether they name single layers, and not many."""
    return 0 < len(targets) < _MANY_LAYERS and all(re.search(r"\.\d+\.", str(target)) for target in targets)


def others_note(others: Sequence[str]) -> str:
    """For people."""
    more = f" and {len(others) - _SHOWN_MAX} more" if len(others) > _SHOWN_MAX else ""
    shown = ", ".join(ascii(name)[1:-1] for name in others[:_SHOWN_MAX])
    return f"left out of its quantization, but counted as if they were in it: {shown}{more}"


def _layer(name: str) -> int:
    found = re.search(r"layers\.(\d{1,6})", name)
    return int(found[1]) if found else -1


def _of_all_layers(names: Sequence[str], pattern: re.Pattern[str]) -> bool:
    """A pattern, or one entry for each of many layers; some odd layers are no rule."""
    found = [name for name in names if pattern.search(name)]
    return any("*" in name for name in found) or len(found) >= _MANY_LAYERS
