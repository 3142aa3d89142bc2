"""One deployment that is scaled: its decider, what it saw and decided, and when it is asked next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from inferry.core.scaling_settings import Scaling
from inferry.policy.scaling.decision import Autoscaler, ScalingDecision
from inferry.policy.scaling.observation import Observation

SEEN_KEPT = 400
"""Looks that are kept to try other rules on: an hour, with the default of one in 10 s."""


@dataclass(frozen=True, slots=True)
class ScalerState:
    """How the scaling of one deployment stands."""

    deployment: str
    scaling: Scaling
    wanted: int
    """Replicas now; 0: its model is not loaded."""
    by_hand: int | None
    """The number that somebody set: scaling rests. None: nobody did."""
    leader: str
    """Who decides, where that is another process; empty: this one does."""
    seen: Observation | None
    """At the last look."""
    decision: ScalingDecision | None
    """At the last look."""
    not_done: str
    """Why the last decision can't be carried out now; empty: it was, or it changed nothing."""
    next_look_s: float
    """On the clock of `seen.now_s`."""
    simulated: bool = False
    """Whether its engine is."""


class Watch:
    """Mutable; owned by the scaler's one task."""

    def __init__(self, name: str, scaling: Scaling, make: Callable[[], Autoscaler], now_s: float) -> None:
        self.name = name
        self.scaling = scaling
        self.due_s = now_s
        self.seen: deque[Observation] = deque(maxlen=SEEN_KEPT)
        self.decision: ScalingDecision | None = None
        self.not_done = ""
        self.simulated = False
        """Whether its engine is."""
        self.engines_tell = False
        """Whether its engines have a page of metrics."""
        self.by_hand: int | None = None
        self.wanted = 0
        """Replicas at the last look."""
        self.alerts: dict[str, str] = {}
        """Rules that apply now and only tell, with the reason."""
        self._make = make
        self._policy = make()

    def change(self, scaling: Scaling, make: Callable[[], Autoscaler], now_s: float) -> None:
        """Other settings: it begins anew, with what was seen so far kept for trying rules on."""
        self.scaling, self._make, self.due_s = scaling, make, now_s
        self.begin_anew()

    def begin_anew(self) -> None:
        """What it remembers is none of this world: a number by hand held, or another process decided."""
        self._policy = self._make()
        self.decision, self.not_done = None, ""

    def decide(self, seen: Observation) -> ScalingDecision:
        """What it says to this."""
        self.seen.append(seen)
        self.decision = self._policy.decide(seen)
        return self.decision

    def plan_next(self, now_s: float) -> None:
        """On its beat; of beats that passed unused, none is made up for."""
        every_s = self._policy.every_s
        self.due_s += every_s
        if self.due_s <= now_s:
            self.due_s = now_s + every_s
