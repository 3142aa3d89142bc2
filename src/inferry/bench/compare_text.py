"""A comparison for people, as lines of text."""

from __future__ import annotations

import math

from inferry.bench.compare import Comparison, Difference


def text(comparison: Comparison) -> str:
    """What differs in the workloads first, then a line per figure, then what to beware of."""
    lines = [f"Different workloads: {each}" for each in comparison.unlike]
    rows = [("", "A", "B", "change", "B - A, 95 %", ""), *(_row(each) for each in comparison.differences)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(row[1:5], widths[1:5], strict=True)),
            row[5],
        ]
        lines.append("  ".join(cells).rstrip())
    lines += [f"Note: {each}." for each in comparison.cautions]
    return "\n".join(lines)


def _row(each: Difference) -> tuple[str, str, str, str, str, str]:
    change = "" if each.change is None else f"{each.change:+.1%}"
    between = "" if each.low is each.high is None else f"{_end(each.low)} to {_end(each.high)}"
    return each.figure, _number(each.a), _number(each.b), change, between, each.word


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if math.isfinite(value) else "failed"


def _end(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"
