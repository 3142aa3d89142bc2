"""How late an event loop is and how busy its process: what the client cannot have measured better than.

Both are kept second by second. A client that waits for one last answer has nothing to do, and that it does nothing well
must not hide how it did with its load: lag and CPU are those of the seconds with load.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from inferry.bench.exact_timer import ExactTimer
from inferry.core.clock import SystemClock

LOOK_S = 0.005
SECOND_S = 1.0
FEW = 0.25
"""Of the most requests that were ever under way: with fewer than that, answers that still come are a rest."""

_now_s = SystemClock.now_s


class Load(Protocol):
    """What the process does."""

    sends: int
    """Of requests, since its beginning; `reads` the same."""
    reads: int

    @property
    def under_way(self) -> int: ...


class Totals(NamedTuple):
    """At one moment, since the process began."""

    at_s: float
    cpu_s: float
    sends: int
    reads: int
    under_way: int


class Second(Struct, frozen=True, kw_only=True):
    """About a second of a run; longer where the loop stood still."""

    late_s: Sequence[float]
    """By how much each look was late."""
    wall_s: float
    cpu_s: float
    sends: int
    reads: int
    under_way: int
    """At its beginning or its end, whichever was more."""


class LoopLag:
    """Looks every few milliseconds by how much it was late. On the running loop, from `begin` to `end`."""

    def __init__(self, load: Load) -> None:
        self.seconds: list[Second] = []
        self._load = load
        self._late_s: list[float] = []
        self._due_s = 0.0
        self._timer: ExactTimer | None = None
        self._began = self._totals()

    def begin(self) -> None:
        self._timer = ExactTimer(self._look)
        self._began = self._totals()
        self._due_s = self._began.at_s + LOOK_S
        self._timer.set(self._due_s)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None
            note_lateness(self._late_s, self._due_s, _now_s())
            self._end_second()

    def _look(self) -> None:
        now_s = _now_s()
        # After a stall, what came meanwhile may not have been read yet: it belongs to the same second as the stall.
        if now_s - self._began.at_s >= SECOND_S and now_s - self._due_s < LOOK_S:
            self._end_second()
        self._due_s = note_lateness(self._late_s, self._due_s, now_s)
        if self._timer is not None:
            self._timer.set(self._due_s)

    def _end_second(self) -> None:
        before, now = self._began, self._totals()
        self.seconds.append(
            Second(
                late_s=self._late_s,
                wall_s=now.at_s - before.at_s,
                cpu_s=now.cpu_s - before.cpu_s,
                sends=now.sends - before.sends,
                reads=now.reads - before.reads,
                under_way=max(now.under_way, before.under_way),
            )
        )
        self._late_s = []
        self._began = now

    def _totals(self) -> Totals:
        used = resource.getrusage(resource.RUSAGE_SELF)
        load = self._load
        return Totals(_now_s(), used.ru_utime + used.ru_stime, load.sends, load.reads, load.under_way)


def with_load(seconds: Sequence[Second]) -> list[Second]:
    """Those in which requests were sent, or answers came while many were under way; all, if that is none."""
    many = FEW * max((each.under_way for each in seconds), default=0)
    loaded = [each for each in seconds if each.sends or (each.reads and each.under_way >= many)]
    return loaded or list(seconds)


def with_times(seconds: Sequence[Second]) -> list[Second]:
    """Those in which anything happened whose time is in a record."""
    return [each for each in seconds if each.sends or each.reads]


def note_lateness(late_s: list[float], due_s: float, now_s: float) -> float:
    """Adds to `late_s`; gives back when the next look is due.

    The looks that a long stall left out count too, each with what it would have seen: one stall of a second is 200
    late looks, not one among thousands of punctual ones.
    """
    while due_s <= now_s:
        late_s.append(now_s - due_s)
        due_s += LOOK_S
    return due_s
