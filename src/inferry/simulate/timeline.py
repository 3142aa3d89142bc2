"""Simulated time: what happens when, in order, as fast as the machine can compute it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from math import inf
from typing import Protocol, TypeVar


class Timed(Protocol):
    """Anything that comes at a time."""

    @property
    def at_s(self) -> float: ...


T = TypeVar("T", bound=Timed)


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

    def feed(self, arrivals: Iterable[T], arrive: Callable[[T], None]) -> None:
        """Let each of `arrivals` come at its time, which don't go back; one is read when the one before has come."""
        coming = iter(arrivals)

        def come(one: T) -> None:
            follows = next(coming, None)
            if follows is not None:
                self.at(follows.at_s, come, follows)
            arrive(one)

        first = next(coming, None)
        if first is not None:
            self.at(first.at_s, come, first)
