"""What of a model on this machine decides its speed and memory on a CPU: its architecture, its bytes, its format."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from inferry.cli.model_facts import gguf_parts, read_gguf_model
from inferry.core.errors import ConfigError
from inferry.fleet.memory_need import weights_size
from inferry.models.model_facts_source import read_config_folder
from inferry.planner.architecture import Architecture
from inferry.planner.host_memory import repacked_bytes
from inferry.planner.model_config import architecture_from_config


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
    """Of a GGUF file (the first, where there are several), or a folder with config.json. Raises ConfigError for what is
    neither, or unknown."""
    if path.is_file():
        return _gguf(path)
    if not (path / "config.json").exists():
        raise ConfigError(f"{path} has no config.json: name a GGUF file or a model's folder")
    arch = architecture_from_config(path.name, read_config_folder(path), source=str(path))
    return LocalModel(arch, weights_size(path), arch.native_format)


def _gguf(path: Path) -> LocalModel:
    arch, tensors = read_gguf_model(path)
    by_type: Counter[str] = Counter()
    for tensor in tensors:
        by_type[tensor.stored_type.lower()] += tensor.stored_bytes
    most = by_type.most_common(1)[0][0] if by_type else "gguf"
    # llama.cpp maps all of a file, its words and padding too.
    size = sum(part.stat().st_size for part in gguf_parts(path))
    return LocalModel(arch, size, most, repacked_bytes(tensors))
