"""A gateway without a network, and replicas that are only claimed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from inferry.core.gateway_settings import Gateway as GatewaySettings
from inferry.core.replica import Endpoint, ReplicaState, ReplicaView
from inferry.core.request import ROUTES
from inferry.gateway.gateway import Gateway
from inferry.gateway.served import ServedSpec
from inferry.policy.routing import Routing
from inferry.testing.manual_clock import ManualClock


def served(name: str, *aliases: str) -> ServedSpec:
    return ServedSpec(
        name=name,
        aliases=aliases,
        engine="openai",
        simulated=False,
        upstream_model="m",
        routes=frozenset(ROUTES),
        asks_usage=False,
        routing=Routing(policy="round_robin"),
    )


def make_gateway(loop: asyncio.AbstractEventLoop, deployments: Sequence[ServedSpec] | None = None) -> Gateway:
    return Gateway(
        GatewaySettings(),
        [served("chat", "gpt-4o")] if deployments is None else deployments,
        clock=ManualClock(),
        loop=loop,
    )


def view(
    index: int,
    state: ReplicaState,
    *,
    deployment: str = "chat",
    port: int | None = 9,
    restarts: int = 0,
    tokens_generated: int | None = None,
) -> ReplicaView:
    """Replica `index`; `port` None: it has no address yet."""
    return ReplicaView(
        id=f"{deployment}-{index}",
        deployment=deployment,
        engine="openai",
        simulated=False,
        state=state,
        endpoint=None if port is None else Endpoint("127.0.0.1", port),
        since_wall_s=100.0,
        restarts=restarts,
        tokens_generated=tokens_generated,
    )
