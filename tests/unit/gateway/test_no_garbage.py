"""What a request leaves behind. One cycle per request cost 13 % of the gateway's CPU, in the collector."""

from __future__ import annotations

import asyncio
import gc
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from inferry.core.api_key import ApiKey
from inferry.core.gateway_settings import Gateway as GatewaySettings
from inferry.core.leases import Return, Wish
from inferry.core.limits import Limits
from inferry.core.replica import Endpoint, ReplicaState
from inferry.gateway.admission import BankStore, LeaseStore, OnGrants
from inferry.gateway.exchange import Exchange
from inferry.gateway.gateway import Gateway
from inferry.gateway.protocol import InferenceProtocol
from inferry.gateway.upstream import UpstreamConnection
from inferry.ledger.key_text import PREFIX_CHARS
from inferry.ledger.request_log import RequestLog
from inferry.policy.lease_bank import LeaseBank
from inferry.testing.manual_clock import ManualClock

from .stand import served, view

REQUESTS = 2000
OURS = ("inferry.", "httptools.")
KEY = "inf-" + "a" * 12 + "b" * 43 + "cccccc"
BODY = b'{"model":"chat","messages":[{"role":"user","content":"hello"}]}'
USAGE = b'"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}'
PLAIN = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],' + USAGE + b"}"
STREAM = b'data: {"choices":[{"delta":{"content":"hi"},"finish_reason":"stop"}],' + USAGE + b"}\n\n"


HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\nauthorization: Bearer %b\r\n\r\n"
)
REQUEST = HEAD % (len(BODY), KEY.encode()) + BODY


def answer(kind: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
    return head % (kind, len(body)) + body


class Wire:
    """A transport that ends here."""

    def __init__(self) -> None:
        self.statuses: set[bytes] = set()
        self.on_write: Callable[[], None] = lambda: None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else None

    def write(self, data: bytes) -> None:
        self.statuses.add(data[:12])
        self.on_write()

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is open."""


class LaterBank:
    """A bank in another process: it answers when this one gets around to reading it, or never."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, answers: bool) -> None:
        self._loop = loop
        self._answers = answers
        self._store = BankStore(LeaseBank(), ManualClock())
        self.asked = 0

    def exchange(self, wishes: Sequence[Wish], returns: Sequence[Return], on_grants: OnGrants) -> None:
        self.asked += bool(wishes)
        if self._answers:
            self._loop.call_soon(self._store.exchange, wishes, returns, on_grants)


def busy_gateway(
    loop: asyncio.AbstractEventLoop,
    folder: Path,
    leases: LeaseStore | None = None,
    requests_in_flight: int = 100,
) -> Gateway:
    """With keys, limits, routing and a journal on."""
    limits = Limits(
        requests_per_minute=10**6,
        tokens_per_minute=10**9,
        requests_in_flight=requests_in_flight,
        tokens_per_day=10**12,
    )
    gateway = Gateway(
        GatewaySettings(auth="keys", key_limits=limits),
        [served("chat")],
        clock=ManualClock(),
        loop=loop,
        leases=leases,
        request_log=RequestLog(folder, "g"),
    )
    digest = hashlib.sha256(KEY.encode()).digest()
    gateway.callers.replace_keys([ApiKey("key_1", KEY[:PREFIX_CHARS], digest, "t", "n")])
    gateway.apply(view(0, ReplicaState.READY))
    gateway.apply(view(1, ReplicaState.READY))
    return gateway


async def _no_app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("every request here is relayed")


def connect_client(gateway: Gateway) -> tuple[InferenceProtocol, Wire]:
    config = uvicorn.Config(_no_app, interface="asgi3", log_config=None, ws="none")
    config.load()
    protocol, wire = InferenceProtocol(config, ServerState(), {}, gateway.loop, gateway=gateway), Wire()
    protocol.connection_made(wire)  # type: ignore[arg-type]
    return protocol, wire


def connect_upstream(gateway: Gateway, reply: bytes) -> None:
    """One open connection to each replica, which answers at once."""
    for pool in gateway.pools.values():
        connection, wire = UpstreamConnection(pool), Wire()
        connection.connection_made(wire)  # type: ignore[arg-type]
        wire.on_write = lambda connection=connection: connection.data_received(reply)  # type: ignore[misc]
        connection.idle_since_s = float("inf")
        pool.idle.append(connection)


async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, how: str) -> None:
    """One answer per connection: a stream that ends well, is cut, or goes on until the client leaves."""
    await reader.readuntil(b'hello"}]}')
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    writer.write(head + b"connection: close\r\n\r\n" + b"%x\r\n%b\r\n" % (len(STREAM), STREAM))
    if how == "whole":
        writer.write(b"0\r\n\r\n")
    if how != "left":
        writer.close()
    await reader.read()
    writer.close()


