"""Published traces of LLM services as requests: when, how long, and which prompts begin alike.

Formats: Mooncake's (FAST'25, github.com/kvcache-ai/Mooncake) as JSON lines with `timestamp` in ms and one hash id
per 512 tokens of prompt, chained; Azure's (github.com/Azure/AzurePublicDataset, 2023 and 2024) as CSV with a time
and the two lengths; BurstGPT's (github.com/HPMLL/BurstGPT) as CSV with seconds and the two lengths. Files may be
compressed with gzip.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inferry.core.clock import wall_s_of

TraceFormat = Literal["mooncake", "burstgpt", "azure"]

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """One line of a trace. `at_s` counts from the trace's first request."""

    at_s: float
    prompt_tokens: int
    answer_tokens: int
    blocks: tuple[int, ...] = ()


class TraceError(ValueError):
    """A trace's file is not what it should be; the text names file, line and cause."""


def read_mooncake(path: Path) -> list[TracedRequest]:
    """In order of arrival. Raises TraceError, OSError."""
    requests = []
    for number, line in enumerate(_lines(path), 1):
        try:
            entry = json.loads(line)
            request = TracedRequest(
                entry["timestamp"] / 1000,
                int(entry["input_length"]),
                int(entry["output_length"]),
                tuple(int(block) for block in entry["hash_ids"]),
            )
            requests.append(_sound(request))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise TraceError(f"{path}, line {number}: no request of a Mooncake trace: {error!r}") from None
    return _from_zero(requests)


def read_azure(path: Path) -> list[TracedRequest]:
    """In order of arrival; it says nothing of what prompts have in common. Raises TraceError, OSError."""
    return _from_csv(path, "an Azure", _AZURE, _azure_row)


def read_burstgpt(path: Path) -> list[TracedRequest]:
    """In order of arrival, without the requests that failed: they have 0 response tokens. Nothing is said of what
    prompts have in common. Raises TraceError, OSError."""
    requests = _from_csv(path, "a BurstGPT", _BURSTGPT, _burstgpt_row)
    return _from_zero([each for each in requests if each.answer_tokens])


def trace_format(path: Path) -> TraceFormat:
    """By the first line. Raises TraceError if it is of none, OSError."""
    first = next(iter(_lines(path)), "")
    if first.startswith("{"):
        return "mooncake"
    columns = {name.strip() for name in first.split(",")}
    if columns.issuperset(_AZURE):
        return "azure"
    if columns.issuperset(_BURSTGPT):
        return "burstgpt"
    raise TraceError(
        f"{path}, line 1: neither a Mooncake trace (JSON lines) nor one of Azure ({', '.join(_AZURE)}) or BurstGPT "
        f"({', '.join(_BURSTGPT)}): {first[:80]!r}"
    )


_AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_BURSTGPT = ("Timestamp", "Request tokens", "Response tokens")


_LOOSE_TIME = re.compile(
    r"(\d{4})-(\d\d?)-(\d\d?)[ T](\d|[01]\d|2[0-3]):([0-5]?\d):((?:[0-5]?\d|60)(?:\.\d*)?)(?:Z|\+00:00)?",
    re.ASCII,
)
"""Also without leading zeros, and with a second 60: a leap second, or one that somebody rounded."""


def _azure_row(row: dict[str, str]) -> TracedRequest:
    at_s = _azure_wall_s(row["TIMESTAMP"].strip())
    return TracedRequest(at_s, int(row["ContextTokens"]), int(row["GeneratedTokens"]))


def _azure_wall_s(text: str) -> float:
    try:
        return wall_s_of(text)
    except ValueError:
        loose = _LOOSE_TIME.fullmatch(text)
        if loose is None:
            raise
    year, month, day, hours, minutes, seconds = loose.groups()
    midnight_s = wall_s_of(f"{year}-{month:0>2}-{day:0>2}")
    return midnight_s + int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _burstgpt_row(row: dict[str, str]) -> TracedRequest:
    return TracedRequest(float(row["Timestamp"]), int(row["Request tokens"]), int(row["Response tokens"]))


def _sound(request: TracedRequest) -> TracedRequest:
    """Raises ValueError for a time that never comes, or tokens below 0."""
    if not math.isfinite(request.at_s):
        raise ValueError(f"its time is {request.at_s}")
    if request.prompt_tokens < 0 or request.answer_tokens < 0:
        raise ValueError(f"it has {request.prompt_tokens} tokens in and {request.answer_tokens} out")
    return request


def _from_csv(
    path: Path, whose: str, columns: Sequence[str], read: Callable[[dict[str, str]], TracedRequest]
) -> list[TracedRequest]:
    requests = []
    rows = _csv_rows(path)
    head_number, names = next(rows, (1, []))
    head = [name.strip() for name in names]
    if missing := [name for name in columns if name not in head]:
        raise TraceError(f"{path}, line {head_number}: {whose} trace has a column '{missing[0]}'")
    for number, row in rows:
        try:
            requests.append(_sound(read(dict(zip(head, row, strict=False)))))
        except (ValueError, KeyError) as error:
            raise TraceError(f"{path}, line {number}: no request of {whose} trace: {error!r}") from None
    return _from_zero(requests)


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """With the number of their lines, from 1; without empty ones."""
    reader = csv.reader(_lines(path))
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise TraceError(f"{path}, line {reader.line_num}: no CSV: {error}") from None


def _lines(path: Path) -> list[str]:
    data = path.read_bytes()
    try:
        return (gzip.decompress(data) if data.startswith(_GZIP) else data).decode("utf-8-sig").splitlines()
    except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise TraceError(f"{path} is no text: {error}") from None


def _from_zero(requests: Sequence[TracedRequest]) -> list[TracedRequest]:
    ordered = sorted(requests, key=lambda request: request.at_s)
    begin_s = ordered[0].at_s if ordered else 0.0
    return [
        TracedRequest(each.at_s - begin_s, each.prompt_tokens, each.answer_tokens, each.blocks)
        for each in ordered
    ]
