"""What a scaling decision sees, put together from what replicas, engines and gateways told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from inferry.core.clock import week_minute
from inferry.core.replica import ReplicaLoad, ReplicaState, ReplicaView
from inferry.core.scaling_settings import Scaling
from inferry.policy.scaling.observation import Observation, ReplicaReading, Traffic

_SERVES = frozenset({ReplicaState.READY, ReplicaState.SUSPECT})
_COMES = frozenset({ReplicaState.PENDING, ReplicaState.STARTING, ReplicaState.WARMING})


@dataclass(frozen=True, slots=True)
class Seen:
    """Of one deployment, at one look."""

    now_s: float
    wall_s: float
    wanted: int
    replicas: Iterable[tuple[ReplicaView, ReplicaLoad | None]]
    """All of the deployment's."""
    traffic: Traffic | None
    start_s: float | None
    failing: str
    engines_tell: bool
    """Whether these engines have a page of metrics."""


def observe(seen: Seen, scaling: Scaling) -> Observation:
    """Replicas that are kept in reserve or were drained by hand are none of it."""
    counted = [(view, load) for view, load in seen.replicas if not (view.standby or view.drained)]
    zones = dict.fromkeys(entry.timezone for entry in scaling.schedule)
    return Observation(
        now_s=seen.now_s,
        wanted=seen.wanted,
        serving=tuple(_reading(view.id, load) for view, load in counted if view.state in _SERVES),
        coming=sum(view.state in _COMES for view, _ in counted),
        traffic=seen.traffic,
        week_minutes=_week_minutes(zones, seen.wall_s),
        start_s=seen.start_s,
        failing=seen.failing,
        engines_tell=seen.engines_tell,
    )


def _reading(replica_id: str, load: ReplicaLoad | None) -> ReplicaReading:
    if load is None:
        return ReplicaReading(replica_id)
    return ReplicaReading(
        replica_id,
        read_s=load.read_s,
        running=load.running,
        waiting=load.waiting,
        kv_cache_use=load.kv_cache_use,
        gpu_use=load.gpu_use,
        gpu_memory_use=load.gpu_memory_use,
        own=load.own,
    )


def _week_minutes(zones: Iterable[str], wall_s: float) -> Mapping[str, int]:
    """Zones that this machine does not know are left out."""
    found = {zone: week_minute(wall_s, zone) for zone in zones}
    return {zone: minute for zone, minute in found.items() if minute is not None}
