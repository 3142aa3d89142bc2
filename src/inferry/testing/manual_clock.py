"""A clock that stands still until a test moves it."""

from __future__ import annotations


class ManualClock:
    """A core.clock.Clock moved by hand; both readings advance together.

    Wall time starts at 2026-01-01 00:00:00 UTC unless told otherwise, so that printed times are stable.
    """

    def __init__(self, now_s: float = 0.0, wall_s: float = 1_767_225_600.0) -> None:
        self._now_s = now_s
        self._wall_s = wall_s

    def now_s(self) -> float:
        return self._now_s

    def wall_s(self) -> float:
        return self._wall_s

    def advance(self, seconds: float) -> float:
        """Move both readings `seconds` ahead; returns the new monotonic reading. Never back: ValueError."""
        if seconds < 0:
            raise ValueError(f"the monotonic clock can't go back ({seconds} s); see set_wall_s")
        self._now_s += seconds
        self._wall_s += seconds
        return self._now_s

    def set_wall_s(self, wall_s: float) -> None:
        """Set what people read, as an operator or NTP may; the monotonic reading stays."""
        self._wall_s = wall_s
