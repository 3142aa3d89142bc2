"""How late an event loop is: what the client cannot have measured better than."""

from __future__ import annotations

from inferry.bench.exact_timer import ExactTimer
from inferry.core.clock import SystemClock

LOOK_S = 0.005

_now_s = SystemClock.now_s


class LoopLag:
    """Looks every few milliseconds by how much it was late. On the running loop, from `begin` to `end`."""

    def __init__(self) -> None:
        self.late_s: list[float] = []
        self._due_s = 0.0
        self._timer: ExactTimer | None = None

    def begin(self) -> None:
        self._timer = ExactTimer(self._look)
        self._due_s = _now_s() + LOOK_S
        self._timer.set(self._due_s)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def _look(self) -> None:
        self._due_s = note_lateness(self.late_s, self._due_s, _now_s())
        if self._timer is not None:
            self._timer.set(self._due_s)


def note_lateness(late_s: list[float], due_s: float, now_s: float) -> float:
    """Adds to `late_s`; gives back when the next look is due.

    The looks that a long stall left out count too, each with what it would have seen: one stall of a second is 200
    late looks, not one among thousands of punctual ones.
    """
    while due_s <= now_s:
        late_s.append(now_s - due_s)
        due_s += LOOK_S
    return due_s
