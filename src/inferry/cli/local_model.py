"""What of a model on this machine decides its speed and memory on a CPU: its architecture, its bytes, its format."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from inferry.core.errors import ConfigError
from inferry.fleet.memory_need import weights_size
from inferry.models.gguf_header import read_gguf_header, read_gguf_tensors
from inferry.planner.architecture import Architecture
from inferry.planner.host_memory import repacked_bytes
from inferry.planner.model_config import architecture_from_config
from inferry.planner.model_gguf import architecture_from_gguf


@dataclass(frozen=True, slots=True)
class LocalModel:
    arch: Architecture
    weights_bytes: int
    """Of its files."""
    format: str
    """`bf16`, or the type that most bytes of a GGUF file have, such as `q4_1`."""
    copies_bytes: int = 0
    """What llama.cpp holds a second time, in another layout."""


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
    tensors = read_gguf_tensors(path)
    arch = architecture_from_gguf(path.stem, read_gguf_header(path), tensors, source=str(path))
    size = path.stat().st_size
    by_type: Counter[str] = Counter()
    for tensor in tensors:
        by_type[tensor.stored_type.lower()] += tensor.stored_bytes
    most = by_type.most_common(1)[0][0] if by_type else "gguf"
    return LocalModel(replace(arch, stored_bytes=size), size, most, repacked_bytes(tensors))
