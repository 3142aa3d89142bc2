"""Routing policies behind real sockets, over both fronts: what they want to know of requests reaches them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Any, get_args

import pytest
import pytest_asyncio

from inferry.core.replica import ReplicaLoad
from inferry.policy.routing import PolicyName, Routing

from .gateway_harness import (
    CHAT_BODY,
    SSE_HEAD,
    Running,
    Seen,
    chunk,
    json_answer,
    post,
    raw,
    running_gateway,
    split_response,
    upstream,
)

ANSWER = (
    b'{"choices":[{"message":{"content":"hello"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":7,"completion_tokens":3}}'
)
Start = Callable[..., AbstractAsyncContextManager[Running]]


async def plain(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(json_answer(ANSWER))
    await writer.drain()


@pytest.fixture(params=["protocol", "asgi"])
def start(request: pytest.FixtureRequest) -> Start:
    """`running_gateway`, by either front."""
    return partial(running_gateway, relay_in_protocol=request.param == "protocol")


@pytest_asyncio.fixture
async def ports() -> AsyncIterator[list[int]]:
    """Of four engines that answer."""
    async with AsyncExitStack() as stack:
        yield [(await stack.enter_async_context(upstream(plain))).port for _ in range(4)]


def chat(*turns: str, **fields: Any) -> bytes:
    messages = [
        {"role": "user" if at % 2 == 0 else "assistant", "content": turn} for at, turn in enumerate(turns)
    ]
    return json.dumps({"model": "chat", "messages": messages, **fields}).encode()


async def served_by(running: Running, body: bytes = CHAT_BODY, *headers: str) -> str:
    """Which replica has answered."""
    status, found, _ = split_response(await raw(running.port, post("/v1/chat/completions", body, *headers)))
    assert status == 200
    return found["x-inferry-replica"]


@pytest.mark.parametrize("policy", get_args(PolicyName))
async def test_every_policy_serves_and_says_why(start: Start, ports: list[int], policy: PolicyName) -> None:
    """Requests end well, leave no reservation, and the answer says on request why it came from where it did."""
    async with start(ports, policy=policy) as running:
        for _ in range(3):
            await served_by(running)
        answer = await raw(running.port, post("/v1/chat/completions", CHAT_BODY, "x-inferry-explain: 1"))
        _, headers, _ = split_response(answer)
        assert headers["x-inferry-why"].startswith(f"{headers['x-inferry-replica']} by {policy}: ")
        _, headers, _ = split_response(await raw(running.port, post("/v1/chat/completions", CHAT_BODY)))
        assert "x-inferry-why" not in headers
        await running.settled()


async def test_a_session_named_by_a_header_stays(start: Start, ports: list[int]) -> None:
    """Its requests all go to one replica, whatever they say; other sessions go elsewhere."""
    routing = Routing(policy="session", session_by=["header:X-Chat"])
    async with start(ports, policy=routing) as running:
        homes = {}
        for session in range(12):
            named = f"x-chat: s{session}"
            found = {await served_by(running, chat(f"question {at}"), named) for at in range(3)}
            assert len(found) == 1
            homes[session] = found.pop()
        assert len(set(homes.values())) >= 3


@pytest.mark.parametrize("field", ["user", "safety_identifier", "prompt_cache_key"])
async def test_a_session_named_in_the_body_stays(start: Start, ports: list[int], field: str) -> None:
    """By the caller's user, or by what the client itself says of its prompts."""
    async with start(ports, policy="session") as running:
        homes = [
            {await served_by(running, chat(f"question {at}", **{field: f"u{user}"})) for at in range(3)}
            for user in range(8)
        ]
        assert all(len(each) == 1 for each in homes)
        assert len(set.union(*homes)) >= 2


async def test_a_conversation_stays_as_it_grows(start: Start, ports: list[int]) -> None:
    """Later turns go where the first one went; other conversations elsewhere."""
    async with start(ports, policy="session") as running:
        homes: Counter[str] = Counter()
        for number in range(8):
            turns = [f"hello {number}", "hi", "how are you?", "fine", "good"]
            found = {await served_by(running, chat(*turns[:many])) for many in (1, 3, 5)}
            assert len(found) == 1
            homes.update(found)
        assert len(homes) >= 2


@pytest.mark.parametrize("leaves", [False, True])
async def test_tokens_are_counted_while_they_are_outstanding_and_not_longer(
    start: Start, leaves: bool
) -> None:
    """A prompt weighs until the first byte, an answer until its end, or until its client has left."""
    go_on = asyncio.Event()

    async def slowly(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'))
        await writer.drain()
        await go_on.wait()
        end = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
        writer.write(chunk(end) + b"0\r\n\r\n")
        await writer.drain()

    async with upstream(slowly) as engine, start([engine.port], policy="token_load") as running:
        balancer = running.gateway.deployments["chat"].balancer
        slot = balancer.slots["chat-0"]
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(post("/v1/chat/completions", chat("long " * 400, stream=True)))
        await reader.readuntil(b'"a"')
        words = balancer.explain(slot)
        assert "0 prompt and " in words
        assert "0 prompt and 0 answer" not in words
        if leaves:
            writer.close()
        else:
            go_on.set()
            assert b"[DONE]" in await reader.read()
            writer.close()
        await running.settled()
        assert "0 prompt and 0 answer tokens outstanding" in balancer.explain(slot)
        go_on.set()


async def test_an_engine_that_tells_of_its_load_is_heard(start: Start, ports: list[int]) -> None:
    """A reading that says that a replica is full keeps requests away from it; one of an unknown replica is nothing."""
    async with start(ports[:2], policy="gpu_aware") as running:
        now_s = running.gateway.now_s()
        full = ReplicaLoad("chat-0", now_s, running=0, waiting=9, kv_cache_use=0.99)
        running.gateway.learn([full, ReplicaLoad("gone-1", now_s)])
        assert {await served_by(running) for _ in range(6)} == {"chat-1"}
