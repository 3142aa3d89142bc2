"""A gateway between simulated engines, all in one process, with a cutting proxy before each engine: thousands of
faults in seconds, each at the very byte that a test wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
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

    async def ask(self, ask: Ask) -> tuple[Heard, list[Outcome]]:
        """What the client heard, and the outcomes that this request had: one, if all is well."""
        self.outcomes.clear()
        heard = await ask_strictly("127.0.0.1", self.port, ask)
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
    outcomes: list[Outcome] = []
    async with contextlib.AsyncExitStack() as stack:
        gateway = Gateway(
            GatewaySettings(listen="127.0.0.1:0", **settings),
            [
                ServedSpec(
                    "chat",
                    (),
                    "simulated",
                    True,
                    "chat",
                    frozenset(ROUTES),
                    True,
                    Routing(policy="round_robin"),
                    failover=failover,
                    continuation=continuation_of("simulated"),
                )
            ],
            clock=SystemClock(),
            loop=asyncio.get_running_loop(),
            on_replica_failure=lambda _id, _reason: None,
        )
        observe = gateway.on_outcome

        def on_outcome(account: Account, outcome: Outcome) -> None:
            outcomes.append(outcome)
            observe(account, outcome)

        gateway.on_outcome = on_outcome  # type: ignore[method-assign]
        for number in range(replicas):
            url = await stack.enter_async_context(running_simulated_engine(served_name="chat", itl_s=itl_s))
            port = await stack.enter_async_context(cutting_proxy(url, damages))
            gateway.apply(_view(number, port))
        server = GatewayServer(gateway, bind_sockets("127.0.0.1", 0)[0])
        serving = asyncio.get_running_loop().create_task(server.run())
        try:
            async with asyncio.timeout(5):
                while not server.started:
                    await asyncio.sleep(0.005)
            yield SmallStand(gateway, server.port, damages, outcomes)
        finally:
            server.shut_down(at_once=True)
            await asyncio.wait([serving], timeout=10)


def _view(number: int, port: int) -> ReplicaView:
    return ReplicaView(
        id=f"chat-{number}",
        deployment="chat",
        engine="simulated",
        simulated=True,
        state=ReplicaState.READY,
        endpoint=Endpoint("127.0.0.1", port),
        since_wall_s=0.0,
        restarts=0,
    )
