"""New replicas serve beside old ones: go on with replacing, wait, or put all back?

a new one ended, or was given up                         RollBack
more requests fail at the new ones than at the old ones  RollBack, as soon as that is beyond doubt
all new ones were ready for as long as wanted            GoOn
they still are not, PATIENCE_S later                     RollBack
else                                                     Wait
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from inferry.core.replica import ReplicaState

PATIENCE_S = 30.0
"""Beyond what is wanted, for replicas that are suspect in between."""
FAILURES_MIN = 3
"""Fewer say nothing: a connection may break anywhere."""
MARGIN = 0.01
"""Of the failure ratio: a new version that fails one request in a hundred more is not worse."""
Z = 2.58
"""Standard deviations that a doubt must be worth, 99.5 %, one-sided: it is asked anew at every look."""


@dataclass(frozen=True, slots=True)
class Served:
    """What gateways counted at some replicas: attempts, whether or not the client noticed."""

    requests: int = 0
    failures: int = 0

    def __add__(self, other: Served) -> Served:
        return Served(self.requests + other.requests, self.failures + other.failures)

    def since(self, before: Served) -> Served:
        return Served(self.requests - before.requests, self.failures - before.failures)

    @property
    def ratio(self) -> float:
        """Of failures; 0 where nothing was asked."""
        return min(self.failures / self.requests, 1.0) if self.requests > 0 else 0.0

    def __str__(self) -> str:
        return f"{self.failures} of {self.requests} requests"


@dataclass(frozen=True, slots=True)
class NewReplica:
    """A replica of the new version, at one look."""

    id: str
    state: ReplicaState
    restarts: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    because: str


@dataclass(frozen=True, slots=True)
class GoOn:
    because: str


@dataclass(frozen=True, slots=True)
class RollBack:
    because: str


def judge_rollout(
    new: Sequence[NewReplica],
    *,
    served_new: Served,
    served_old: Served,
    watched_s: float,
    ready_s: float,
    wanted_s: float,
) -> Wait | GoOn | RollBack:
    """`watched_s`: since the new ones became ready for the first time; `ready_s`: how long all of them have been
    ready at a stretch; `wanted_s`: how long they must be. What was served counts from the rollout's begin."""
    for replica in new:
        if replica.restarts > 0 or replica.state in (ReplicaState.FAILED, ReplicaState.PENDING):
            said = f": {replica.message}" if replica.message else ""
            return RollBack(f"{replica.id} ended after it had been ready{said}")
    if (worse := _why_worse(served_new, served_old)) is not None:
        return RollBack(worse)
    not_ready = [replica for replica in new if replica.state is not ReplicaState.READY]
    if not not_ready and ready_s >= wanted_s:
        return GoOn(f"ready for {wanted_s:g} s; failed: {served_new}, of the old ones {served_old}")
    if watched_s >= wanted_s + PATIENCE_S:
        shown = ", ".join(f"{replica.id} is {replica.state.value}" for replica in not_ready)
        return RollBack(f"not ready for {wanted_s:g} s at a stretch" + (f": {shown}" if shown else ""))
    return Wait(f"ready for {ready_s:.0f} of {wanted_s:g} s")


def _why_worse(new: Served, old: Served) -> str | None:
    if new.failures < FAILURES_MIN or _at_least(new) <= old.ratio + MARGIN:
        return None
    return f"{new} failed at the new version, and {old} at the old one"


def _at_least(served: Served) -> float:
    """The lowest failure ratio that fits what was seen: Wilson's score interval (J. Am. Stat. Assoc. 22, 1927).
    3 of 3 give 0.31, 3 of 300 give 0.0024."""
    n, ratio = max(served.requests, served.failures), served.ratio
    middle = ratio + Z * Z / (2 * n)
    spread = Z * sqrt(ratio * (1 - ratio) / n + Z * Z / (4 * n * n))
    return (middle - spread) / (1 + Z * Z / n)
