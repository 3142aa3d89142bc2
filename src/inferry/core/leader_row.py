"""The row that names who decides for a fleet: as it is, and as somebody wants it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeaderRow:
    """As it stands in the store."""

    holder: str
    """Empty: it was given back."""
    term: int
    """Grows with each new leader: what one decides later than another can be told by it."""
    beat: int


@dataclass(frozen=True, slots=True)
class LeaderWrite:
    """Replace `expected` (None: no row) by `row`, or do nothing if the row is another one by now."""

    expected: LeaderRow | None
    row: LeaderRow
