"""Failures at odd moments: during a dial, at a full replica, with nobody left, behind the last word."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from inferry.core.failover_settings import Failover
from inferry.core.outcome import Ending
from inferry.core.public_names import PublicName, Share
from inferry.core.replica import ReplicaProgress, ReplicaState
from inferry.core.request import ROUTES
from inferry.core.routing_settings import Routing
from inferry.engines.continuation import continuation_of
from inferry.gateway.served import ServedSpec

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
    view,
)
from .resuming_engine import PROMPT_TOKENS, WORDS, Engine, event

CHAT = "/v1/chat/completions"
TEXT = "".join(WORDS)
OTHER = ServedSpec(
    "other",
    (),
    "vllm",
    False,
    "other",
    frozenset(ROUTES),
    True,
    Routing(),
    continuation=continuation_of("vllm"),
)
BOTH = {"both": PublicName(split=[Share(deployment="chat")], fallbacks=["other"])}
ANSWER = b'{"choices":[{"finish_reason":"stop","message":{"content":"x"}}]}'


async def ask(running: Running, **more: Any) -> str:
    """The text of a whole stream, which must not hold an error."""
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "Where?"}], **more}
    status, _, answer = split_response(await raw(running.port, post(CHAT, json.dumps(body).encode())))
    assert status == 200, answer
    assert b'"error"' not in answer, answer
    assert answer.endswith(b"data: [DONE]\n\n")
    chunks = [json.loads(each[6:]) for each in answer.split(b"\n\n") if each.startswith(b"data: {")]
    return "".join(choice["delta"].get("content") or "" for each in chunks for choice in each["choices"])


def dial_late(running: Running, replica_id: str, after_s: float) -> None:
    """As a network does that loses the first packet."""
    pool = running.gateway.pools[replica_id]
    dial: Callable[[Any], None] = pool.dial

    def later(receiver: Any) -> None:
        asyncio.get_running_loop().call_later(after_s, dial, receiver)

    pool.dial = later  # type: ignore[method-assign]


async def test_a_late_connection_is_nobodys() -> None:
    """A request that fell back while it was dialling is not sent to the first replica when that connects at last."""
    first, second = Engine("first"), Engine("second")
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        running_gateway(
            [one.port], engine="vllm", more=[OTHER], names=BOTH, first_byte_timeout_s=0.5
        ) as running,
    ):
        running.gateway.apply(view(two.port, deployment="other"))
        dial_late(running, "chat-0", 2.2)
        assert await ask(running, model="both") == TEXT
        async with asyncio.timeout(5):
            while not one.connections:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.05)
        assert first.bodies == []


async def test_ids_of_an_attempt_that_nobody_saw_are_forgotten() -> None:
    """With failover.token_ids: an attempt fails before anything of it went out; the next one breaks off in the middle;
    the third goes on from what the client has, and from nothing else."""

    async def fails(seen: Seen, writer: asyncio.StreamWriter) -> None:
        choices = [{"index": 0, "delta": {"role": "assistant", "content": "No"}, "token_ids": [9999]}]
        said = event({"id": "x", "choices": choices, "prompt_token_ids": list(range(PROMPT_TOKENS))})
        writer.write(
            SSE_HEAD + chunk(said + event({"error": {"message": "CUDA", "code": 500}})) + b"0\r\n\r\n"
        )

    second, third = Engine("second", 2), Engine("third")
    async with (
        upstream(fails) as one,
        upstream(second.handler) as two,
        upstream(third.handler) as three,
        running_gateway(
            [one.port, two.port, three.port], engine="vllm", failover=Failover(token_ids=True)
        ) as running,
    ):
        assert await ask(running, max_tokens=50) == TEXT
        assert third.bodies[0]["prompt"] == [*range(PROMPT_TOKENS), 1000, 1001]
        assert third.bodies[0]["max_tokens"] == 48


class Waiting(Engine):
    """Says two words, and the rest when it may."""

    async def _say(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        await super()._say(writer, data)
        self.said = getattr(self, "said", 0) + 1
        if self.said == 3:
            self.hangs.set()
            await self.goes_on.wait()


async def test_a_sound_replica_is_not_left_for_nobody() -> None:
    """The only other replica has just failed this very stream: the one that drains keeps it to its end."""
    first, second = Engine("first", 0), Waiting("second")
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        running_gateway([one.port, two.port], engine="vllm") as running,
    ):
        asking = asyncio.create_task(ask(running))
        await second.hangs.wait()
        running.gateway.apply(view(two.port, 1, state=ReplicaState.DRAINING))
        # What has failed a part of it may be asked again, once another part has come; here it may not be.
        running.gateway.apply(view(one.port, 0, state=ReplicaState.SUSPECT))
        running.gateway.hand_over("chat-1", "it drains")
        second.goes_on.set()
        assert await asking == TEXT
        assert len(second.bodies) == 1


@pytest.mark.parametrize("said", ["429 Too Many Requests", "503 Service Unavailable"])
async def test_a_full_replica_is_passed_over(said: str) -> None:
    """It is well, and takes no more: the stream goes on at a third one, by text, and nothing is held against it."""
    first, third = Engine("first", 3), Engine("third")

    async def full(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(b'{"error":{"message":"busy"}}', said.encode()))

    async with (
        upstream(first.handler) as one,
        upstream(full) as two,
        upstream(third.handler) as three,
        running_gateway([one.port, two.port, three.port], engine="vllm") as running,
    ):
        assert await ask(running) == TEXT
        assert [failed for failed, _ in running.failures] == ["chat-0"]
        assert "continue_final_message" in third.bodies[0]


@pytest.mark.parametrize(
    ("engine", "more"),
    [("ollama", {}), ("ollama", {"temperature": 0}), ("vllm", {"tools": [{"type": "function"}]})],
)
async def test_all_is_said_and_nobody_can_count(engine: str, more: dict[str, Any]) -> None:
    """The text and its reason are out, and no other replica can tell how long the prompt was: that is no error."""
    first, second = Engine("first", len(WORDS) + 1), Engine("second")
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        running_gateway([one.port, two.port], engine=engine, reason_needed=True, asks_usage=True) as running,
    ):
        assert await ask(running, **more) == TEXT
        assert (await running.outcome()).ending is Ending.COMPLETED


async def test_a_silent_replica_is_known_for_it() -> None:
    """Although a fallback answered in the end."""

    async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await seen.closed.wait()

    async def answers(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(ANSWER))

    async with (
        upstream(silent) as one,
        upstream(answers) as two,
        running_gateway(
            [one.port], engine="vllm", more=[OTHER], names=BOTH, first_byte_timeout_s=0.5
        ) as running,
    ):
        running.gateway.apply(view(two.port, deployment="other"))
        body = CHAT_BODY.replace(b'"chat"', b'"both"')
        status, _, _ = split_response(await raw(running.port, post(CHAT, body)))
        assert status == 200
        assert running.gateway.snapshot().failed["chat-0"] == 1


async def test_a_client_that_leaves_is_no_sign_of_life() -> None:
    """Of two clients of a hanging engine one leaves: the engine was heard as long ago as before."""
    first = Engine("first", 2, how="hang")
    heard: list[float] = []

    def on_progress(replicas: dict[str, ReplicaProgress]) -> None:
        heard.extend(each.heard_s for each in replicas.values() if each.heard_s is not None)

    async with upstream(first.handler) as one, running_gateway([one.port], engine="vllm") as running:
        running.gateway.watch._tell_progress = on_progress  # type: ignore[assignment]
        asking = [asyncio.create_task(ask(running)) for _ in range(2)]
        await asyncio.sleep(1.6)
        asking[0].cancel()
        await asyncio.sleep(0.8)
        assert heard == sorted(heard)
        assert heard[-1] > 1.5
        asking[1].cancel()
