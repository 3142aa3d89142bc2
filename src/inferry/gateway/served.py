"""A deployment as the gateway sees it: names, what its engine serves, and the balancer over its replicas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from inferry.policy.routing import Balancer, PolicyName


@dataclass(slots=True)
class ServedDeployment:
    """What the gateway needs to know of a deployment."""

    name: str
    aliases: Sequence[str]
    engine: str
    simulated: bool
    upstream_model: str
    """What the engine wants as `model`."""
    routes: frozenset[str]
    asks_usage: bool
    """Ask the engine for usage in streams, and keep the answer to it from clients that did not."""
    policy: PolicyName
    balancer: Balancer = field(init=False)

    def __post_init__(self) -> None:
        self.balancer = Balancer(self.policy)
