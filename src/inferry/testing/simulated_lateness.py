"""How well a simulated engine keeps up with its model's time, and how busy it was of late."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_BUSY_OVER_S = 1.0
_NOTE_EVERY_S = 0.05


@dataclass(slots=True)
class Lateness:
    """Steps are told when the machine gets to it. What is late is caught up with; too late, and time is given up."""

    steps: int = 0
    sum_s: float = 0.0
    most_s: float = 0.0
    given_up_s: float = 0.0
    """By so much the model's time stood still, since the machine was too slow, or the process stopped."""

    def observe(self, late_s: float) -> None:
        self.steps += 1
        self.sum_s += late_s
        self.most_s = max(self.most_s, late_s)


class BusyShare:
    """The share of the last second in which it computed, from readings of how long it has computed in all."""

    def __init__(self) -> None:
        self._noted: deque[tuple[float, float]] = deque()

    def note(self, now_s: float, busy_s: float) -> None:
        """A reading. Those that lie closer than 50 ms are thinned out."""
        noted = self._noted
        if len(noted) > 1 and now_s - noted[-2][0] < _NOTE_EVERY_S:
            noted.pop()
        noted.append((now_s, busy_s))
        while len(noted) > 1 and noted[1][0] <= now_s - _BUSY_OVER_S:
            noted.popleft()

    def share(self, now_s: float, busy_s: float) -> float:
        """0 to 1, now that it has computed for `busy_s`. Between two readings it is as if evenly spread."""
        self.note(now_s, busy_s)
        begin_s = now_s - _BUSY_OVER_S
        (at_s, before_s), *later = self._noted
        if at_s < begin_s and later:
            next_s, next_busy_s = later[0]
            before_s += (next_busy_s - before_s) * (begin_s - at_s) / (next_s - at_s)
        return min(max((busy_s - before_s) / _BUSY_OVER_S, 0.0), 1.0)
