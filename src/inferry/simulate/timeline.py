"""Simulated time: what happens when, in order, as fast as the machine can compute it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from math import inf


class Timeline:
    """Simulated seconds since the begin of the run, and what is still to come."""

    def __init__(self) -> None:
        self.now_s = 0.0
        # By time; at one moment, what was planned first happens first: a run is the same each time.
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._planned = 0
        self._cancelled: set[int] = set()

    def at(self, at_s: float, action: Callable[..., None], *arguments: object) -> int:
        """Do `action(*arguments)` at that time, which has not passed. Returns what `cancel` takes."""
        assert at_s >= self.now_s, f"{at_s} s has passed, it is {self.now_s} s"
        self._planned += 1
        heapq.heappush(self._events, (at_s, self._planned, action, arguments))
        return self._planned

    def cancel(self, planned: int) -> None:
        """It will not happen. Only of what has neither happened nor been cancelled."""
        self._cancelled.add(planned)

    def run(self, until_s: float = inf) -> None:
        """Let everything happen up to `until_s`, what it leads to included."""
        events, cancelled, pop = self._events, self._cancelled, heapq.heappop
        while events and events[0][0] <= until_s:
            at_s, planned, action, arguments = pop(events)
            if planned in cancelled:
                cancelled.remove(planned)
                continue
            self.now_s = at_s
            action(*arguments)
