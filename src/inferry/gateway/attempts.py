"""Which replicas have failed a request, and whether another one shall have it."""

from __future__ import annotations

from collections.abc import Mapping

from inferry.gateway.account import Account
from inferry.gateway.host import Host
from inferry.gateway.upstream import UpstreamPool
from inferry.policy.retry import GiveUp, Retry, decide_retry


def spent(tried: Mapping[str, UpstreamPool], gateway: Host) -> list[str]:
    """Replicas that failed this request and are still what they were; one that has restarted since, with another
    endpoint and so another pool, is as good as any."""
    pools = gateway.pools
    return [replica_id for replica_id, pool in tried.items() if pools.get(replica_id) is pool]


def another(account: Account, tried: Mapping[str, UpstreamPool], gateway: Host) -> Retry | GiveUp:
    """Whether another replica shall take what the last one of `tried` did not answer."""
    deployment = account.deployment
    assert deployment is not None
    return decide_retry(
        answer_begun=account.relaying,
        attempts=account.attempts,
        attempts_max=gateway.settings.attempts_max,
        others=deployment.balancer.usable(spent(tried, gateway)),
    )
