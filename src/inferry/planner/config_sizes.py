"""Which sizes a config must tell: without them there would be a plan, but of another model."""

from __future__ import annotations

from inferry.core.errors import ConfigError

from .attention_reading import HEAD_KEYS
from .config_fields import ConfigFields
from .mlp_reading import FOUR_TIMES, WIDTH_KEYS

HIDDEN_KEYS = ("hidden_size", "n_embd", "d_model", "dim")
LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
LAYER_LISTS = ("layers_block_type", "layer_types")
VOCAB_KEYS = ("vocab_size", "padded_vocab_size")
_MAMBA = ("mamba", "mamba2", "falcon_mamba")
_OPTIONAL = ("num_key_value_heads", "head_dim", "max_position_embeddings")
"""Which many configs leave out; what a type takes for them by default is said."""


def check_sizes(fields: ConfigFields, model_type: str, *, inner: bool) -> list[str]:
    """Raises ConfigError that names all sizes that are missing; returns notes on those that stand in.

    `inner`: the config is a section of a multimodal model's. transformers writes of such a section only what differs from
    the type's own defaults (`PretrainedConfig.to_diff_dict`), so that these are meant; of a config by itself it writes all.
    """
    missing = [names[0] for names in _needed(fields, model_type) if not fields.told(*names)]
    unknown = [name for name in missing if not inner or fields.default(name) is None]
    if unknown:
        raise ConfigError(
            f"{fields.name}: its config does not tell {_listed(unknown)}, on which its size depends. Take the config.json "
            "that its makers published, whole."
        )
    meant = [name for name in (*missing, *_OPTIONAL) if not fields.told(name) and fields.default(name)]
    if not meant:
        return []
    values = ", ".join(f"{name} {fields.default(name)}" for name in meant)
    return [f"its config leaves out what transformers takes for {model_type!r} by default: {values}"]


def _needed(fields: ConfigFields, model_type: str) -> list[tuple[str, ...]]:
    """Names of each, the usual one first."""
    needed = [HIDDEN_KEYS, (*LAYER_KEYS, *LAYER_LISTS), VOCAB_KEYS]
    if model_type in _MAMBA:
        return needed
    needed.append(HEAD_KEYS)
    told_elsewhere = fields.told("block_configs", "ffn_config", "expansion_ratio")
    return needed if told_elsewhere or model_type in FOUR_TIMES else [*needed, WIDTH_KEYS]


def _listed(names: list[str]) -> str:
    quoted = [repr(name) for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
