"""How far the replacement of a deployment's replicas is, for people: plain data, kept after the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class RolloutPhase(StrEnum):
    STARTING = "starting"
    """New replicas come up."""
    CANARY = "canary"
    """The first new replica is compared with the old ones."""
    SETTLING = "settling"
    """New replicas must stay ready for a while."""
    REPLACING = "replacing"
    """Old replicas finish what they have, and end."""
    ROLLING_BACK = "rolling_back"
    DONE = "done"
    ROLLED_BACK = "rolled_back"
    STUCK = "stuck"
    """It could be taken back in part only."""


ENDED = frozenset({RolloutPhase.DONE, RolloutPhase.ROLLED_BACK, RolloutPhase.STUCK})


@dataclass(slots=True)
class RolloutProgress:
    """Owned by the rollout that moves it."""

    deployment: str
    reason: str
    """`the file has changed`, `restart of chat-1`, ..."""
    began_wall_s: float
    total: int
    """Replicas that the new version is to have."""
    phase: RolloutPhase = RolloutPhase.STARTING
    replaced: int = 0
    because: str = ""
    """What the last step rested on; at the end, why it was taken back."""
    new: tuple[str, ...] = ()
    """Replicas of the new version."""
    ended_wall_s: float | None = None
    steps: list[str] = field(default_factory=list)
    """What was done, one line each."""
    undo_wanted: bool = False
    """Somebody wants it taken back."""

    @property
    def is_over(self) -> bool:
        return self.phase in ENDED
