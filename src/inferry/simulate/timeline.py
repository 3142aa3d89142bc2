"""Simulated time: what happens when, in order, as fast as the machine can compute it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

Action = Callable[[], None]


@dataclass(slots=True)
class Event:
    """Something that will happen; `cancel` it while it has not."""

    at_s: float
    order: int
    action: Action | None

    def cancel(self) -> None:
        self.action = None

    def __lt__(self, other: Event) -> bool:
        # Of one moment, what was planned first happens first: a run is the same each time.
        return (self.at_s, self.order) < (other.at_s, other.order)


class Timeline:
    """Simulated seconds since the begin of the run, and what is still to come."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._events: list[Event] = []
        self._planned = 0

    def at(self, at_s: float, action: Action) -> Event:
        """Do `action` at that time, which has not passed."""
        assert at_s >= self.now_s, f"{at_s} s has passed, it is {self.now_s} s"
        self._planned += 1
        event = Event(at_s, self._planned, action)
        heapq.heappush(self._events, event)
        return event

    def run(self, until_s: float = float("inf")) -> None:
        """Let everything happen up to `until_s`, what it leads to included."""
        events = self._events
        while events and events[0].at_s <= until_s:
            event = heapq.heappop(events)
            if event.action is not None:
                self.now_s = event.at_s
                event.action()
