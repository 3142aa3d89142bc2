"""Published traces of LLM services as requests of a simulation: when, how long, and which prompts begin alike.

Formats: Mooncake's (FAST'25, github.com/kvcache-ai/Mooncake) as JSON lines with `timestamp` in ms and one hash id
per 512 tokens of prompt, chained; Azure's (github.com/Azure/AzurePublicDataset, 2023) as CSV with a time and the
two lengths. Files may be compressed with gzip.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
            requests.append(
                TracedRequest(
                    entry["timestamp"] / 1000,
                    int(entry["input_length"]),
                    int(entry["output_length"]),
                    tuple(int(block) for block in entry["hash_ids"]),
                )
            )
        except (ValueError, KeyError, TypeError) as error:
            raise TraceError(f"{path}, line {number}: no request of a Mooncake trace: {error!r}") from None
    return _from_zero(requests)


def read_azure(path: Path) -> list[TracedRequest]:
    """In order of arrival; it says nothing of what prompts have in common. Raises TraceError, OSError."""
    requests = []
    for number, row in enumerate(csv.DictReader(_lines(path)), 2):
        try:
            requests.append(
                TracedRequest(
                    _seconds(row["TIMESTAMP"]), int(row["ContextTokens"]), int(row["GeneratedTokens"])
                )
            )
        except (ValueError, KeyError, TypeError) as error:
            raise TraceError(f"{path}, line {number}: no request of an Azure trace: {error!r}") from None
    return _from_zero(requests)


def _lines(path: Path) -> list[str]:
    data = path.read_bytes()
    return (gzip.decompress(data) if data.startswith(_GZIP) else data).decode().splitlines()


def _seconds(stamp: str) -> float:
    """`2023-11-16 18:15:46.6805900` as seconds within its month: both files stay within a day."""
    date, _, of_day = stamp.strip().partition(" ")
    hours, minutes, seconds = of_day.split(":")
    return int(date.split("-")[2]) * 86_400 + int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _from_zero(requests: Sequence[TracedRequest]) -> list[TracedRequest]:
    ordered = sorted(requests, key=lambda request: request.at_s)
    begin_s = ordered[0].at_s if ordered else 0.0
    return [
        TracedRequest(each.at_s - begin_s, each.prompt_tokens, each.answer_tokens, each.blocks)
        for each in ordered
    ]
