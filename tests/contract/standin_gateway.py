"""A gateway in front of a stand-in, set up as the stand-in's adapter says: for what comes back when things break."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx

from inferry.core.outcome import Outcome
from inferry.engines.adapter import EngineAdapter
from tests.e2e.gateway_harness import Running, running_gateway


@contextlib.asynccontextmanager
async def gateway_to(adapter: EngineAdapter, url: str) -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    """One deployment `chat` with one replica at `url`, and a client that asks for it. No other replica to try."""
    port = urlsplit(url).port
    assert port is not None
    async with (
        running_gateway(
            [port],
            upstream_model=adapter.served_name,
            asks_usage=adapter.reports_stream_usage,
            routes=adapter.routes,
            reason_needed=True,
        ) as gateway,
        httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=10) as client,
    ):
        yield gateway, client


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": text}], **more}


async def streamed(gateway: Running, client: httpx.AsyncClient, body: dict[str, Any]) -> tuple[str, Outcome]:
    """The whole text of a streamed chat, as far as it came, and how the gateway says that it ended."""
    before = len(gateway.outcomes)
    received = ""
    with contextlib.suppress(httpx.RemoteProtocolError):
        async with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
            async for piece in answer.aiter_text():
                received += piece
    return received, await gateway.outcome(before + 1)
