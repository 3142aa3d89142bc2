"""Headers of safetensors files that are damaged are told, never a traceback."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from inferry.core.errors import ConfigError
from inferry.models.model_facts_source import read_config
from inferry.models.safetensors_header import read_safetensors

OFFSETS = '{"w": {"dtype": "BF16", "shape": %s, "data_offsets": %s}}'


def file_with(tmp_path: Path, header: bytes) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def test_a_header_tells_names_and_bytes(tmp_path: Path) -> None:
    """By the offsets, not by the type."""
    (found,) = read_safetensors(file_with(tmp_path, (OFFSETS % ("[2, 3]", "[0, 12]")).encode()))
    assert (found.name, found.shape, found.stored_bytes) == ("w", (2, 3), 12)


@pytest.mark.parametrize(
    "header",
    [
        "[1]",
        "5",
        "null",
        '{"w": [1]}',
        '{"\\ud800": [1]}',
        "[" * 100_000,
        OFFSETS % ("[2, 3]", "[12, 0]"),
        OFFSETS % ("[-2]", "[0, 12]"),
        OFFSETS % ('["x"]', "[0, 12]"),
        OFFSETS % ("[2]", '["a", "b"]'),
        OFFSETS % ("[2]", "[0, NaN]"),
    ],
)
def test_a_damaged_header_is_an_error_that_can_be_printed(tmp_path: Path, header: str) -> None:
    """No object, offsets backwards, texts for sizes, nested without end."""
    with pytest.raises(ConfigError, match="damaged") as found:
        read_safetensors(file_with(tmp_path, header.encode()))
    assert str(found.value).encode()


@pytest.mark.parametrize("text", ["[" * 100_000, "[1]", '"x"', "{", "\xff"])
def test_a_config_that_is_no_object_is_an_error(tmp_path: Path, text: str) -> None:
    """Whatever JSON it is, or none."""
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"no JSON|no object"):
        read_config(path)


def test_weights_are_not_read_as_a_config(tmp_path: Path) -> None:
    """A file of many gigabytes by a slip stays on the disk."""
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match="too large"):
        read_config(path)
