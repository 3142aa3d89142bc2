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


def row_of(outcome: Outcome, source: str) -> dict[str, Any]:
    """The columns. Texts without NUL, which PostgreSQL has not, and with an end; numbers within their columns."""
    row: dict[str, Any] = {"source": source}
    for name, value in msgspec.structs.asdict(outcome).items():
        if isinstance(value, str):  # enums too
            value = str(value).replace("\0", "\ufffd")
            value = value if name == "id" else value[:_TEXT_CHARS_MAX]
        elif isinstance(value, float):
            value = value if math.isfinite(value) else 0.0
        elif isinstance(value, int) and not isinstance(value, bool):
            value = max(0, min(value, _bound(name)))
        row[name] = value
    row["received_wall_s"] = max(0.0, min(row["received_wall_s"], _WALL_S_MAX))
    return row


def daily_sums(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What these rows add to each day's sums, in the tables' order: writers that go the same way never deadlock."""
    sums: dict[tuple[str, ...], dict[str, int]] = {}
    for row in rows:
        # A model that no deployment has is the client's invention, and must not make rows for ever.
        model = row["model"] if row["deployment"] else None
        names = (row["tenant"], row["key_id"], row["deployment"], model)
        key = (day_of(row["received_wall_s"]), *(name or "" for name in names))
        total = sums.setdefault(key, dict.fromkeys(SUMS, 0))
        total[row["ending"]] += 1
        for name in ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "cost_nano"):
            total[name] += row[name] or 0
        if row["usage_from"] == UsageFrom.COUNTED:
            total["counted_tokens"] += row["completion_tokens"] or 0
    return [dict(zip(DIMENSIONS, key, strict=True)) | sums[key] for key in sorted(sums)]


def day_of(wall_s: float) -> str:
    """The UTC day, as 2026-01-31."""
    return utc_text(wall_s)[:10]


def day_begin_wall_s(day: str) -> float:
    """When a day as 2026-01-31 begins; ValueError if there is no such day."""
    begin_wall_s = wall_s_of(day)
    if day_of(begin_wall_s) != day:
        raise ValueError(f"there is no day {day}")
    return begin_wall_s


def _bound(name: str) -> int:
    if name.endswith("_tokens"):
        return TOKENS_MAX
    return COST_NANO_MAX if name == "cost_nano" else _SMALL_INT_MAX
