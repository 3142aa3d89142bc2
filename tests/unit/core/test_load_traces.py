"""Loaders of published traces: their formats, and errors that name the line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from inferry.core.load_traces import (
    TracedRequest,
    TraceError,
    read_azure,
    read_burstgpt,
    read_mooncake,
    trace_format,
)

MOONCAKE = """\
{"timestamp": 27000, "input_length": 600, "output_length": 5, "hash_ids": [0, 7]}
{"timestamp": 24500, "input_length": 80, "output_length": 9, "hash_ids": [0]}
"""
AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:59:58.5000000,374,44
2023-11-16 19:00:01.2500000,396,109
"""
AZURE_2024 = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-31 23:59:59.500000+00:00,374,44
2024-06-01 00:00:00.250000+00:00,396,109
"""
BURSTGPT = """\
Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
5,a,1,ChatGPT,472,18,490,Conversation log
45,b,2,ChatGPT,1087,0,1087,API log
118.5,c,3,GPT-4,417,276,693,Conversation log
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


def test_azure_times_may_cross_months(tmp_path: Path) -> None:
    """As those of 2024 do, which name their time zone."""
    path = tmp_path / "trace.csv"
    path.write_text(AZURE_2024)
    assert read_azure(path) == [TracedRequest(0.0, 374, 44), TracedRequest(0.75, 396, 109)]


def test_burstgpt_rows_are_requests(tmp_path: Path) -> None:
    """Whatever columns are between; what failed, and so has no answer, is left out."""
    path = tmp_path / "trace.csv"
    path.write_text(BURSTGPT)
    assert read_burstgpt(path) == [TracedRequest(0.0, 472, 18), TracedRequest(113.5, 417, 276)]


@pytest.mark.parametrize(
    ("text", "name"),
    [(MOONCAKE, "mooncake"), (AZURE, "azure"), (AZURE_2024, "azure"), (BURSTGPT, "burstgpt")],
)
def test_the_first_line_tells_the_format(tmp_path: Path, text: str, name: str) -> None:
    """A user need not say which it is."""
    path = tmp_path / "trace"
    path.write_text("\ufeff" + text, encoding="utf-8")
    assert trace_format(path) == name


@pytest.mark.parametrize("data", [b"", b"time,tokens\n1,2\n", b"\x1f\x8bno", b"\xff\xfe"])
def test_what_is_no_trace_is_said(tmp_path: Path, data: bytes) -> None:
    """Neither of the formats, broken gzip, no text: an error that names the file."""
    path = tmp_path / "trace"
    path.write_bytes(data)
    with pytest.raises(TraceError, match="trace"):
        trace_format(path)


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


def test_empty_lines_of_a_csv_are_nothing(tmp_path: Path) -> None:
    """Between the rows and at the end; the lines after them keep their numbers."""
    path = tmp_path / "trace.csv"
    path.write_text(AZURE.replace("44\n", "44\n\n") + "\n\n")
    assert read_azure(path) == [TracedRequest(0.0, 374, 44), TracedRequest(2.75, 396, 109)]
    path.write_text(AZURE + "\nnothing\n")
    with pytest.raises(TraceError, match="line 5: no request"):
        read_azure(path)


@pytest.mark.parametrize(
    ("time", "after_s"),
    [("2023-11-16 8:05:46.5", 46.5), ("2023-11-16 08:05:60.25+00:00", 60.25), ("2023-11-16T8:6:1Z", 61.0)],
)
def test_azure_times_may_be_written_loosely(tmp_path: Path, time: str, after_s: float) -> None:
    """An hour without its leading zero, and a second 60."""
    path = tmp_path / "trace.csv"
    path.write_text(f"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 08:05:00,1,2\n{time},3,4\n")
    assert read_azure(path) == [TracedRequest(0.0, 1, 2), TracedRequest(after_s, 3, 4)]


@pytest.mark.parametrize(
    "time", ["2023-11-16 8:05:61", "2023-11-16 24:1:00", "2023-13-16 8:05:00", "8:05:00"]
)
def test_azure_times_that_are_none_are_named(tmp_path: Path, time: str) -> None:
    """Loose is not anything."""
    path = tmp_path / "trace.csv"
    path.write_text(AZURE + f"{time},3,4\n")
    with pytest.raises(TraceError, match=r"trace\.csv, line 4: no request of an Azure trace"):
        read_azure(path)


@pytest.mark.parametrize("tokens", ["-5,4", "5,-4"])
def test_tokens_below_zero_are_named(tmp_path: Path, tokens: str) -> None:
    """A broken line is not a short prompt."""
    path = tmp_path / "trace.csv"
    path.write_text(AZURE + f"2023-11-16 08:05:00,{tokens}\n")
    with pytest.raises(TraceError, match=r"trace\.csv, line 4: .*tokens in and"):
        read_azure(path)


def test_what_csv_can_not_read_is_named(tmp_path: Path) -> None:
    """A field past the reader's limit is the file's fault, with its line."""
    path = tmp_path / "trace.csv"
    path.write_text(AZURE + "a" * 200_000 + ",4,5\n")
    with pytest.raises(TraceError, match=r"trace\.csv, line 4: no CSV: field larger than field limit"):
        read_azure(path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    """Of a file that was said to be of a format."""
    path = tmp_path / "trace.csv"
    path.write_text(AZURE)
    with pytest.raises(TraceError, match=r"line 1: a BurstGPT trace has a column 'Timestamp'"):
        read_burstgpt(path)
