"""prefix_aware behind real sockets: prompts become blocks, and what engines say of their caches comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest_asyncio

from inferry.policy.routing.prefix_aware import PrefixAware

from .gateway_harness import Running, Seen, json_answer, post, raw, running_gateway, split_response, upstream

STORY = "word " * 600
"""3,000 bytes: two whole blocks."""


async def cold(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """An engine that never has anything cached, and says so."""
    usage = {"prompt_tokens": 700, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 0}}
    answer = {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}], "usage": usage}
    writer.write(json_answer(json.dumps(answer).encode()))
    await writer.drain()


@pytest_asyncio.fixture
async def running() -> AsyncIterator[Running]:
    """A gateway by prefix_aware in front of four such engines."""
    async with AsyncExitStack() as stack:
        ports = [(await stack.enter_async_context(upstream(cold))).port for _ in range(4)]
        yield await stack.enter_async_context(running_gateway(ports, policy="prefix_aware"))


async def served_by(running: Running, *turns: str) -> tuple[str, str]:
    """Which replica has answered, and why."""
    messages = [{"role": "user", "content": turn} for turn in turns]
    body = json.dumps({"model": "chat", "messages": messages}).encode()
    answer = await raw(running.port, post("/v1/chat/completions", body, "x-inferry-explain: 1"))
    status, headers, _ = split_response(answer)
    assert status == 200
    return headers["x-inferry-replica"], headers["x-inferry-why"]


async def test_a_conversation_comes_back_as_it_grows(running: Running) -> None:
    """Each one's later turns go where the first went; new ones go around all replicas."""
    homes = [(await served_by(running, f"{number} {STORY}"))[0] for number in range(4)]
    assert len(set(homes)) == 4
    for number, home in enumerate(homes):
        for turns in ([], ["go on"], ["go on", "and then?"]):
            replica, why = await served_by(running, f"{number} {STORY}", *turns)
            assert replica == home
            assert " 0 prompt tokens cached" not in why


async def test_what_the_engine_says_of_its_cache_reaches_the_policy(running: Running) -> None:
    """Told that nothing was cached where all should be, it trusts that replica's cache less."""
    for _ in range(3):
        home, _ = await served_by(running, STORY)
    policy = running.gateway.deployments["chat"].balancer._policy
    assert isinstance(policy, PrefixAware)
    trust = {slot.id: replica.trust.share for slot, replica in policy._replicas.items()}
    assert trust.pop(home) < 1.0
    assert set(trust.values()) == {1.0}
