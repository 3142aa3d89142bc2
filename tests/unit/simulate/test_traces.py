"""Loaders of published traces: their formats, and errors that name the line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from inferry.simulate.traces import TracedRequest, TraceError, read_azure, read_mooncake

MOONCAKE = """\
{"timestamp": 27000, "input_length": 600, "output_length": 5, "hash_ids": [0, 7]}
{"timestamp": 24500, "input_length": 80, "output_length": 9, "hash_ids": [0]}
"""
AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:59:58.5000000,374,44
2023-11-16 19:00:01.2500000,396,109
"""


def test_mooncake_lines_are_requests_in_order_of_arrival(tmp_path: Path) -> None:
    """Milliseconds become seconds since the first one; packed or not."""
    plain, packed = tmp_path / "trace.jsonl", tmp_path / "trace.jsonl.gz"
    plain.write_text(MOONCAKE)
    packed.write_bytes(gzip.compress(MOONCAKE.encode()))
    expected = [TracedRequest(0.0, 80, 9, (0,)), TracedRequest(2.5, 600, 5, (0, 7))]
    assert read_mooncake(plain) == read_mooncake(packed) == expected


def test_azure_rows_are_requests(tmp_path: Path) -> None:
    """Times of day become seconds, over the hour too."""
    path = tmp_path / "trace.csv"
    path.write_text(AZURE)
    assert read_azure(path) == [TracedRequest(0.0, 374, 44), TracedRequest(2.75, 396, 109)]


@pytest.mark.parametrize("line", ["{}", "nonsense", '{"timestamp": "x"}', "[]"])
def test_a_bad_mooncake_line_is_named(tmp_path: Path, line: str) -> None:
    """File and line, not a traceback from within."""
    path = tmp_path / "trace.jsonl"
    path.write_text(MOONCAKE + line + "\n")
    with pytest.raises(TraceError, match=r"trace\.jsonl, line 3: no request of a Mooncake trace"):
        read_mooncake(path)


def test_a_bad_azure_row_is_named(tmp_path: Path) -> None:
    """The header is line 1."""
    path = tmp_path / "trace.csv"
    path.write_text(AZURE + "2023-11-16 19:00:02,many,1\n")
    with pytest.raises(TraceError, match=r"trace\.csv, line 4: no request of an Azure trace"):
        read_azure(path)