async def client(port: int, request: bytes, how: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await reader.readuntil(b"finish_reason" if how == "left" else b"0\r\n\r\n")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("how", ["whole", "cut", "left"])
async def test_connections_leave_nothing_for_the_collector(tmp_path: Path, how: str) -> None:
    """Nor do connections, to clients and to engines, however their streams end. (2,000 streams left 20 MB once.)"""
    loop = asyncio.get_running_loop()
    engines = await asyncio.start_server(lambda r, w: engine(r, w, how), "127.0.0.1", 0)
    gateway = busy_gateway(loop, tmp_path)
    endpoint = Endpoint("127.0.0.1", engines.sockets[0].getsockname()[1])
    for index in range(2):
        gateway.apply(replace(view(index, ReplicaState.READY), endpoint=endpoint))
    config = uvicorn.Config(_no_app, interface="asgi3", log_config=None, ws="none")
    config.load()
    state = ServerState()
    front = await loop.create_server(
        lambda: InferenceProtocol(config, state, {}, loop, gateway=gateway), "127.0.0.1", 0
    )
    port = front.sockets[0].getsockname()[1]
    await client(port, REQUEST, how)
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await client(port, REQUEST, how)
        while gateway.active or state.connections:
            await asyncio.sleep(0.01)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours = [type(each).__name__ for each in gc.garbage if type(each).__module__.startswith(OURS)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert sum(gateway.metrics.requests.values()) == 6
    assert ours == []
    front.close()
    engines.close()
    await gateway.close()


@pytest.mark.parametrize(
    "reply",
    [answer(b"application/json", PLAIN), answer(b"text/event-stream", STREAM)],
    ids=["plain", "stream"],
)
async def test_requests_leave_nothing_for_the_collector(tmp_path: Path, reply: bytes) -> None:
    """Everything that a request made is freed by reference counts when it ends: the collector finds nothing."""
    loop = asyncio.get_running_loop()
    gateway = busy_gateway(loop, tmp_path)
    connect_upstream(gateway, reply)
    client, wire = connect_client(gateway)
    client.data_received(REQUEST)
    gc.collect()
    gc.disable()
    try:
        for _ in range(REQUESTS):
            client.data_received(REQUEST)
        found = gc.collect()
    finally:
        gc.enable()
    assert wire.statuses == {b"HTTP/1.1 200"}
    assert sum(gateway.metrics.requests.values()) == REQUESTS + 1
    assert found == 0
    for pool in gateway.pools.values():
        pool.idle.clear()
    await gateway.close()


def exchanges_alive() -> int:
    return sum(isinstance(each, Exchange) for each in gc.get_objects())


async def test_a_request_that_waited_for_the_bank_leaves_nothing(tmp_path: Path) -> None:
    """Nor where the bank of limits is another process, and its answer comes later: these once grew the gateway by
    kilobytes each, until the collector came."""
    loop = asyncio.get_running_loop()
    bank = LaterBank(loop, answers=True)
    gateway = busy_gateway(loop, tmp_path, bank, requests_in_flight=4)
    connect_upstream(gateway, answer(b"text/event-stream", STREAM))
    client, wire = connect_client(gateway)
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            client.data_received(REQUEST)
            while gateway.active:
                await asyncio.sleep(0)
        alive = exchanges_alive()
    finally:
        gc.enable()
    assert wire.statuses == {b"HTTP/1.1 200"}
    assert bank.asked >= 50  # a permit of so few is never kept for the next request
    assert alive == 0
    for pool in gateway.pools.values():
        pool.idle.clear()
    await gateway.close()


async def test_a_client_that_leaves_before_the_bank_answers_leaves_nothing(tmp_path: Path) -> None:
    """What its request made is freed when it leaves, though the bank never answers."""
    loop = asyncio.get_running_loop()
    bank = LaterBank(loop, answers=False)
    gateway = busy_gateway(loop, tmp_path, bank)
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            client, _ = connect_client(gateway)
            client.data_received(REQUEST)
            assert len(gateway.active) == 1
            client.connection_lost(None)
        del client
        alive = exchanges_alive()
    finally:
        gc.enable()
    assert bank.asked
    assert alive == 0
    await gateway.close()


async def test_a_refused_request_leaves_nothing(tmp_path: Path) -> None:
    """A client without a key may come back as often as it likes: its error is freed with its request."""
    gateway = busy_gateway(asyncio.get_running_loop(), tmp_path)
    without_key = REQUEST.replace(b"authorization", b"x-nothing")
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            client, wire = connect_client(gateway)
            client.data_received(without_key)
            client.connection_lost(None)
            assert wire.statuses == {b"HTTP/1.1 401"}
        del client
        alive = exchanges_alive()
    finally:
        gc.enable()
    assert alive == 0
    await gateway.close()
