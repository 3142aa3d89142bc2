"""Writes small GGUF files, for tests of those who read them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path


class U32(int):
    """An int to be written as a u32; plain ints become u64."""


def gguf_bytes(pairs: Mapping[str, object], version: int = 3) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, 0, len(pairs))
    return head + b"".join(_string(key) + _typed(value) for key, value in pairs.items())


def write_gguf(path: Path, pairs: Mapping[str, object]) -> Path:
    path.write_bytes(gguf_bytes(pairs) + b"weights")
    return path


def byte_level_pairs(
    words: Sequence[str], control: Sequence[str], pre: str = "gpt-2", **more: object
) -> dict[str, object]:
    """A byte-level vocabulary: all visible ASCII signs, the space, `words` with the merges that make them, and
    control tokens at its end."""
    tokens = [*map(chr, range(33, 127)), "\u0120", "\u010a"]
    merges: list[str] = []
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] not in tokens:
                tokens.append(word[:end])
                merges.append(f"{word[: end - 1]} {word[end - 1]}")
    types = [1] * len(tokens) + [3] * len(control)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [*tokens, *control],
        "tokenizer.ggml.token_type": [U32(each) for each in types],
        "tokenizer.ggml.merges": merges,
        **{f"tokenizer.{name}": value for name, value in more.items()},
    }


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _kind(value: object) -> int:
    for kind, number in ((bool, 7), (U32, 4), (int, 10), (float, 12), (str, 8), (list, 9)):
        if isinstance(value, kind):
            return number
    raise TypeError(value)


def _plain(value: object) -> bytes:
    match value:
        case bool():
            return struct.pack("<?", value)
        case U32():
            return struct.pack("<I", value)
        case int():
            return struct.pack("<Q", value)
        case float():
            return struct.pack("<d", value)
        case str():
            return _string(value)
        case list():
            kind = _kind(value[0]) if value else 8
            return struct.pack("<IQ", kind, len(value)) + b"".join(map(_plain, value))
    raise TypeError(value)


def _typed(value: object) -> bytes:
    return struct.pack("<I", _kind(value)) + _plain(value)
