"""What of a model on this machine the planner needs for a CPU: its architecture, its bytes, its format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inferry.core.errors import ConfigError
from inferry.fleet.memory_need import weights_size
from inferry.models.gguf_header import read_gguf_header
from inferry.planner.architecture import Architecture
from inferry.planner.model_config import architecture_from_config

_GGUF_FIELDS = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
}
_FILE_TYPES = {
    0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1", 10: "q2_k", 14: "q4_k", 15: "q4_k",
    16: "q5_k", 17: "q5_k", 18: "q6_k", 32: "bf16", 38: "mxfp4",
}  # fmt: skip
"""`general.file_type`: llama.h's llama_ftype, the mixes under the name of their main type."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    arch: Architecture
    weights_bytes: int
    format: str
    """`bf16`, or GGUF's main type such as `q4_1`."""


def read_local_model(path: Path) -> LocalModel:
    """Of a GGUF file, or a folder with config.json. Raises ConfigError for what is neither, or unknown."""
    if path.is_file():
        return _gguf(path)
    try:
        config = json.loads((path / "config.json").read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"{path} has no config.json: name a GGUF file or a model's folder") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}/config.json can't be read: {error}") from error
    arch = architecture_from_config(path.name, config, source=str(path))
    return LocalModel(arch, weights_size(path), arch.native_format)


def _gguf(path: Path) -> LocalModel:
    header = read_gguf_header(path)
    size = path.stat().st_size
    family = str(header.get("general.architecture", ""))
    config = _config_of(header, family)
    arch = architecture_from_config(path.stem, config, source=str(path))
    kind = header.get("general.file_type")
    label = _FILE_TYPES.get(kind, "gguf") if isinstance(kind, int) else "gguf"
    return LocalModel(replace(arch, stored_bytes=size, native_format="gguf"), size, label)


def _config_of(header: Mapping[str, Any], family: str) -> dict[str, Any]:
    config: dict[str, Any] = {"model_type": family, "tie_word_embeddings": True}
    for ours, theirs in _GGUF_FIELDS.items():
        if (value := header.get(f"{family}.{ours}")) is not None:
            config[theirs] = value
    tokens = header.get("tokenizer.ggml.tokens")
    if isinstance(tokens, list):
        config.setdefault("vocab_size", len(tokens))
    return config
