"""Which replicas have failed a request, whether another one shall have it, and whether one is worth waiting for."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from inferry.core.replica import ReplicaState
from inferry.gateway.account import Account
from inferry.gateway.host import Host
from inferry.gateway.served import ServedDeployment
from inferry.gateway.upstream import UpstreamPool
from inferry.policy.retry import GiveUp, Retry, decide_retry

NEWS_S = 3.0
"""Until then, the fleet knows of a replica that died; and begins to start it again, or gives it up."""
_COMING = frozenset({ReplicaState.PENDING, ReplicaState.STARTING, ReplicaState.WARMING})
_SERVES = frozenset({ReplicaState.READY, ReplicaState.SUSPECT, ReplicaState.DRAINING})
_UNCERTAIN = frozenset({ReplicaState.READY, ReplicaState.SUSPECT, ReplicaState.FAILED})


def spent(tried: Mapping[str, UpstreamPool], gateway: Host) -> list[str]:
    """Replicas that failed this request and are still what they were; one that has restarted since, with another
    endpoint and so another pool, is as good as any."""
    pools = gateway.pools
    return [replica_id for replica_id, pool in tried.items() if pools.get(replica_id) is pool]


def another(
    account: Account, tried: Mapping[str, UpstreamPool], gateway: Host, *, may_wait: bool
) -> Retry | GiveUp:
    """Whether another replica shall take what the last one of `tried` did not answer. `may_wait`: for one to come."""
    deployment = account.deployment
    assert deployment is not None
    return decide_retry(
        answer_begun=account.relaying,
        attempts=account.attempts,
        attempts_max=gateway.settings.attempts_max,
        others=deployment.balancer.usable(spent(tried, gateway)),
        may_wait=may_wait,
    )


def has_ready_besides(deployment: ServedDeployment, left: Collection[str]) -> bool:
    """Whether one that is well, and not among those, could take a request."""
    return any(
        slot.state is ReplicaState.READY and not slot.barred and slot.id not in left
        for slot in deployment.balancer.slots.values()
    )


def has_died(deployment: ServedDeployment, gateway: Host, replica_id: str, pool: UpstreamPool) -> bool:
    """Whether the replica that was behind `pool` is gone, or is another one by now."""
    slot = deployment.balancer.slots.get(replica_id)
    return gateway.pools.get(replica_id) is not pool or slot is None or slot.state not in _SERVES


def in_flight(deployment: ServedDeployment) -> int:
    """At all of its replicas, from here."""
    return sum(slot.in_flight for slot in deployment.balancer.slots.values())


def is_one_coming(deployment: ServedDeployment, waited_s: float) -> bool:
    """Whether a replica may soon take requests, seen by one that finds none now and has waited so long."""
    if deployment.engine == "openai":  # those that others run are there, or not: nobody starts them again
        return False
    states = {slot.state for slot in deployment.balancer.slots.values()}
    return not states.isdisjoint(_COMING) or (waited_s < NEWS_S and not states.isdisjoint(_UNCERTAIN))
