"""Lets failures happen in a simulation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random

from inferry.simulate.failures import RANDOM, Failure
from inferry.simulate.service_life import ReplicaLife
from inferry.simulate.service_running import RunningService
from inferry.simulate.timeline import Timeline


def plan_failures(
    failures: Iterable[Failure],
    running: Mapping[str, RunningService],
    first: str,
    timeline: Timeline,
    seed: int,
) -> None:
    """Each at its time. Raises KeyError for a deployment that is not there."""
    rng = Random(f"{seed} failures")
    for failure in failures:
        service = running[failure.deployment or first]
        service.failures_missed += 1
        timeline.at(failure.at_s, _look, failure, service, timeline, rng)


def _look(failure: Failure, service: RunningService, timeline: Timeline, rng: Random) -> None:
    if _happens(failure, service, timeline, rng):
        service.failures_missed -= 1


def _happens(failure: Failure, service: RunningService, timeline: Timeline, rng: Random) -> bool:
    """False: it is for a replica that is not there, or does not serve."""
    until_s = timeline.now_s + failure.for_s
    if failure.kind == "gateways":
        service.scaler.gateways_silent_until_s = max(service.scaler.gateways_silent_until_s, until_s)
        return True
    replicas = service.replicas
    if failure.kind == "starts":
        replicas.no_starts_until_s = max(replicas.no_starts_until_s, until_s)
        return True
    life = _chosen(failure.replica, list(replicas.lives.values()), rng)
    if life is None:
        return False
    if failure.kind == "crash":
        replicas.crash(life)
    elif failure.kind == "freeze":
        replicas.freeze(life, failure.for_s)
    elif failure.kind == "metrics":
        life.tells_nothing_until_s = max(life.tells_nothing_until_s, until_s)
    else:
        life.slowed.append((until_s, failure.factor))
        _slow_down(life, timeline)
        timeline.at(until_s, _slow_down, life, timeline)
    return True


def _slow_down(life: ReplicaLife, timeline: Timeline) -> None:
    """As slow as the worst of what slows it now."""
    life.slowed = [each for each in life.slowed if each[0] > timeline.now_s]
    life.replica.slow_down(max((factor for _, factor in life.slowed), default=1.0))


def _chosen(name: str, lives: list[ReplicaLife], rng: Random) -> ReplicaLife | None:
    serving = [life for life in lives if life.serves]
    if name == RANDOM:
        return serving[int(rng.random() * len(serving))] if serving else None
    return next((life for life in serving if life.id == name), None)
