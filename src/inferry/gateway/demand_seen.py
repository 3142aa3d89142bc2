"""What a scaling decision sees of all gateway processes together."""

from __future__ import annotations

from collections.abc import Container, Mapping

from inferry.gateway.demand import Demand
from inferry.gateway.snapshot import Snapshot
from inferry.policy.scaling.observation import Traffic


def traffic_of(snapshot: Snapshot, deployment: str, replicas: Container[str]) -> Traffic | None:
    """What a scaling decision sees of all gateways. `replicas`: ids of the deployment's, draining ones too.

    None while a gateway process is silent: nobody knows how many wait there.
    """
    if snapshot.silent:
        return None
    demand = snapshot.demand.get(deployment) or Demand()
    return Traffic(
        arrived=demand.arrived,
        ended=demand.ended,
        failed=demand.failed,
        prompt_tokens=demand.prompt_tokens,
        output_tokens=demand.output_tokens,
        waiting=snapshot.waiting.get(deployment, 0) + snapshot.stranded.get(deployment, 0),
        in_flight=_sum_of(snapshot.in_flight, replicas),
        ttft=demand.ttft,
        itl=demand.itl,
        e2e=demand.e2e,
    )


def _sum_of(counts: Mapping[str, int], names: Container[str]) -> int:
    return sum(count for name, count in counts.items() if name in names)
