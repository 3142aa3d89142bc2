"""The metadata at the beginning of a GGUF file: names, numbers, vocabulary, chat template; never the weights.

Layout as in ggml's docs/gguf.md, versions 2 and 3, little-endian: magic, version (u32), number of tensors (u64) and
of pairs (u64), then the pairs: a key, the type of its value (u32), the value. A string is its length in bytes (u64)
and UTF-8; an array is the type of its elements, their number (u64), and the elements. After the pairs, each tensor: its
name, the number of its dimensions (u32), their lengths (u64), its type (u32), where it begins (u64).
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

from inferry.core.errors import ConfigError
from inferry.core.tensor_info import TensorInfo
from inferry.models.ggml_types import GGML_TYPES

GgufValue = int | float | bool | str | list["GgufValue"]

_STRING, _ARRAY = 8, 9
_NUMBERS = {
    number: struct.Struct("<" + letter)
    for number, letter in {
        0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
    }.items()
}  # fmt: skip
_PAIRS_MAX = 65_536
_KEY_BYTES_MAX = 65_535
"""The specification's own bound."""
_NESTED_MAX = 4
_DIMENSIONS_MAX = 4
_TENSORS_MAX = 1_000_000


def read_gguf_header(path: Path) -> dict[str, GgufValue]:
    """All metadata of the file at `path`; some 50 ms for each 50,000 entries of vocabulary.

    Raises ConfigError when it is no GGUF file, or one that is cut or damaged.
    """
    try:
        with path.open("rb") as file:
            return _Reader(file, path).pairs()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror or error}") from error


def read_gguf_tensors(path: Path) -> tuple[TensorInfo, ...]:
    """Name, shape, type and stored bytes of each tensor of the file at `path`; of a model in several files, this one's.

    Raises ConfigError as `read_gguf_header`, and for a type that is not known.
    """
    try:
        with path.open("rb") as file:
            reader = _Reader(file, path)
            reader.pairs()
            return tuple(reader.tensor() for _ in range(reader.tensor_count))
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror or error}") from error


class _Reader:
    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._left_bytes = os.fstat(file.fileno()).st_size
        self.tensor_count = 0
        """Known once the pairs are read."""

    def pairs(self) -> dict[str, GgufValue]:
        if self._take(4) != b"GGUF":
            raise ConfigError(f"{self._path} is no GGUF file: it does not begin with 'GGUF'")
        version = self._number(4)
        if version not in (2, 3):
            raise ConfigError(
                f"{self._path} is GGUF version {version} (or big-endian); 2 and 3, little-endian, can be read"
            )
        self.tensor_count = int(self._number(10))
        count = int(self._number(10))
        if count > _PAIRS_MAX or self.tensor_count > _TENSORS_MAX:
            raise self._damaged(f"{count} keys and {self.tensor_count} tensors")
        found: dict[str, GgufValue] = {}
        for _ in range(count):
            key = self._string(_KEY_BYTES_MAX)
            found[key] = self._value(int(self._number(4)), 0)
        return found

    def tensor(self) -> TensorInfo:
        name = self._string(_KEY_BYTES_MAX)
        dimensions = int(self._number(4))
        if dimensions > _DIMENSIONS_MAX:
            raise self._damaged(f"a tensor of {dimensions} dimensions")
        shape = tuple(int(self._number(10)) for _ in range(dimensions))
        number = int(self._number(4))
        self._number(10)  # where it begins
        stored = GGML_TYPES.get(number)
        if stored is None:
            raise ConfigError(f"{self._path}: its tensor {name!a} has the type {number}, which is not known")
        blocks = math.prod(shape) // stored.block_elements
        return TensorInfo(name, shape, stored.name, blocks * stored.block_bytes)

    def _value(self, kind: int, depth: int) -> GgufValue:
        if kind == _STRING:
            return self._string(self._left_bytes)
        if kind in _NUMBERS:
            return self._number(kind)
        if kind != _ARRAY or depth == _NESTED_MAX:
            raise self._damaged(f"a value of type {kind}, {depth} deep")
        kind = int(self._number(4))
        count = int(self._number(10))
        if kind in _NUMBERS:
            size = _NUMBERS[kind].size
            return [each for (each,) in _NUMBERS[kind].iter_unpack(self._take(count * size))]
        if count > self._left_bytes // 8:  # the least that a string or an array takes
            raise self._damaged(f"an array of {count}")
        return [self._value(kind, depth + 1) for _ in range(count)]

    def _string(self, bytes_max: int) -> str:
        size = int(self._number(10))
        if size > bytes_max:
            raise self._damaged(f"a text of {size} bytes")
        # Some vocabularies hold tokens that are no whole letters.
        return self._take(size).decode("utf-8", "surrogateescape")

    def _number(self, kind: int) -> int | float | bool:
        layout = _NUMBERS[kind]
        value: int | float | bool = layout.unpack(self._take(layout.size))[0]
        return value

    def _take(self, size: int) -> bytes:
        if size > self._left_bytes:
            raise ConfigError(f"{self._path} ends in the middle of its header: fetch it again")
        self._left_bytes -= size
        return self._file.read(size)

    def _damaged(self, what: str) -> ConfigError:
        return ConfigError(f"{self._path} has a damaged header ({what}): fetch it again")
