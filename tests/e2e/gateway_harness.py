"""A gateway on a real socket, and upstreams whose every byte a test decides."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inferry.core.clock import SystemClock
from inferry.core.failover_settings import Failover
from inferry.core.filter_settings import Filter
from inferry.core.gateway_settings import Gateway as GatewaySettings
from inferry.core.outcome import Outcome
from inferry.core.public_names import PublicName
from inferry.core.replica import Endpoint, ReplicaState, ReplicaView
from inferry.core.request import ROUTES
from inferry.engines.continuation import continuation_of
from inferry.gateway.account import Account
from inferry.gateway.gateway import Gateway
from inferry.gateway.served import ServedSpec
from inferry.gateway.server import GatewayServer, bind_sockets
from inferry.policy.routing import PolicyName, Routing


@dataclass
class Seen:
    """One request as an upstream got it."""

    head: bytes
    body: bytes
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the gateway closed the connection."""

    @property
    def path(self) -> str:
        return self.head.split(b" ")[1].decode()

    def header(self, name: str) -> str | None:
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name.encode():
                return value.strip().decode()
        return None


Handler = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Upstream:
    """A TCP server that reads whole requests and lets `handler` write whatever it likes."""

    handler: Handler
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                seen = Seen(head, b"")
                length = int(seen.header("content-length") or 0)
                seen.body = await reader.readexactly(length)
                self.seen.append(seen)
                async with asyncio.TaskGroup() as group:
                    task = group.create_task(self._answer(seen, writer))
                    watch = group.create_task(_watch(reader, seen, task))
                    await task
                    if not seen.closed.is_set():
                        watch.cancel()
                if writer.is_closing() or seen.closed.is_set():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await self.handler(seen, writer)


async def _watch(reader: asyncio.StreamReader, seen: Seen, task: asyncio.Task[None]) -> None:
    # Peeks without consuming: the gateway sends nothing while it waits for an answer, so any read is the end.
    while not reader.at_eof():
        if reader.exception() is not None:
            break
        await asyncio.sleep(0.005)
    seen.closed.set()


@contextlib.asynccontextmanager
async def upstream(handler: Handler) -> AsyncIterator[Upstream]:
    state = Upstream(handler)
    server = await asyncio.start_server(state._serve, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for writer in state.writers:
            writer.close()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def json_answer(body: bytes, status: bytes = b"200 OK", extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b" % (
        status,
        extra,
        len(body),
        body,
    )


@dataclass
class Running:
    """A gateway that a test talks to."""

    gateway: Gateway
    server: GatewayServer
    outcomes: list[Outcome]
    failures: list[tuple[str, str]]

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def outcome(self, count: int = 1) -> Outcome:
        """The last outcome, once `count` are there."""
        async with asyncio.timeout(5):
            while len(self.outcomes) < count:
                await asyncio.sleep(0.005)
        return self.outcomes[-1]

    async def settled(self) -> None:
        """What every test must leave behind: no request under way, no reservation, no task of a request."""
        balancer = self.gateway.deployments["chat"].balancer

        def left() -> list[object]:
            held = [slot for slot in balancer.slots.values() if slot.in_flight]
            tasks = [task for task in asyncio.all_tasks() if "run_asgi" in repr(task.get_coro())]
            return [*self.gateway.active, *held, *tasks]

        async with asyncio.timeout(5):
            while left():
                await asyncio.sleep(0.005)


def view(
    port: int,
    index: int = 0,
    *,
    deployment: str = "chat",
    state: ReplicaState = ReplicaState.READY,
    base_path: str = "",
) -> ReplicaView:
    return ReplicaView(
        id=f"{deployment}-{index}",
        deployment=deployment,
        engine="openai",
        simulated=False,
        state=state,
        endpoint=Endpoint("127.0.0.1", port, base_path=base_path, headers=(("authorization", "Bearer up"),)),
        since_wall_s=0.0,
        restarts=0,
    )


@contextlib.asynccontextmanager
async def running_gateway(
    ports: Sequence[int],
    *,
    relay_in_protocol: bool = True,
    policy: PolicyName | Routing = "round_robin",
    upstream_model: str = "chat",
    asks_usage: bool = False,
    routes: frozenset[str] = frozenset(ROUTES),
    aliases: Sequence[str] = (),
    reason_needed: bool = False,
    lora_models: Mapping[str, str] | None = None,
    engine: str = "openai",
    failover: Failover | None = None,
    filters: Sequence[Filter] = (),
    more: Sequence[ServedSpec] = (),
    names: Mapping[str, PublicName] | None = None,
    **settings: Any,
) -> AsyncIterator[Running]:
    """A gateway with one deployment `chat`, whose replicas listen on `ports`.

    `reason_needed` is off, other than by default in the file: most of the streams in these tests are about bytes,
    and say as little as possible.
    """
    outcomes: list[Outcome] = []
    failures: list[tuple[str, str]] = []
    gateway = Gateway(
        GatewaySettings(listen="127.0.0.1:0", **settings),
        [
            ServedSpec(
                "chat",
                aliases,
                engine,
                False,
                upstream_model,
                routes,
                asks_usage,
                policy if isinstance(policy, Routing) else Routing(policy=policy),
                reason_needed=reason_needed,
                lora_models=lora_models or {},
                failover=failover or Failover(),
                continuation=continuation_of(engine),
                filters=filters,
            ),
            *more,
        ],
        names=names or {},
        clock=SystemClock(),
        loop=asyncio.get_running_loop(),
        on_replica_failure=lambda replica_id, reason: failures.append((replica_id, reason)),
    )
    observe = gateway.on_outcome

    def on_outcome(account: Account, outcome: Outcome) -> None:
        outcomes.append(outcome)
        observe(account, outcome)

    gateway.on_outcome = on_outcome  # type: ignore[method-assign]
    for index, port in enumerate(ports):
        gateway.apply(view(port, index))
    server = GatewayServer(gateway, bind_sockets("127.0.0.1", 0)[0], relay_in_protocol=relay_in_protocol)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.run())
        async with asyncio.timeout(5):
            while not server.started:
                await asyncio.sleep(0.005)
        running = Running(gateway, server, outcomes, failures)
        try:
            yield running
            await running.settled()
        finally:
            # Also when the test failed: a server that is only cancelled leaves its sockets behind.
            server.shut_down(at_once=True)
            await asyncio.wait([serving], timeout=10)


async def raw(port: int, data: bytes, *, until_eof: bool = True) -> bytes:
    """Send bytes, read to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(10):
            return await reader.read() if until_eof else await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


def post(path: str, body: bytes, *headers: str, version: str = "1.1", close: bool = True) -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *headers]
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + body


CHAT_BODY = b'{"model":"chat","messages":[{"role":"user","content":"hi"}]}'
CHAT_STREAM = b'{"model":"chat","stream":true,"messages":[{"role":"user","content":"hi"}]}'


def split_response(data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and decoded body of one raw response."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines[1:])}
    if headers.get("transfer-encoding") == "chunked":
        decoded = b""
        while body:
            size_text, _, body = body.partition(b"\r\n")
            size = int(size_text, 16)
            decoded += body[:size]
            body = body[size + 2 :]
        body = decoded
    return int(lines[0].split(" ")[1]), headers, body
