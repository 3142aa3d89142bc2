"""/tokenize on the wire: what clients of either engine send, as the other one reads it."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from .gateway_harness import Seen, json_answer, running_gateway, upstream


async def answers(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(json_answer(b'{"tokens":[1,2]}'))
    await writer.drain()


@pytest.mark.parametrize("relay_in_protocol", [True, False])
@pytest.mark.parametrize(("engines", "clients"), [("content", "prompt"), ("prompt", "content")])
async def test_the_text_arrives_where_the_engine_reads_it(
    engines: str, clients: str, relay_in_protocol: bool
) -> None:
    """Over both fronts, in either direction, with the model's other name; the answer comes back as it is."""
    async with (
        upstream(answers) as engine,
        running_gateway([engine.port], relay_in_protocol=relay_in_protocol, upstream_model="m") as running,
        httpx.AsyncClient(base_url=running.url, trust_env=False) as client,
    ):
        running.gateway.deployments["chat"].tokenize_field = engines
        answer = await client.post("/tokenize", json={"model": "chat", clients: "a text", "x": 1})
        assert (answer.status_code, answer.json()) == (200, {"tokens": [1, 2]})
    assert json.loads(engine.seen[0].body) == {"model": "m", engines: "a text", "x": 1}


async def test_a_chat_is_refused_where_it_would_have_no_tokens() -> None:
    """A 400 that names the fields to send; the engine is not asked."""
    async with (
        upstream(answers) as engine,
        running_gateway([engine.port]) as running,
        httpx.AsyncClient(base_url=running.url, trust_env=False) as client,
    ):
        running.gateway.deployments["chat"].tokenize_field = "content"
        answer = await client.post("/tokenize", json={"model": "chat", "messages": []})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")
    assert engine.seen == []
