"""From an outcome to its row and its day's sums. Pure, and for whatever a journal may hold."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec

from inferry.core.clock import utc_text, wall_s_of
from inferry.core.outcome import Outcome, UsageFrom
from inferry.ledger.outcome_tables import DIMENSIONS, SUMS
from inferry.ledger.prices import COST_NANO_MAX

DAY_S = 86400
TOKENS_MAX = 10**12
"""No request has so many: an engine that says so must not bring a sum out of range."""
_TEXT_CHARS_MAX = 500
_SMALL_INT_MAX = 2**31 - 1
_WALL_S_MAX = 253_402_300_799.0
"""The end of the year 9999, after which a day's name is longer."""

_SECONDS = ("received_wall_s", "duration_s", "queue_s", "ttft_s")
_COUNTS = {
    "status": _SMALL_INT_MAX,
    "attempts": _SMALL_INT_MAX,
    "resumes": _SMALL_INT_MAX,
    "prompt_tokens": TOKENS_MAX,
    "cached_tokens": TOKENS_MAX,
    "completion_tokens": TOKENS_MAX,
    "reasoning_tokens": TOKENS_MAX,
    "cost_nano": COST_NANO_MAX,
}
"""With the largest of each."""
_TEXTS = tuple(
    name
    for name in Outcome.__struct_fields__
    if name not in (*_SECONDS, *_COUNTS, "ending", "usage_from", "stream")
)


def row_of(outcome: Outcome, source: str) -> dict[str, Any]:
    """The columns. Texts without NUL, which PostgreSQL has not, and with an end; numbers within their columns."""
    row = msgspec.structs.asdict(outcome)
    for name in _TEXTS:
        value = row[name]
        if value is not None and (len(value) > _TEXT_CHARS_MAX or "\0" in value):
            value = value.replace("\0", "\ufffd")
            row[name] = value if name == "id" else value[:_TEXT_CHARS_MAX]
    for name in _SECONDS:
        value = row[name]
        if value is not None and not math.isfinite(value):
            row[name] = 0.0
    for name, most in _COUNTS.items():
        value = row[name]
        if value is not None and not 0 <= value <= most:
            row[name] = max(0, min(value, most))
    row["received_wall_s"] = max(0.0, min(row["received_wall_s"], _WALL_S_MAX))
    row["ending"], row["usage_from"], row["source"] = outcome.ending.value, outcome.usage_from.value, source
    return row


def daily_sums(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What these rows add to each day's sums, in the tables' order: writers that go the same way never deadlock."""
    sums: dict[tuple[int, str, str, str, str], dict[str, int]] = {}
    for row in rows:
        # A model that no deployment has is the client's invention, and must not make rows for ever.
        model = row["model"] if row["deployment"] else None
        day = int(row["received_wall_s"] // DAY_S)
        key = (day, row["tenant"] or "", row["key_id"] or "", row["deployment"] or "", model or "")
        total = sums.get(key)
        if total is None:
            total = sums[key] = dict.fromkeys(SUMS, 0)
        total[row["ending"]] += 1
        for name in ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "cost_nano"):
            total[name] += row[name] or 0
        if row["usage_from"] == UsageFrom.COUNTED:
            total["counted_tokens"] += row["completion_tokens"] or 0
    return [
        dict(zip(DIMENSIONS, (day_of(key[0] * DAY_S), *key[1:]), strict=True)) | sums[key]
        for key in sorted(sums)
    ]


def day_of(wall_s: float) -> str:
    """The UTC day, as 2026-01-31."""
    return utc_text(wall_s)[:10]


def day_begin_wall_s(day: str) -> float:
    """When a day as 2026-01-31 begins; ValueError if there is no such day."""
    begin_wall_s = wall_s_of(day)
    if day_of(begin_wall_s) != day:
        raise ValueError(f"there is no day {day}")
    return begin_wall_s
