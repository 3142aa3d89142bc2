"""An engine's timing, and what it rests on: every simulation says that of its figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from inferry.planner.answers import Performance
from inferry.planner.load import Load
from inferry.simulate.timing import EngineTiming

Source = Literal["planner", "calibration", "bench", "file", "settings"]
"""The planner's law of GPUs; its law of this machine's CPU, as calibrated; a bench; figures by hand; a simulated engine's
own settings."""


@dataclass(frozen=True, slots=True)
class KnownTiming:
    timing: EngineTiming
    source: Source
    says: str
    """In words, with the device or the file."""
    doubts: tuple[str, ...] = ()
    """How far off it may be, and what is assumed."""
    gpus: int = 0
    """Of one replica; 0: it runs on a CPU, or nobody knows."""
    said: frozenset[str] = frozenset()
    """Figures that a file says by hand, by their names."""
    price_per_gpu_hour: float | None = None
    price_says: str = ""
    performance: Callable[[Load], Performance] | None = None
    """The planner's, of one replica: what production asks for what it carries. None: it has no words for it."""
