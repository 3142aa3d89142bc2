"""How much a vision tower looks at for each token that the language model gets: what its pass takes follows that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

USUAL_MERGE = 2
"""Patches are merged two by two in most towers (Qwen2-VL and later, Mistral 3, GLM-4V, Kimi-VL, InternVL, Llama 4)."""

_ONE_TO_ONE = ("llava", "pixtral")
_POOLED = {"gemma4": 9.0}
"""By pooling over 3 x 3 patches."""


def patches_per_token(config: Mapping[str, Any]) -> float:
    """Gemma 3: (896 / 14)^2 patches of an image for 256 tokens: 16. Qwen2-VL: 2 x 2. LLaVA: 1. 0 without a tower."""
    section = config.get("vision_config")
    if not isinstance(section, Mapping) or not section:
        return 0.0
    kind = str(config.get("model_type", ""))
    tokens = config.get("mm_tokens_per_image")
    if tokens:
        side = int(section.get("image_size") or 896) // int(section.get("patch_size") or 14)
        return side * side / int(tokens)
    merge = section.get("spatial_merge_size") or config.get("spatial_merge_size")
    if merge:
        return float(int(merge) ** 2)
    if kind in _ONE_TO_ONE:
        return 1.0
    return _POOLED.get(kind, float(USUAL_MERGE**2))


def tower_hidden(config: Mapping[str, Any]) -> int:
    """The tower's own width; 0 where it is not told. Qwen2-VL calls it `embed_dim`, its `hidden_size` is the model's."""
    section = config.get("vision_config")
    if not isinstance(section, Mapping):
        return 0
    for key in ("embed_dim", "vt_hidden_size", "hidden_size", "width"):
        found = section.get(key)
        if isinstance(found, int):
            return found
    return 0


def tower_complexity(config: Mapping[str, Any]) -> int:
    """Layers x width squared by the keys that SGLang looks for (server_args.py, adjust_mem_fraction_for_vlm): 24 layers
    and 1,024 where a tower calls them otherwise, as Qwen2.5-VL does with its `depth`. 0 without a tower."""
    section = config.get("vision_config")
    if not isinstance(section, Mapping) or not section:
        return 0
    layers, width = section.get("num_hidden_layers"), section.get("hidden_size")
    return (layers if isinstance(layers, int) else 24) * (width if isinstance(width, int) else 1024) ** 2
