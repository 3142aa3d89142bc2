"""Tensors as the headers of GGUF and safetensors files tell them, whole and damaged."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from tests.unit.gateway.gguf_file import gguf_bytes

from inferry.core.errors import ConfigError
from inferry.core.tensor_info import TensorInfo
from inferry.models.gguf_header import read_gguf_tensors
from inferry.models.safetensors_header import read_safetensors, read_safetensors_folder


def gguf(folder: Path, tensors: list[tuple[str, tuple[int, ...], int]], count: int | None = None) -> Path:
    """A GGUF file with one pair and `tensors`: name, shape, number of the type."""
    pairs = gguf_bytes({"general.architecture": "llama"})
    start = pairs[:8] + struct.pack("<Q", len(tensors) if count is None else count) + pairs[16:]
    infos = b""
    for name, shape, kind in tensors:
        infos += struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", len(shape))
        infos += struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, 0)
    path = folder / "m.gguf"
    path.write_bytes(start + infos + b"\0" * 64)
    return path


def safetensors(path: Path, header: object) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


def test_stored_bytes_follow_the_type_of_each_tensor(tmp_path: Path) -> None:
    """Q4_K takes 144 bytes for 256 elements, F32 four for each."""
    found = read_gguf_tensors(gguf(tmp_path, [("a", (512, 3), 12), ("b", (5,), 0)]))
    assert found == (TensorInfo("a", (512, 3), "Q4_K", 6 * 144), TensorInfo("b", (5,), "F32", 20))
    assert found[0].elements == 1536


@pytest.mark.parametrize(
    ("tensors", "count", "words"),
    [
        ([("a", (1,), 99)], None, "type 99"),
        ([("a", (1, 1, 1, 1, 1), 0)], None, "5 dimensions"),
        ([], 2**40, "tensors"),
        ([], 9, "ends in the middle"),
    ],
)
def test_a_damaged_list_of_tensors_is_told(
    tmp_path: Path, tensors: list[tuple[str, tuple[int, ...], int]], count: int | None, words: str
) -> None:
    """Unknown types and absurd numbers end in one sentence."""
    with pytest.raises(ConfigError, match=words):
        read_gguf_tensors(gguf(tmp_path, tensors, count))


def test_the_sample_model_adds_up_to_its_file(sample_model: Path) -> None:
    """A real file: its tensors and its header are the whole file, but for some padding."""
    stored = sum(tensor.stored_bytes for tensor in read_gguf_tensors(sample_model))
    assert 0.97 < stored / sample_model.stat().st_size < 1


def test_a_folder_is_read_by_its_index(tmp_path: Path) -> None:
    """Files that the index does not name don't count; one that it names and that is missing is told."""
    entry = {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}
    safetensors(tmp_path / "one.safetensors", {"__metadata__": {"format": "pt"}, "w": entry})
    safetensors(tmp_path / "consolidated.safetensors", {"w": entry})
    assert len(read_safetensors_folder(tmp_path)) == 2
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "one.safetensors"}}))
    assert read_safetensors_folder(tmp_path) == (TensorInfo("w", (2, 3), "BF16", 12),)
    index.write_text(json.dumps({"weight_map": {"w": "two.safetensors"}}))
    with pytest.raises(ConfigError, match=r"two\.safetensors can't be read"):
        read_safetensors_folder(tmp_path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 a zip file", struct.pack("<Q", 4) + b"{,,}"])
def test_what_is_no_safetensors_file(tmp_path: Path, data: bytes) -> None:
    """Other files and cut ones end in one sentence."""
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="safetensors"):
        read_safetensors(path)


def test_a_damaged_entry_is_named(tmp_path: Path) -> None:
    """The tensor without offsets is in the sentence."""
    with pytest.raises(ConfigError, match="'w'"):
        read_safetensors(safetensors(tmp_path / "m.safetensors", {"w": {"dtype": "BF16"}}))
