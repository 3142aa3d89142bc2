"""How figures are written in reasons, so that an operator can hold them against the file."""

from __future__ import annotations


def told(number: float) -> str:
    """About three digits, without a needless end: 0.873, 12.5, 1840."""
    size = abs(number)
    text = f"{number:.0f}" if size >= 100 else f"{number:.1f}" if size >= 10 else f"{number:.3g}"
    return text.removesuffix(".0")


def seconds(duration_s: float) -> str:
    """`23 s`, `0.5 s`."""
    return f"{told(duration_s)} s"


def replicas(count: int) -> str:
    """`1 replica`, `2 replicas`."""
    return "1 replica" if count == 1 else f"{count} replicas"
