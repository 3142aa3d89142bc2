"""What goes wrong in a simulated service, and when: written down, or drawn by a seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

FailureKind = Literal["crash", "freeze", "slow", "metrics", "gateways", "starts"]
RANDOM = "random"


@dataclass(frozen=True, slots=True)
class Failure:
    """
    crash     its engine ends: what it had goes on elsewhere or is lost, and it is started again
    freeze    it does nothing for `for_s`; the fleet finds out, and kills it where that takes too long
    slow      its steps take `factor` times as long for `for_s`
    metrics   its engine and its GPU tell nothing for `for_s`
    gateways  nothing is heard of the gateways' counts for `for_s`; of the whole deployment
    starts    no replica comes up for `for_s`: starts end in an error; of the whole deployment
    """

    at_s: float
    kind: FailureKind = "crash"
    replica: str = RANDOM
    """A replica's id, or `random`: one of those that serve, drawn by the run's seed."""
    for_s: float = 30.0
    deployment: str = ""
    """Empty: the first one."""
    factor: float = 3.0


@dataclass(frozen=True, slots=True)
class Crashes:
    """Of every replica that serves, at random: Poisson's, so that a fleet that grows crashes more often. The same seed
    draws the same for a replica's nth life, whatever else happens."""

    per_hour: float
    """Of one replica, above 0."""
    seed: str

    def after_s(self, replica_id: str, life: int) -> float:
        """From when it serves until it crashes, if nothing else ends it before."""
        return Random(f"{self.seed} crashes {replica_id} {life}").expovariate(self.per_hour / 3600)
