"""Writes GGUF files of a small Llama that hold headers only, for tests that read sizes."""

from __future__ import annotations

import struct
from pathlib import Path

HIDDEN, VOCAB = 64, 128
_U32, _TEXT = 4, 8
_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8, "Q4_K": 12}
_PAIRS: dict[str, str | int] = {
    "general.architecture": "llama",
    "llama.embedding_length": HIDDEN,
    "llama.block_count": 2,
    "llama.feed_forward_length": 128,
    "llama.context_length": 512,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
}


def write_gguf(path: Path, *, kind: str = "Q8_0", tensors: int = 1, header: bool = True) -> Path:
    """`tensors` of 64 x 128 elements of type `kind`, the first one the table of tokens; without weights behind them.
    `header` False: a further part of a model, which tells nothing but its tensors."""
    pairs = _PAIRS if header else {}
    names = ["token_embd.weight" if header and not each else f"blk.{each}.x" for each in range(tensors)]
    body = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(pairs))
    for key, value in pairs.items():
        body += _text(key)
        body += (
            struct.pack("<I", _TEXT) + _text(value)
            if isinstance(value, str)
            else struct.pack("<II", _U32, value)
        )
    for name in names:
        body += _text(name) + struct.pack("<IQQIQ", 2, HIDDEN, VOCAB, _TYPES[kind], 0)
    path.write_bytes(body)
    return path


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()
