"""What every accuracy benchmark of the planner gives back: figures with targets, a table, and what was left out and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `target` is the most it may be, or with `at_least` the least; None: told, not judged."""

    name: str
    value: float
    unit: str
    rows: int
    target: float | None = None
    at_least: bool = False

    @property
    def reached(self) -> bool:
        if self.target is None:
            return True
        return self.value >= self.target if self.at_least else self.value <= self.target

    def line(self) -> str:
        """For people: `KV tokens, median error: 1.2 % of 27 rows (at most 2 %: reached)`."""
        text = f"{self.name}: {self.value:.3g} {self.unit} of {self.rows} rows"
        if self.target is None:
            return text
        bound = "at least" if self.at_least else "at most"
        return f"{text} ({bound} {self.target:g} {self.unit}: {'reached' if self.reached else 'MISSED'})"


@dataclass(frozen=True, slots=True)
class LeftOut:
    row: str
    why: str


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one file. `table` has one mapping per scored row, all with the same keys."""

    about: str
    figures: tuple[Figure, ...]
    table: tuple[dict[str, Any], ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def reached(self) -> bool:
        return all(figure.reached for figure in self.figures)

    def as_json(self) -> dict[str, Any]:
        figures = [asdict(figure) | {"reached": figure.reached} for figure in self.figures]
        return asdict(self) | {"figures": figures, "reached": self.reached}


def quantile(values: Sequence[float], share: float) -> float:
    """By linear interpolation between the two nearest; NaN of none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def median(values: Sequence[float]) -> float:
    return quantile(values, 0.5)


def as_markdown(table: Sequence[dict[str, Any]]) -> str:
    """A table for a page; numbers with as many digits as they tell."""
    if not table:
        return ""
    heads = list(table[0])
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    lines += [" | ".join(_cell(row[head]) for head in heads) for row in table]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"
