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
        timeline.at(failure.at_s, _happen, failure, running[failure.deployment or first], timeline, rng)


def _happen(failure: Failure, service: RunningService, timeline: Timeline, rng: Random) -> None:
    """One at a replica that is not there, or does not serve, is none."""
    until_s = timeline.now_s + failure.for_s
    if failure.kind == "gateways":
        service.scaler.gateways_silent_until_s = max(service.scaler.gateways_silent_until_s, until_s)
        return
    replicas = service.replicas
    if failure.kind == "starts":
        replicas.no_starts_until_s = max(replicas.no_starts_until_s, until_s)
        return
    life = _chosen(failure.replica, list(replicas.lives.values()), rng)
    if life is None:
        return
    if failure.kind == "crash":
        replicas.crash(life)
    elif failure.kind == "freeze":
        replicas.freeze(life, failure.for_s)
    elif failure.kind == "metrics":
        life.tells_nothing_until_s = max(life.tells_nothing_until_s, until_s)
    else:
        life.replica.slow_down(failure.factor)
        timeline.at(until_s, life.replica.slow_down, 1.0)


def _chosen(name: str, lives: list[ReplicaLife], rng: Random) -> ReplicaLife | None:
    serving = [life for life in lives if life.serves]
    if name == RANDOM:
        return serving[int(rng.random() * len(serving))] if serving else None
    return next((life for life in serving if life.id == name), None)
