"""Requests at a replica that must go, whose answer has not begun: they move, or stay as they were."""

from __future__ import annotations

import asyncio
import json

import pytest

from .gateway_harness import Seen, chunk, post, raw, running_gateway, split_response, upstream

EVENTS = b'data: {"id": "1", "choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


class Thoughtful:
    """An engine that sends its head at once, as engines do, and the answer when it is let."""

    def __init__(self) -> None:
        self.headed = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def handler(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        await writer.drain()
        self.headed.set()
        await self.may_answer.wait()
        writer.write(chunk(EVENTS) + chunk(b""))
        await writer.drain()


@pytest.mark.parametrize("attempts_max", [1, 3])
async def test_whoever_can_not_move_is_left_in_peace(attempts_max: int) -> None:
    """A request that may not be tried once more gets the answer of the replica that it is at, although that was
    asked to hand it over when the answer's head was there; one that may is answered by the other."""
    first, second = Thoughtful(), Thoughtful()
    second.may_answer.set()
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        running_gateway([one.port, two.port], engine="vllm", attempts_max=attempts_max) as running,
    ):
        body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        asking = asyncio.create_task(
            raw(running.port, post("/v1/chat/completions", json.dumps(body).encode()))
        )
        await first.headed.wait()
        await asyncio.sleep(0.05)
        running.gateway.hand_over("chat-0", "it drains")
        running.gateway.hand_over("chat-0", "it drains")
        if attempts_max == 1:
            first.may_answer.set()
        status, _, answer = split_response(await asking)
        assert (status, answer) == (200, EVENTS)
        outcome = await running.outcome()
        assert outcome.replica_id == ("chat-0" if attempts_max == 1 else "chat-1")
        assert (outcome.attempts, len(two.seen)) == ((1, 0) if attempts_max == 1 else (2, 1))
        first.may_answer.set()
