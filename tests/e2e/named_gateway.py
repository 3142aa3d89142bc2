"""A gateway with several deployments behind its names, for tests of splits, fallbacks and shadows."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from inferry.core.api_key import ApiKey
from inferry.core.clock import SystemClock
from inferry.core.gateway_settings import Gateway as GatewaySettings
from inferry.core.outcome import Outcome
from inferry.core.public_names import PublicName
from inferry.core.request import ROUTES
from inferry.gateway.account import Account
from inferry.gateway.gateway import Gateway
from inferry.gateway.served import ServedSpec
from inferry.gateway.server import GatewayServer, bind_sockets
from inferry.policy.routing import Routing

from .gateway_harness import SSE_HEAD, Handler, Seen, chunk, json_answer, post, raw, split_response, view

USAGE = b'"usage":{"prompt_tokens":3,"completion_tokens":2}'


def answers(text: str, *, delay_s: float = 0.0) -> Handler:
    """An upstream that says `text`, streamed if it is asked for that."""

    async def handle(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(delay_s)
        if json.loads(seen.body).get("stream"):
            piece = b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":"stop"}]}\n\n'
            last = b'data: {"choices":[],%b}\n\ndata: [DONE]\n\n' % USAGE
            writer.write(SSE_HEAD + chunk(piece % text.encode()) + chunk(last) + b"0\r\n\r\n")
            return
        body = b'{"choices":[{"index":0,"message":{"content":"%b"},"finish_reason":"stop"}],%b}'
        writer.write(json_answer(body % (text.encode(), USAGE)))

    return handle


def refuses(status: bytes) -> Handler:
    """An upstream that answers every request with an error."""

    async def handle(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(b'{"error":{"message":"no"}}', status))

    return handle


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def by(self) -> str | None:
        """The deployment that answered."""
        return self.headers.get("x-inferry-deployment")

    @property
    def text(self) -> str:
        return str(json.loads(self.body)["choices"][0]["message"]["content"])

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


@dataclass
class Named:
    """What a test talks to."""

    gateway: Gateway
    server: GatewayServer
    specs: Sequence[ServedSpec]
    outcomes: list[Outcome] = field(default_factory=list)

    async def ask(
        self, model: str = "chat", *headers: str, path: str = "/v1/chat/completions", **body: Any
    ) -> Answer:
        content = {"model": model, "messages": [{"role": "user", "content": "hi"}], **body}
        data = await raw(self.server.port, post(path, json.dumps(content).encode(), *headers))
        return Answer(*split_response(data))

    async def outcome(self, count: int = 1) -> Outcome:
        """The last outcome, once `count` are there."""
        async with asyncio.timeout(5):
            while len(self.outcomes) < count:
                await asyncio.sleep(0.005)
        assert len(self.outcomes) == count
        return self.outcomes[-1]

    async def settled(self) -> None:
        """Nothing is under way, and nothing is held, at any deployment."""

        def left() -> list[object]:
            each = self.gateway.deployments.values()
            held = [slot for one in each for slot in one.balancer.slots.values() if slot.in_flight]
            return [*self.gateway.active, *held]

        async with asyncio.timeout(5):
            while left():
                await asyncio.sleep(0.005)

    def rename(self, names: Mapping[str, PublicName]) -> None:
        """Serve by other names from now on, as after a change of the file."""
        gateway = self.gateway
        gateway.configure(gateway.settings, self.specs, {}, gateway.generation + 1, {}, names)


def spec(name: str, **changes: Any) -> ServedSpec:
    plain = ServedSpec(
        name=name,
        aliases=(),
        engine="openai",
        simulated=False,
        upstream_model=f"{name}-weights",
        routes=frozenset(ROUTES),
        asks_usage=False,
        routing=Routing(policy="round_robin"),
    )
    return replace(plain, **changes)


@contextlib.asynccontextmanager
async def named_gateway(
    ports: Mapping[str, Sequence[int]],
    names: Mapping[str, Mapping[str, Any]],
    *,
    relay_in_protocol: bool = True,
    specs: Mapping[str, Mapping[str, Any]] | None = None,
    keys: Sequence[ApiKey] = (),
    **settings: Any,
) -> AsyncIterator[Named]:
    """`ports`: of the replicas of each deployment. `names`: as in the file. `specs`: what a deployment has besides."""
    served = [spec(name, **(specs or {}).get(name, {})) for name in ports]
    gateway = Gateway(
        GatewaySettings(listen="127.0.0.1:0", auth="keys" if keys else "none", **settings),
        served,
        clock=SystemClock(),
        loop=asyncio.get_running_loop(),
        names={name: PublicName.model_validate(each) for name, each in names.items()},
    )
    gateway.callers.replace_keys(keys)
    for name, each in ports.items():
        for index, port in enumerate(each):
            gateway.apply(view(port, index, deployment=name))
    server = GatewayServer(gateway, bind_sockets("127.0.0.1", 0)[0], relay_in_protocol=relay_in_protocol)
    named = Named(gateway, server, served)
    observe = gateway.on_outcome

    def on_outcome(account: Account, outcome: Outcome) -> None:
        named.outcomes.append(outcome)
        observe(account, outcome)

    gateway.on_outcome = on_outcome  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.run())
        await server.wait_started()
        try:
            yield named
            await named.settled()
        finally:
            server.shut_down(at_once=True)
            await asyncio.wait([serving], timeout=10)
