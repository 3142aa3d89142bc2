"""A plain HTTP client for the simulated engine, and waiting for facts."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from inferry.testing.simulated_engine import running_simulated_engine

QUESTION = {"role": "user", "content": "Where do all the rivers go in the end?"}
LONG: dict[str, Any] = {"max_tokens": 5000, "ignore_eos": True}


@asynccontextmanager
async def engine(**options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A simulated engine, and a client at its base URL."""
    async with (
        running_simulated_engine(**options) as base_url,
        httpx.AsyncClient(base_url=base_url, timeout=30) as client,
    ):
        yield client


def chat_body(**more: Any) -> dict[str, Any]:
    return {"model": "simulated", "messages": [QUESTION], **more}


async def chat(client: httpx.AsyncClient, fault: str | None = None, **more: Any) -> httpx.Response:
    headers = {} if fault is None else {"x-simulate-fault": fault}
    return await client.post("/v1/chat/completions", json=chat_body(**more), headers=headers)


def events(text: str) -> list[Any]:
    """The data of each SSE event, in order; `[DONE]` stays text."""
    found: list[Any] = []
    for line in text.splitlines():
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
            found.append(data if data == "[DONE]" else json.loads(data))
    return found


def said(chunks: list[Any]) -> str:
    """The text of all chat chunks."""
    return "".join(
        choice["delta"].get("content") or ""
        for chunk in chunks
        if isinstance(chunk, dict)
        for choice in chunk.get("choices", [])
    )


async def stream(
    client: httpx.AsyncClient, fault: str | None = None, **more: Any
) -> tuple[str, Exception | None]:
    """What came of a streamed chat, and how it broke off, if it did."""
    headers = {} if fault is None else {"x-simulate-fault": fault}
    text = ""
    try:
        async with client.stream(
            "POST", "/v1/chat/completions", json=chat_body(stream=True, **more), headers=headers
        ) as response:
            async for part in response.aiter_text():
                text += part
    except httpx.TransportError as error:
        return text, error
    return text, None


async def figures(client: httpx.AsyncClient) -> dict[str, float]:
    """Each sample of the metrics page that has no labels beyond the engine's own, by name."""
    page = (await client.get("/metrics")).text
    own = {"engine", "model_name"}
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if set(sample.labels) <= own
    }


async def until_figures(
    client: httpx.AsyncClient, fact: Callable[[dict[str, float]], bool]
) -> dict[str, float]:
    """The first figures for which `fact` holds; gives up after 10 s."""
    async with asyncio.timeout(10):
        while not fact(seen := await figures(client)):
            await asyncio.sleep(0.005)
        return seen


async def started(*arguments: str) -> tuple[asyncio.subprocess.Process, str]:
    """The program, and its base URL from the line that it prints when it listens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "inferry.testing.simulated_engine", *arguments, stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert "SIMULATED" in line
    return process, next(word for word in line.split() if word.startswith("http://")).rstrip(",")
