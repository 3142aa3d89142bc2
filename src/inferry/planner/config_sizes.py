"""Which sizes a config must tell: without them there would be a plan, but of another model."""

from __future__ import annotations

from inferry.core.errors import ConfigError

from .architecture import (
    Architecture,
    Attention,
    DenseMlp,
    Experts,
    FullAttention,
    LatentAttention,
    LayerGroup,
    LinearAttention,
)
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
LAYERS_MAX = 10_000
"""More are a slip: the deepest models that are served have some 130."""
FAULTS = (
    ArithmeticError, AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError,
)  # fmt: skip
"""What reading raises where a value has another shape than any engine would take: a list for a number, a short list."""


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


def check_plausible(arch: Architecture) -> Architecture:
    """`arch` itself. Raises ConfigError for sizes with which there is nothing to plan."""
    whole = [("columns", arch.hidden), ("words in its vocabulary", arch.vocab)]
    for what, size in (*whole, *(each for group in arch.groups for each in _sizes(group))):
        if size < 1:
            raise ConfigError(f"{arch.name}: its config gives {size} {what}; at least one is needed")
    for group in arch.groups:
        if isinstance(group.mlp, Experts) and group.mlp.per_token > group.mlp.count:
            raise ConfigError(
                f"{arch.name}: its config wants {group.mlp.per_token} experts per token of {group.mlp.count}"
            )
    if not arch.groups:
        raise ConfigError(f"{arch.name}: its config gives no layers")
    if not any(_keeps(group.attention) for group in arch.groups):
        raise ConfigError(f"{arch.name}: by its config none of its layers keeps anything of a sequence")
    return arch


def _keeps(attention: Attention) -> bool:
    """Whether a layer has a cache or a state of its own."""
    match attention:
        case FullAttention(shares_kv=shared):
            return not shared
        case LinearAttention(state_elements=state, conv_elements=convolved):
            return state + convolved > 0
    return attention is not None


def _sizes(group: LayerGroup) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    match group.attention:
        case FullAttention(heads=heads, kv_heads=kv_heads, head_dim=head_dim):
            found += [
                ("attention heads", heads),
                ("heads for keys and values", kv_heads),
                ("columns per head", head_dim),
            ]
        case LatentAttention(kv_rank=rank):
            found.append(("elements per token in its latent cache", rank))
    match group.mlp:
        case DenseMlp(intermediate=width):
            found.append(("columns in an MLP", width))
        case Experts(per_token=per_token, intermediate=width):
            found += [("experts per token", per_token), ("columns in an expert", width)]
    return found


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
