"""Metadata of GGUF files, whole and damaged."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from tests.unit.gateway.gguf_file import U32, gguf_bytes

from inferry.core.errors import ConfigError
from inferry.models.gguf_header import read_gguf_header

PAIRS = {
    "general.architecture": "llama",
    "n": 7,
    "u": U32(5),
    "f": 0.5,
    "yes": True,
    "names": ["a", "\u0120b", ""],
    "numbers": [U32(1), U32(2)],
    "nested": [["x"], ["y", "z"]],
}


def written(folder: Path, data: bytes) -> Path:
    path = folder / "m.gguf"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_every_kind_of_value(tmp_path: Path, version: int) -> None:
    """Numbers, switches, texts and lists, also of lists, come out as they were written; weights are not read."""
    assert read_gguf_header(written(tmp_path, gguf_bytes(PAIRS, version) + b"weights")) == PAIRS


def test_a_cut_file_is_told(tmp_path: Path) -> None:
    """Wherever the header ends too early, a ConfigError says so."""
    data = gguf_bytes(PAIRS)
    for size in range(4, len(data)):
        with pytest.raises(ConfigError, match="header"):
            read_gguf_header(written(tmp_path, data[:size]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "ends in the middle"),
        (b"PK\x03\x04 a zip file", "no GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40), "damaged"),
        (gguf_bytes({"k": "v"})[:24] + struct.pack("<Q", 2**60), "damaged"),
    ],
)
def test_what_is_no_gguf_file(tmp_path: Path, data: bytes, words: str) -> None:
    """Other files, versions and absurd sizes end in one sentence, before any memory is taken for them."""
    with pytest.raises(ConfigError, match=words):
        read_gguf_header(written(tmp_path, data))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(ConfigError, match=r"m\.gguf can't be read"):
        read_gguf_header(tmp_path / "m.gguf")


def test_random_damage_never_ends_otherwise(tmp_path: Path) -> None:
    """Flipped bytes give other metadata or a ConfigError."""
    rng = random.Random(3)
    whole = gguf_bytes(PAIRS)
    told = 0
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(4, len(data))] = rng.randrange(256)
        try:
            read_gguf_header(written(tmp_path, bytes(data)))
        except ConfigError:
            told += 1
    assert told > 100


def test_the_sample_model(sample_model: Path) -> None:
    """A real file: its vocabulary, its ids and its template."""
    header = read_gguf_header(sample_model)
    tokens = header["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    assert len(tokens) == header["llama.vocab_size"] == 49152
    assert tokens[1] == "<|im_start|>"
    assert "add_generation_prompt" in str(header["tokenizer.chat_template"])
