"""What happened to the number of a deployment's replicas, and what became of it: plain data for history and journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from inferry.core.replica import ReplicaState, ReplicaView
from inferry.policy.scaling.decision import Wish

_SERVES = frozenset({ReplicaState.READY, ReplicaState.SUSPECT})


class EventKind(StrEnum):
    CHANGE = "change"
    """Another number of replicas was decided; `outcome` says what became of it."""
    NOT_DONE = "not done"
    """The same, and it can't be done now: `outcome` says why. It is tried again at each look, and told once."""
    ALERT = "alert"
    """A rule that only tells began to apply."""
    ALERT_OVER = "alert over"
    BY_HAND = "by hand"
    """Somebody set the number: scaling rests."""
    AUTO = "auto"
    """Scaling goes on."""


@dataclass(slots=True)
class ScalingEvent:
    """One of them. It is told when it happens, and again, with the same `number`, when `outcome` is known."""

    number: int
    """In the life of this control process, from 1."""
    at_s: float
    """On the monotonic clock; for durations only."""
    at_wall_s: float
    deployment: str
    kind: EventKind
    was: int
    to: int
    rule: str = ""
    because: str = ""
    inputs: Mapping[str, float | None] = field(default_factory=dict)
    wishes: tuple[Wish, ...] = ()
    serving: int = 0
    coming: int = 0
    came: tuple[str, ...] = ()
    """Replicas that were started for it."""
    leaving: tuple[str, ...] = ()
    """Replicas that were sent away for it."""
    outcome: str = ""
    """In words; empty while it is under way."""
    took_s: float | None = None
    """From the decision until those that came served and those that leave had left; None: not so far, or never."""

    def follow(self, views: Iterable[ReplicaView], now_s: float) -> bool:
        """Whether its outcome has become known by what replicas there are now."""
        if self.outcome or self.kind is not EventKind.CHANGE:
            return False
        states = {view.id: view.state for view in views}
        serving = [each for each in self.came if states.get(each) in _SERVES]
        failed = [each for each in self.came if states.get(each) is ReplicaState.FAILED]
        taken_back = [
            each
            for each in self.came
            if states.get(each, ReplicaState.STOPPED) in (ReplicaState.DRAINING, ReplicaState.STOPPED)
        ]
        if len(serving) + len(failed) + len(taken_back) < len(self.came):
            return False
        if any(each in states for each in self.leaving):
            return False
        self.took_s = now_s - self.at_s
        words = [
            f"{_listed(serving)} serving" if serving else "",
            f"{_listed(failed)} failed" if failed else "",
            f"{_listed(taken_back)} left again" if taken_back else "",
            f"{_listed(self.leaving)} gone" if self.leaving else "",
        ]
        self.outcome = f"{', '.join(each for each in words if each) or 'done'} after {self.took_s:.1f} s"
        return True


def _listed(ids: Iterable[str]) -> str:
    return " ".join(ids)
