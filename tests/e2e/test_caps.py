"""Caps on the wire: whichever field an engine goes by, the request is refused or bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from inferry.core.filter_settings import Filter
from inferry.core.limits import Limits
from inferry.gateway.filters.filter_set import FilterSet

from .gateway_harness import Running, Seen, json_answer, post, raw, running_gateway, split_response, upstream

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]


@asynccontextmanager
async def capped(
    limits: Limits, filters: FilterSet | None = None
) -> AsyncIterator[tuple[Running, list[dict[str, Any]]]]:
    """A gateway whose deployment has these limits; and what its engine got."""
    got: list[dict[str, Any]] = []

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        got.append(json.loads(seen.body))
        writer.write(json_answer(b'{"choices":[]}'))
        await writer.drain()

    async with upstream(answer) as engine, running_gateway([engine.port]) as running:
        deployment = running.gateway.deployments["chat"]
        deployment.spec = replace(deployment.spec, limits=limits)
        deployment.filters = filters
        yield running, got


async def ask(running: Running, path: str = CHAT, **fields: Any) -> tuple[int, dict[str, Any]]:
    what = {"messages": MESSAGES} if path == CHAT else {}
    body = json.dumps({"model": "chat", **what, **fields}).encode()
    status, _, answer = split_response(await raw(running.port, post(path, body)))
    return status, json.loads(answer)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 11}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 11}, "max_completion_tokens"),
        ({"max_tokens": 11, "max_completion_tokens": 0}, "max_tokens"),
        ({"max_tokens": 5, "n_predict": 11}, "n_predict"),
        ({"max_new_tokens": 11}, "max_new_tokens"),
        ({"num_predict": 11}, "num_predict"),
        ({"Max_Tokens": 11}, "Max_Tokens"),
        ({"n": 3}, "n"),
        ({"n_cmpl": 3}, "n_cmpl"),
        ({"best_of": 3}, "best_of"),
    ],
)
async def test_no_field_escapes_a_cap(fields: dict[str, Any], param: str) -> None:
    """What is over a cap is refused with 400, by the name that the client wrote; the engine never hears of it."""
    async with capped(Limits(completion_tokens_max=10, choices_max=2)) as (running, got):
        status, answer = await ask(running, **fields)
        assert (status, answer["error"]["param"]) == (400, param)
        assert got == []


async def test_prompts_multiply_choices() -> None:
    """Two answers to each of two prompts are four."""
    async with capped(Limits(choices_max=3)) as (running, got):
        assert (await ask(running, "/v1/completions", prompt=["a", "b", "c"]))[0] == 200
        status, answer = await ask(running, "/v1/completions", prompt=["a", "b"], n=2)
        assert (status, answer["error"]["param"]) == (400, "n")
        assert "4" in answer["error"]["message"]
        assert len(got) == 1


async def test_without_an_end_becomes_the_cap() -> None:
    """No length, and llama.cpp's length without end, are bounded on the way to the engine."""
    async with capped(Limits(completion_tokens_max=10)) as (running, got):
        assert (await ask(running))[0] == 200
        assert (await ask(running, n_predict=-1, max_tokens=5))[0] == 200
        assert got[0]["max_tokens"] == 10
        assert (got[1]["max_tokens"], got[1]["n_predict"]) == (10, 10)


async def test_other_letters_pass_by_no_filter() -> None:
    """Where a filter looks, a field that only some engines read is refused; where nothing looks, it passes."""
    filters = FilterSet([Filter(name="bomb", terms=["bomb"])])
    async with capped(Limits(), filters) as (running, got):
        status, answer = await ask(running, Model="other")
        assert (status, answer["error"]["param"]) == (400, "Model")
        running.gateway.deployments["chat"].filters = None
        assert (await ask(running, Model="other"))[0] == 200
        assert len(got) == 1


async def test_the_prompt_cap_goes_by_bytes() -> None:
    """A quarter token a byte, whatever other answers have taught."""
    async with capped(Limits(prompt_tokens_max=100)) as (running, got):
        running.gateway.deployments["chat"].estimates.learn(b"x" * 1000, 590, 1)
        small, large = "a" * 250, "a" * 400
        assert (await ask(running, messages=[{"role": "user", "content": small}]))[0] == 200
        status, answer = await ask(running, messages=[{"role": "user", "content": large}])
        assert status == 400
        assert "prompt_tokens_max" in answer["error"]["message"]
        assert len(got) == 1
