"""What a safetensors file says of its tensors before the weights: names, types, shapes.

Layout as in the format's own description (huggingface/safetensors, README): the length of the header (u64, little-endian),
then that much JSON, each tensor with `dtype`, `shape` and `data_offsets`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inferry.core.errors import ConfigError
from inferry.core.tensor_info import TensorInfo

_LENGTH = struct.Struct("<Q")
_HEADER_BYTES_MAX = 100_000_000
"""The format's own bound."""
_INDEX = "model.safetensors.index.json"


def read_safetensors(path: Path) -> tuple[TensorInfo, ...]:
    """Of one file. Raises ConfigError when it is none, or cut."""
    try:
        with path.open("rb") as file:
            start = file.read(_LENGTH.size)
            size = _LENGTH.unpack(start)[0] if len(start) == _LENGTH.size else 0
            if not 0 < size <= _HEADER_BYTES_MAX:
                raise ConfigError(f"{path} is no safetensors file: its header would have {size} bytes")
            header = json.loads(file.read(size))
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} has a damaged header ({error}): fetch it again") from error
    if not isinstance(header, dict):
        raise ConfigError(f"{path} has a damaged header (no object): fetch it again")
    return tensors_of(header, str(path))


def tensors_of(header: Mapping[str, Any], shown: str) -> tuple[TensorInfo, ...]:
    """Of a parsed header; `shown` names it in errors."""
    found = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            first, last = entry["data_offsets"]
            shape = tuple(entry["shape"])
            if not all(isinstance(each, int) and each >= 0 for each in (first, last - first, *shape)):
                raise ValueError("no sizes")
            found.append(TensorInfo(name, shape, str(entry["dtype"]), last - first))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{shown}: its header is damaged at {name!a}: fetch it again") from error
    return tuple(found)


def read_safetensors_folder(folder: Path) -> tuple[TensorInfo, ...]:
    """Of all files that the index names, or of all that lie there; empty if there are none.

    Raises ConfigError for a file that the index names and that is missing.
    """
    index = folder / _INDEX
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigError(f"{index} can't be read: {error}") from error
    else:
        names = sorted(path.name for path in folder.glob("*.safetensors"))
    return tuple(tensor for name in names for tensor in read_safetensors(folder / str(name)))
