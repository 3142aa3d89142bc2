"""What goes wrong in a simulated service, and when: written down, or drawn by a seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def random_failures(
    per_replica_hour: float,
    replicas: int,
    end_s: float,
    *,
    seed: int,
    kinds: Sequence[FailureKind] = ("crash",),
    for_s: float = 30.0,
    deployment: str = "",
) -> Iterator[Failure]:
    """Poisson's, `per_replica_hour` for each of about `replicas`."""
    rng = Random(seed)
    per_s = per_replica_hour * replicas / 3600
    at_s = rng.expovariate(per_s) if per_s > 0 else end_s
    while at_s < end_s:
        yield Failure(at_s, kinds[int(rng.random() * len(kinds))], for_s=for_s, deployment=deployment)
        at_s += rng.expovariate(per_s)
