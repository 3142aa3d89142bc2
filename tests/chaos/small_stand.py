"""A gateway between simulated engines, all in one process, with a cutting proxy before each engine: thousands of
faults in seconds, each at the very byte that a test wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from inferry.core.clock import SystemClock
from inferry.core.failover_settings import Failover
from inferry.core.gateway_settings import Gateway as GatewaySettings
from inferry.core.outcome import Outcome
from inferry.core.replica import Endpoint, ReplicaState, ReplicaView
from inferry.core.request import ROUTES
from inferry.engines.continuation import continuation_of
from inferry.gateway.account import Account
from inferry.gateway.gateway import Gateway
from inferry.gateway.served import ServedSpec
from inferry.gateway.server import GatewayServer, bind_sockets
from inferry.policy.routing import Routing
from inferry.testing.simulated_engine import running_simulated_engine

from .cutting_proxy import Damages, cutting_proxy
from .strict_client import Ask, Heard, ask_strictly

FAILOVER = Failover(load_factor_max=10)
"""Nearly each request fails in these tests."""


@dataclass(slots=True)
class SmallStand:
    """Ask it; what the proxies do to the next answers is in `damages`."""

    gateway: Gateway
    port: int
    damages: Damages
    outcomes: list[Outcome]

    async def ask(
        self, ask: Ask, on_event: Callable[[Heard], None] = lambda heard: None
    ) -> tuple[Heard, list[Outcome]]:
        """What the client heard, and the outcomes that this request had: one, if all is well."""
        self.outcomes.clear()
        heard = await ask_strictly("127.0.0.1", self.port, ask, on_event)
        async with asyncio.timeout(5):
            while self.gateway.active:
                await asyncio.sleep(0.001)
        return heard, list(self.outcomes)

    async def ask_all(self, asks: Sequence[Ask]) -> list[Heard]:
        """Side by side."""
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask_strictly("127.0.0.1", self.port, ask)) for ask in asks]
        return [each.result() for each in asked]


@contextlib.asynccontextmanager
async def small_stand(
    failover: Failover = FAILOVER, *, replicas: int = 2, itl_s: float = 0.0, **settings: Any
) -> AsyncIterator[SmallStand]:
    """Replicas answer at once, unless told otherwise; `settings` are those of the gateway."""
    damages = Damages()
    async with contextlib.AsyncExitStack() as stack:
        endpoints = []
        for _ in range(replicas):
            url = await stack.enter_async_context(running_simulated_engine(served_name="chat", itl_s=itl_s))
            port = await stack.enter_async_context(cutting_proxy(url, damages))
            endpoints.append(Endpoint("127.0.0.1", port))
        stand = await stack.enter_async_context(
            gateway_over("simulated", "chat", endpoints, failover, **settings)
        )
        stand.damages = damages
        yield stand


@contextlib.asynccontextmanager
async def gateway_over(
    engine: str, model: str, endpoints: Sequence[Endpoint], failover: Failover = FAILOVER, **settings: Any
) -> AsyncIterator[SmallStand]:
    """A gateway whose deployment `chat` has these replicas, `chat-0` and so on: `model` at `engine`s, in turn."""
    outcomes: list[Outcome] = []
    spec = ServedSpec(
        "chat",
        (),
        engine,
        engine == "simulated",
        model,
        frozenset(ROUTES),
        True,
        Routing(policy="round_robin"),
        failover=failover,
        continuation=continuation_of(engine),
    )
    gateway = Gateway(
        GatewaySettings(listen="127.0.0.1:0", **settings),
        [spec],
        clock=SystemClock(),
        loop=asyncio.get_running_loop(),
        on_replica_failure=lambda _id, _reason: None,
    )
    observe = gateway.on_outcome

    def on_outcome(account: Account, outcome: Outcome) -> None:
        outcomes.append(outcome)
        observe(account, outcome)

    gateway.on_outcome = on_outcome  # type: ignore[method-assign]
    for number, endpoint in enumerate(endpoints):
        gateway.apply(view_of(engine, number, endpoint))
    server = GatewayServer(gateway, bind_sockets("127.0.0.1", 0)[0])
    serving = asyncio.get_running_loop().create_task(server.run())
    try:
        async with asyncio.timeout(5):
            while not server.started:
                await asyncio.sleep(0.005)
        yield SmallStand(gateway, server.port, Damages(), outcomes)
    finally:
        server.shut_down(at_once=True)
        await asyncio.wait([serving], timeout=10)


def view_of(engine: str, number: int, endpoint: Endpoint, restarts: int = 0) -> ReplicaView:
    """One that takes requests."""
    return ReplicaView(
        id=f"chat-{number}",
        deployment="chat",
        engine=engine,
        simulated=engine == "simulated",
        state=ReplicaState.READY,
        endpoint=endpoint,
        since_wall_s=0.0,
        restarts=restarts,
    )
