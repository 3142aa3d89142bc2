"""A comparison as a person reads it in the terminal."""

from __future__ import annotations

import math

from inferry.bench.compare import Comparison, Difference

_CELL = 12


def text(comparison: Comparison, name_a: str = "A", name_b: str = "B") -> str:
    """A line per figure, then what to think of it."""
    wide = max(len(each.figure) for each in comparison.differences) + 2
    heads = ("A", "B", "change", "at least", "at most")
    lines = [] if (name_a, name_b) == ("A", "B") else [f"A: {name_a}   B: {name_b}"]
    lines += [" " * wide + "".join(f"{head:>{_CELL}}" for head in heads)]
    lines += [
        f"{each.figure:<{wide}}" + "".join(f"{cell:>{_CELL}}" for cell in _cells(each)) + f"  {each.word}"
        for each in comparison.differences
    ]
    lines.append("")
    lines += [f"Not the same workload: {words}" for words in comparison.unlike]
    lines += [f"Beware: {words}" for words in comparison.cautions]
    lines.append(_sentence(comparison, name_a, name_b))
    return "\n".join(lines)


def _cells(each: Difference) -> tuple[str, ...]:
    change = "-" if each.change is None else f"{each.change:+.1%}"
    return _figure(each.a), _figure(each.b), change, _signed(each.low), _signed(each.high)


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if math.isfinite(value) else "failed"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3g}"


def _sentence(comparison: Comparison, name_a: str, name_b: str) -> str:
    if comparison.invalid:
        names = " and ".join({"A": name_a, "B": name_b}[side] for side in comparison.invalid)
        are = "is" if len(comparison.invalid) == 1 else "are"
        return f"{names} {are} INVALID, so nobody can say whether {name_b} differs from {name_a}."
    if comparison.worse and comparison.better:
        return f"{name_b} is better than {name_a} by {', '.join(comparison.better)}, and worse by {', '.join(comparison.worse)}."
    if comparison.worse:
        return f"{name_b} is WORSE than {name_a} by {', '.join(comparison.worse)}."
    if comparison.better:
        return f"{name_b} is better than {name_a} by {', '.join(comparison.better)}."
    return f"There is no evidence that {name_b} differs from {name_a} by an amount that matters."
