"""What keeps a number from going up and down in turns: stabilization, cooldown, and so many replicas in so long.

Stabilization is Kubernetes' HPA's (`stabilizationWindowSeconds`): of all that was wished within the window, the least
holds upwards and the most downwards. Unlike there, a window that is not full yet holds, so that a controller that was
just started changes nothing that it knows nothing about.
https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#stabilization-window
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from inferry.core.scaling_settings import ScalingMove
from inferry.policy.scaling.figures import seconds
from inferry.policy.scaling.patience import left_s, slack_s
from inferry.policy.scaling.vote import amount_of

_CHANGES_MAX = 100
"""Changes remembered per direction and `per_s`; closer ones are taken for one."""


@dataclass(frozen=True, slots=True)
class Allowed:
    to: int
    because: str = ""
    """What held it back, and for how long still; empty where nothing did."""


class Steady:
    """Of one direction: `sign` is 1 for up, -1 for down."""

    def __init__(self, move: ScalingMove, sign: int, every_s: float = 0.0) -> None:
        """`every_s`: between two looks."""
        self._move = move
        self._sign = sign
        self._every_s = every_s
        self._began_s: float | None = None
        self._looks = 0
        self._wished: deque[tuple[float, int]] = deque()
        """When, and how far in this direction; only those that no later one undercuts, so never more than there are
        different numbers."""
        self._changes: deque[tuple[float, int]] = deque()

    def begin_anew(self) -> None:
        """What was wished before a gap in the looks says nothing."""
        self._began_s, self._looks = None, 0
        self._wished.clear()

    def wished(self, now_s: float, number: int) -> None:
        """What all rules together wish at this look, however far they go."""
        if self._began_s is None:
            self._began_s = now_s
        self._looks += 1
        far = self._sign * number
        while self._wished and self._wished[-1][1] >= far:
            self._wished.pop()
        self._wished.append((now_s, far))
        # Of the difference, so that this look's own wish never goes: on a real clock, a moment rounded may be later.
        keep_s = self._move.stabilize_s + slack_s(self._every_s)
        while now_s - self._wished[0][0] > keep_s:
            self._wished.popleft()

    def changed(self, now_s: float, by: int) -> None:
        """So many replicas were added or removed; `by` is positive."""
        if self._changes and now_s - self._changes[-1][0] < self._move.per_s / _CHANGES_MAX:
            by += self._changes.pop()[1]
        self._changes.append((now_s, by))
        while len(self._changes) > 1 and not self._left_s(now_s, self._changes[0][0], self._move.per_s):
            self._changes.popleft()

    def allow(self, now_s: float, wanted: int, to: int) -> Allowed:
        """How far it may go now from `wanted` towards `to`."""
        notes: list[str] = []
        for check in (self._stabilized, self._cooled, self._bounded):
            allowed = check(now_s, wanted, to)
            notes += [allowed.because] if allowed.because else []
            to = allowed.to
            if to == wanted:
                break
        return Allowed(to, "; ".join(notes))

    def _stabilized(self, now_s: float, wanted: int, to: int) -> Allowed:
        window_s = self._move.stabilize_s
        left = self._left_s(now_s, now_s if self._began_s is None else self._began_s, window_s)
        if left:
            return Allowed(
                wanted, f"held: {self._name}.stabilize_s, {seconds(left)} left since the first look"
            )
        if self._looks < 2 and self._sign < 0:
            return Allowed(wanted, "held: the first look removes none")
        far, aim = self._wished[0][1], self._sign * to
        if far >= aim:
            return Allowed(to)
        held = wanted if far <= self._sign * wanted else self._sign * far
        last_s = max(at_s for at_s, each in self._wished if each < aim)
        left = self._left_s(now_s, last_s, window_s)
        until = f"{seconds(left)} left" if left else "until the next look"
        return Allowed(held, f"held at {held}: {self._name}.stabilize_s, {until}")

    def _cooled(self, now_s: float, wanted: int, to: int) -> Allowed:
        if not self._changes:
            return Allowed(to)
        left = self._left_s(now_s, self._changes[-1][0], self._move.cooldown_s)
        if not left:
            return Allowed(to)
        return Allowed(wanted, f"held: {self._name}.cooldown_s, {seconds(left)} left")

    def _bounded(self, now_s: float, wanted: int, to: int) -> Allowed:
        most, per_s = self._move.most, self._move.per_s
        if most is None:
            return Allowed(to)
        recent = [(at_s, by) for at_s, by in self._changes if self._left_s(now_s, at_s, per_s)]
        done = sum(by for _, by in recent)
        allowed = amount_of(most, max(wanted - self._sign * done, 1)) - done
        if allowed >= abs(to - wanted):
            return Allowed(to)
        note = f"{self._name}.most: {most} in {seconds(per_s)}"
        if allowed <= 0:
            left = seconds(self._left_s(now_s, recent[0][0], per_s))
            return Allowed(wanted, f"held: {note}, {left} left")
        return Allowed(wanted + self._sign * allowed, f"{note}, so not {to} at once")

    def _left_s(self, now_s: float, since_s: float, for_s: float) -> float:
        return left_s(for_s, now_s - since_s, self._every_s)

    @property
    def _name(self) -> str:
        return "up" if self._sign > 0 else "down"
