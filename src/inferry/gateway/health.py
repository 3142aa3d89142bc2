"""How well each deployment can serve, from the states of its replicas."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypedDict

from inferry.core.replica import ReplicaState, ReplicaView

_USABLE = (ReplicaState.READY, ReplicaState.SUSPECT)


class DeploymentHealth(TypedDict):
    status: str
    """ready, degraded (some replicas serve), down, or unloaded: it loads when it is asked for."""
    replicas: int
    ready: int


def deployments_health(
    names: Iterable[str], views: Iterable[ReplicaView], on_demand: Collection[str] = ()
) -> tuple[str, dict[str, DeploymentHealth]]:
    """The status of all together, and of each deployment in `names`. Those that load `on_demand` are as well
    without replicas as with them."""
    states: dict[str, list[ReplicaState]] = {name: [] for name in names}
    for view in views:
        if view.deployment in states and not view.standby:
            # Nobody can be sent to nowhere.
            states[view.deployment].append(ReplicaState.PENDING if view.endpoint is None else view.state)
    healths: dict[str, DeploymentHealth] = {}
    for name, each in states.items():
        ready = sum(state is ReplicaState.READY for state in each)
        if each and ready == len(each):
            status = "ready"
        else:
            status = "degraded" if any(state in _USABLE for state in each) else "down"
        if not each and name in on_demand:
            status = "unloaded"
        healths[name] = {"status": status, "replicas": len(each), "ready": ready}
    kinds = {health["status"].replace("unloaded", "ready") for health in healths.values()}
    overall = "ready" if kinds == {"ready"} else "down" if kinds == {"down"} else "degraded"
    return overall, healths
