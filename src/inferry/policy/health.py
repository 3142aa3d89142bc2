"""A replica's probes pass or fail: is it still ready? Pure."""

from __future__ import annotations

from dataclasses import dataclass

from inferry.core.deployment_base import Health
from inferry.core.replica import ReplicaState

SUCCESSES_TO_RETURN = 2
"""Good probes in a row until a suspect replica is ready again: one alone may fall between two failures."""


@dataclass(frozen=True, slots=True)
class Streak:
    """Probes in a row with the same result; one of the two is 0."""

    failures: int = 0
    successes: int = 0

    def after(self, good: bool) -> Streak:
        """The streak with one more probe."""
        return Streak(successes=self.successes + 1) if good else Streak(failures=self.failures + 1)


@dataclass(frozen=True, slots=True)
class Unchanged:
    pass


@dataclass(frozen=True, slots=True)
class BecomeSuspect:
    because: str


@dataclass(frozen=True, slots=True)
class BecomeReady:
    because: str


def decide_health(
    state: ReplicaState,
    streak: Streak,
    health: Health,
    *,
    reason: str,
    reported: str | None = None,
) -> Unchanged | BecomeSuspect | BecomeReady:
    """What the last probe changes for a replica that is ready or suspect.

    `reason` is what that probe saw. `reported` is what the gateway met, if its report led to the probe: two
    witnesses are enough, and a failed probe then counts at once.
    """
    if state is ReplicaState.READY and streak.failures:
        if reported is not None:
            return BecomeSuspect(f"{reported}; and the probe says: {reason}")
        if streak.failures >= health.failures_max:
            return BecomeSuspect(f"{streak.failures} failed probes in a row: {reason}")
    if state is ReplicaState.SUSPECT and streak.successes >= SUCCESSES_TO_RETURN:
        return BecomeReady(f"{streak.successes} good probes in a row")
    return Unchanged()
