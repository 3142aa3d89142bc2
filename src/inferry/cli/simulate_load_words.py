"""A simulation's load as it was written, and as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from inferry.simulate.arrivals import Arrival

INPUT_TOKENS, OUTPUT_TOKENS = "256", "128"
BLOCK_TOKENS = 16
"""vLLM's default; of made-up loads and journals, and of engines where nobody says another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadWords:
    """As they were written; each field is the option of its name."""

    trace: Path | None = None
    replay: Path | None = None
    since: str | None = None
    until: str | None = None
    rate: float | None = None
    arrivals: str | None = None
    burstiness: float | None = None
    ramp: str | None = None
    steps: str | None = None
    duration: str = "1h"
    input_tokens: str | None = None
    output_tokens: str | None = None
    prefix_tokens: int = 0
    prefix_groups: int = 1
    tenants: str | None = None
    share: float = 1.0
    speed: float = 1.0
    repeat: int = 1
    hours: float | None = None
    requests: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """Requests that can be had again and again, the same each time."""

    says: str
    """In words, for the report."""
    arrivals: Callable[[], Iterator[Arrival]]
    block_tokens: int | None = None
    """Of the beginnings that its prompts share; None: they share none."""
    until_s: float | None = None
    """Where it ends by itself, if that is known before."""
    begin_wall_s: float = 0.0
    """What clocks showed when it began; 0: nobody knows, and a Thursday's midnight, UTC, is taken."""
