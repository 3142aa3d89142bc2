"""A stand-in for Azure OpenAI's two data-plane APIs: no model, but paths, keys, errors and streams as published.

Made from Azure's REST reference (api-version 2024-10-21: /openai/deployments/NAME/..., and the v1 API), its page on
content streaming (the first event has no choices, but what the filters said of the prompt), and the `openai`
package's own AzureOpenAI client, which the tests run against it. Its answer to a text is that text, word by word.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Json = dict[str, Any]
FILTERED = {"hate": {"filtered": False, "severity": "safe"}}


class AzureStandin:
    """One resource. `seen` has path with query, headers and body of each request; `throttled`: answer 429 so often."""

    def __init__(self, key: str, deployments: tuple[str, ...], api_version: str) -> None:
        self.key = key
        self.deployments = deployments
        self.api_version = api_version
        self.throttled = 0
        self.seen: list[tuple[str, dict[str, str], Json]] = []
        classic = "/openai/deployments/{name}"
        routes = [
            Route("/openai/models", self.models, methods=["GET"]),
            Route("/openai/v1/models", self.models, methods=["GET"]),
            Route(f"{classic}/chat/completions", self.chat, methods=["POST"]),
            Route(f"{classic}/embeddings", self.embeddings, methods=["POST"]),
            Route("/openai/v1/chat/completions", self.chat, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    async def models(self, request: Request) -> Response:
        refusal = self._refusal(request, {})
        return refusal or JSONResponse({"object": "list", "data": [{"id": "gpt-4o", "object": "model"}]})

    async def chat(self, request: Request) -> Response:
        body: Json = await request.json()
        if (refusal := self._refusal(request, body)) is not None:
            return refusal
        words = [f"{word} " for word in body["messages"][-1]["content"].split()]
        usage = {"prompt_tokens": len(words), "completion_tokens": len(words), "total_tokens": 2 * len(words)}
        head = {"id": "chatcmpl-1", "created": 1, "model": "gpt-4o-2024-11-20", "system_fingerprint": "fp"}
        if body.get("stream"):
            wants = bool((body.get("stream_options") or {}).get("include_usage"))
            return StreamingResponse(
                events(head, words, usage if wants else None), media_type="text/event-stream"
            )
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "".join(words)},
            "content_filter_results": FILTERED,
        }
        prompt = [{"prompt_index": 0, "content_filter_results": FILTERED}]
        whole = {"object": "chat.completion", "choices": [choice], "prompt_filter_results": prompt}
        return JSONResponse({**head, **whole, "usage": usage})

    async def embeddings(self, request: Request) -> Response:
        body: Json = await request.json()
        if (refusal := self._refusal(request, body)) is not None:
            return refusal
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return JSONResponse({"object": "list", "model": "ada", "data": data, "usage": usage})

    def _refusal(self, request: Request, body: Json) -> Response | None:
        query = f"?{request.url.query}" if request.url.query else ""
        self.seen.append((f"{request.scope['raw_path'].decode()}{query}", dict(request.headers), body))
        if request.headers.get("api-key") != self.key:
            return refused(401, "401", "Access denied due to invalid subscription key or wrong API endpoint.")
        classic = not request.url.path.startswith("/openai/v1/")
        if classic and request.query_params.get("api-version") != self.api_version:
            return refused(404, "404", "Resource not found")
        name = request.path_params.get("name", body.get("model"))
        if name is not None and name not in self.deployments:
            return refused(404, "DeploymentNotFound", "The API deployment for this resource does not exist.")
        if body and self.throttled:
            self.throttled -= 1
            return refused(429, "429", "Requests have exceeded the call rate limit.", {"retry-after": "7"})
        return None


def refused(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


def events(head: Json, words: list[str], usage: Json | None) -> Iterator[bytes]:
    """With usage asked for, all events but the last have it as null."""
    filtered = [{"prompt_index": 0, "content_filter_results": FILTERED}]
    yield event(
        {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": filtered}
    )
    head = {**head, "object": "chat.completion.chunk"}
    if usage is not None:
        head["usage"] = None
    for word in words:
        yield event({**head, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
    yield event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage is not None:
        yield event({**head, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def event(value: Json) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"
