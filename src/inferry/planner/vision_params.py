"""Parameters of the towers that let a model see: patches, blocks, and what joins them to the language model.

Layouts as in the modelling files of Hugging Face transformers (5.23, Apache-2.0), one function per kind of tower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .config_fields import ConfigFields


@dataclass(frozen=True, slots=True)
class VisionCount:
    params: int
    notes: tuple[str, ...] = ()


def count_vision(name: str, config: Mapping[str, Any], text_hidden: int) -> VisionCount:
    """0 for a model without a tower. Towers of unknown kind are estimated as a plain vision transformer, and said so."""
    section = config.get("vision_config")
    if not isinstance(section, Mapping) or not section:
        audio = isinstance(config.get("audio_config"), Mapping) and bool(config["audio_config"])
        return VisionCount(0, ("its audio tower is not counted",) if audio else ())
    fields = ConfigFields(f"{name} (vision_config)", section)
    kind = _kind(config, section)
    known = _TOWERS.get(kind)
    if known is not None:
        return VisionCount(known(fields, config, text_hidden))
    return _estimate(fields, kind, text_hidden)


def _kind(config: Mapping[str, Any], section: Mapping[str, Any]) -> str:
    """The outer type decides where the same tower is joined in several ways."""
    outer = str(config.get("model_type", ""))
    return outer if outer in _TOWERS else ascii(str(section.get("model_type") or outer))[1:-1]


def _linear(width_in: int, width_out: int, *, bias: bool = True) -> int:
    return width_in * width_out + (width_out if bias else 0)


def _blocks(hidden: int, intermediate: int, layers: int) -> int:
    """Plain ViT blocks: four projections, two matrices, two norms, all with biases."""
    attention = 4 * _linear(hidden, hidden)
    mlp = _linear(hidden, intermediate) + _linear(intermediate, hidden)
    return layers * (attention + mlp + 4 * hidden)


def _clip(fields: ConfigFields, config: Mapping[str, Any], text_hidden: int) -> int:
    """LLaVA: CLIP's tower and a projector of two layers."""
    hidden, patch = fields.count_or(1024, "hidden_size"), fields.count_or(14, "patch_size")
    patches = (fields.count_or(336, "image_size") // patch) ** 2
    embedding = hidden + 3 * patch * patch * hidden + (patches + 1) * hidden
    blocks = _blocks(
        hidden, fields.count_or(4096, "intermediate_size"), fields.count_or(24, "num_hidden_layers")
    )
    projector = _linear(hidden, text_hidden) + _linear(text_hidden, text_hidden)
    return embedding + blocks + 4 * hidden + projector


def _siglip_gemma3(fields: ConfigFields, config: Mapping[str, Any], text_hidden: int) -> int:
    hidden, patch = fields.count_or(1152, "hidden_size"), fields.count_or(14, "patch_size")
    patches = (fields.count_or(896, "image_size") // patch) ** 2
    embedding = 3 * patch * patch * hidden + hidden + patches * hidden
    blocks = _blocks(
        hidden, fields.count_or(4304, "intermediate_size"), fields.count_or(27, "num_hidden_layers")
    )
    return embedding + blocks + 2 * hidden + hidden * text_hidden + hidden


def _qwen2_vl(fields: ConfigFields, config: Mapping[str, Any], text_hidden: int) -> int:
    """Here `hidden_size` is the language model's and `embed_dim` the tower's."""
    hidden = fields.count_or(1280, "embed_dim")
    intermediate = fields.count_or(4, "mlp_ratio") * hidden
    merged = hidden * fields.count_or(2, "spatial_merge_size") ** 2
    blocks = _blocks(hidden, intermediate, fields.count_or(32, "depth"))
    merger = 2 * hidden + _linear(merged, merged) + _linear(merged, text_hidden)
    return _video_patches(fields, 14) * hidden + blocks + merger


def _qwen2_5_vl(fields: ConfigFields, config: Mapping[str, Any], text_hidden: int) -> int:
    hidden, intermediate = fields.count_or(1280, "hidden_size"), fields.count_or(3420, "intermediate_size")
    merged = hidden * fields.count_or(2, "spatial_merge_size") ** 2
    attention = 4 * _linear(hidden, hidden)
    mlp = 2 * _linear(hidden, intermediate) + _linear(intermediate, hidden)
    blocks = fields.count_or(32, "depth") * (attention + mlp + 2 * hidden)
    merger = hidden + _linear(merged, merged) + _linear(merged, text_hidden)
    return _video_patches(fields, 14) * hidden + blocks + merger


def _qwen3_vl(fields: ConfigFields, config: Mapping[str, Any], text_hidden: int) -> int:
    """Qwen3-VL, Qwen3.5 and later: learned positions, and a further merger for each layer that is passed on."""
    hidden, out = fields.count("hidden_size"), fields.count_or(text_hidden, "out_hidden_size")
    merged = hidden * fields.count_or(2, "spatial_merge_size") ** 2
    embedding = (_video_patches(fields, 16) + 1) * hidden
    embedding += fields.count_or(2304, "num_position_embeddings") * hidden
    blocks = _blocks(hidden, fields.count("intermediate_size"), fields.count("depth"))
    joined = _linear(merged, merged) + _linear(merged, out)
    passed_on = len(fields.get("deepstack_visual_indexes") or ())
    return embedding + blocks + 2 * hidden + joined + passed_on * (2 * merged + joined)


def _llama4(fields: ConfigFields, config: Mapping[str, Any], text_hidden: int) -> int:
    hidden, patch = fields.count_or(1408, "hidden_size"), fields.count_or(14, "patch_size")
    intermediate = fields.count_or(5632, "intermediate_size")
    patches = (fields.count_or(336, "image_size") // patch) ** 2 + 1
    blocks = _blocks(hidden, intermediate, fields.count_or(34, "num_hidden_layers"))
    wide, out = fields.count_or(4096, "projector_input_dim"), fields.count_or(4096, "projector_output_dim")
    adapter = intermediate * wide + wide * out
    projector = fields.count_or(4096, "vision_output_dim") * text_hidden
    return 3 * patch * patch * hidden + hidden + patches * hidden + 4 * hidden + blocks + adapter + projector


def _pixtral(fields: ConfigFields, config: Mapping[str, Any], text_hidden: int) -> int:
    """Gated MLPs and no biases; Mistral Small 3.1 and later merge patches, the first Pixtral does not."""
    hidden, patch = fields.count_or(1024, "hidden_size"), fields.count_or(16, "patch_size")
    intermediate = fields.count_or(4096, "intermediate_size")
    layers = fields.count_or(24, "num_hidden_layers")
    tower = 3 * patch * patch * hidden + hidden
    tower += layers * (4 * hidden * hidden + 3 * hidden * intermediate + 2 * hidden)
    if config.get("model_type") != "mistral3":
        return tower + _linear(hidden, text_hidden) + _linear(text_hidden, text_hidden)
    bias = bool(config.get("multimodal_projector_bias"))
    merge = int(config.get("spatial_merge_size") or 2)
    joined = _linear(hidden, text_hidden, bias=bias) + _linear(text_hidden, text_hidden, bias=bias)
    return tower + hidden + hidden * merge * merge * hidden + joined


def _glm4v(fields: ConfigFields, config: Mapping[str, Any], text_hidden: int) -> int:
    hidden, out = fields.count("hidden_size"), fields.count("out_hidden_size")
    wide = fields.count("intermediate_size")
    merge = fields.count_or(2, "spatial_merge_size")
    positions = (fields.count_or(336, "image_size") // fields.count_or(14, "patch_size")) ** 2
    # The width of each block's MLP is the output's, that of the merger the configured one.
    block = 4 * hidden * hidden + 3 * hidden * out + 2 * hidden
    merger = out * out + 3 * out * wide + 2 * out
    downsample = hidden * out * merge * merge + out
    embedding = (_video_patches(fields, 14) + 1 + positions) * hidden
    return embedding + fields.count("depth") * block + 2 * hidden + downsample + merger


def _kimi(fields: ConfigFields, config: Mapping[str, Any], text_hidden: int) -> int:
    hidden = fields.count_or(1152, "vt_hidden_size", "hidden_size")
    patch = fields.count_or(14, "patch_size")
    grid = fields.count_or(64, "init_pos_emb_height") * fields.count_or(64, "init_pos_emb_width")
    embedding = 3 * patch * patch * hidden + hidden + grid * hidden
    layers = fields.count_or(27, "vt_num_hidden_layers", "num_hidden_layers")
    blocks = _blocks(hidden, fields.count_or(4304, "vt_intermediate_size", "intermediate_size"), layers)
    merged = 4 * hidden
    return embedding + blocks + 4 * hidden + _linear(merged, merged) + _linear(merged, text_hidden)


def _gemma4(fields: ConfigFields, config: Mapping[str, Any], text_hidden: int) -> int:
    """Gated MLPs, norms around attention and MLP, norms of queries and keys, positions for both axes."""
    hidden, intermediate = fields.count("hidden_size"), fields.count("intermediate_size")
    head_dim = fields.count_or(72, "head_dim")
    patch = fields.count_or(16, "patch_size")
    block = 4 * hidden * hidden + 3 * hidden * intermediate + 4 * hidden + 2 * head_dim
    positions = 2 * fields.count_or(10240, "position_embedding_size") * hidden
    embedding = 3 * patch * patch * hidden + positions
    scales = 2 * hidden if fields.flag(False, "standardize") else 0
    return embedding + fields.count("num_hidden_layers") * block + scales + hidden * text_hidden


def _video_patches(fields: ConfigFields, patch: int) -> int:
    size = fields.count_or(patch, "patch_size")
    return (
        fields.count_or(3, "in_channels", "in_chans")
        * fields.count_or(2, "temporal_patch_size")
        * size
        * size
    )


def _estimate(fields: ConfigFields, kind: str, text_hidden: int) -> VisionCount:
    hidden = fields.count_or_none("hidden_size", "embed_dim", "width", "vt_hidden_size")
    layers = fields.count_or_none("num_hidden_layers", "depth", "layers", "vt_num_hidden_layers")
    if hidden is None or layers is None:
        return VisionCount(
            0, (f"its vision tower ({kind or 'no type given'}) has no sizes; it is not counted",)
        )
    intermediate = fields.count_or(4 * hidden, "intermediate_size", "vt_intermediate_size")
    guess = _blocks(hidden, intermediate, layers) + _linear(4 * hidden, text_hidden)
    return VisionCount(guess, (f"its vision tower ({kind or 'no type given'}) is estimated as a plain ViT",))


_TOWERS: Mapping[str, Callable[[ConfigFields, Mapping[str, Any], int], int]] = {
    "clip_vision_model": _clip,
    "gemma3": _siglip_gemma3,
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    **dict.fromkeys(("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "qwen3_5_vision"), _qwen3_vl),
    "llama4": _llama4,
    "pixtral": _pixtral,
    "mistral3": _pixtral,
    "glm4v": _glm4v,
    "glm4v_moe": _glm4v,
    "kimi_k25": _kimi,
    "kimi_vl": _kimi,
    "gemma4": _gemma4,
}
