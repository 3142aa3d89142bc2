"""A stand-in for `sglang serve`: no model, no words of its own, but its HTTP as its source has it.

Made from srt/entrypoints/http_server.py and openai/, srt/utils/auth.py and srt/observability/metrics_collector.py of
SGLang 0.5.23. It has what Inferry uses of it: /health (with and without a token for each question), /ready, /model_info,
/v1/models, /metrics, chat and completions, /load_lora_adapter and /unload_lora_adapter (managers/io_struct.py has their
bodies; an adapter is a folder with adapter_config.json, and no more is read of it). Its answer to a text is that text again, word by word, and a word is a token.
Its key opens everything but the pages for probes and metrics.

POST /standin/fault {"kind": ..., "after": N} changes what it does, until the next fault where no answer is named:

    starting   its own warm-up is not through: /health answers 503
    stuck      its pages for probes do not answer
    paused     /ready answers 503, /health does not care
    full       the next answer is 503: the queue is full (--max-queued-requests)
    error      the next answer fails after N tokens: an error frame, and then [DONE] all the same; 500 where nothing
               was sent yet
    abort      the next answer ends after N tokens for the reason `abort`
    cut        the next answer's connection ends after N tokens
    hang       no answer until the client goes away

    python -m tests.standins.sglang serve --model-path MODEL --host 127.0.0.1 --port 30000 --config FILE [any other flag]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

Json = dict[str, Any]
FAILED = "CUDA error: an illegal memory access was encountered"
QUEUE_FULL = "The request queue is full."
OPEN = ("/health", "/ready", "/metrics", "/standin")
STANDING = ("starting", "stuck", "paused")
"""Faults of the server itself: they stay."""


class SglangStandin:
    """State and handlers. `seen` has every request for an answer; `probe_tokens` counts what probes have cost."""

    def __init__(
        self,
        model: str = "echo",
        *,
        key: str | None = None,
        metrics: bool = True,
        health_generates: bool = True,
    ) -> None:
        self.model = model
        self.key = key
        self.health_generates = health_generates
        self.seen: list[tuple[str, Json]] = []
        self.fault: Json = {}
        self.adapters: dict[str, str] = {}
        self.running = self.probe_tokens = 0
        self.answered = self.tokens_in = self.tokens_out = 0
        routes = [
            Route("/health", self.health),
            Route("/ready", self.ready),
            Route("/model_info", self.model_info),
            Route("/v1/models", self.models),
            Route("/standin/fault", self.set_fault, methods=["POST"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/load_lora_adapter", self.load_lora, methods=["POST"]),
            Route("/unload_lora_adapter", self.unload_lora, methods=["POST"]),
        ]
        if metrics:
            routes.append(Route("/metrics", self.metrics))
        self.app = self._guarded(Starlette(routes=routes))

    def _guarded(self, inner: Starlette) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and self.key is not None and not scope["path"].startswith(OPEN):
                given = dict(scope["headers"]).get(b"authorization", b"").decode()
                if given != f"Bearer {self.key}":
                    await JSONResponse({"error": "Unauthorized"}, 401)(scope, receive, send)
                    return
            await inner(scope, receive, send)

        return app

    async def health(self, request: Request) -> Response:
        await self._stuck(request)
        if self.fault.get("kind") == "starting":
            return Response(status_code=503)
        if self.health_generates:
            self.probe_tokens += 1
            await asyncio.sleep(1)  # it looks for the token once a second
        return Response()

    async def ready(self, request: Request) -> Response:
        await self._stuck(request)
        return Response(status_code=503 if self.fault.get("kind") in ("starting", "paused") else 200)

    async def _stuck(self, request: Request) -> None:
        while self.fault.get("kind") == "stuck" and not await request.is_disconnected():
            await asyncio.sleep(0.01)

    async def model_info(self, request: Request) -> Response:
        return JSONResponse(
            {"model_path": self.model, "served_model_name": self.model, "is_generation": True}
        )

    async def models(self, request: Request) -> Response:
        model = {"id": self.model, "object": "model", "owned_by": "sglang", "max_model_len": 4096}
        return JSONResponse({"object": "list", "data": [model]})

    async def metrics(self, request: Request) -> Response:
        scheduler = f'engine_type="unified",model_name="{self.model}",moe_ep_rank="0",pp_rank="0",tp_rank="0"'
        answers = f'engine_type="unified",is_streaming="true",model_name="{self.model}"'
        values = [
            ("num_running_reqs", scheduler, self.running),
            ("num_queue_reqs", scheduler, 0),
            ("token_usage", scheduler, 0.25 if self.running else 0.0),
            ("prompt_tokens_total", answers, self.tokens_in),
            ("generation_tokens_total", answers, self.tokens_out),
            ("time_to_first_token_seconds_count", answers, self.answered),
            ("time_to_first_token_seconds_sum", answers, 0.01 * self.answered),
        ]
        return PlainTextResponse(
            "".join(f"sglang:{name}{{{labels}}} {value}\n" for name, labels, value in values)
        )

    async def load_lora(self, request: Request) -> Response:
        body = await request.json()
        name, path = str(body["lora_name"]), str(body["lora_path"])
        if name in self.adapters:
            return self._adapters_now(f"LoRA adapter {name} is already loaded.")
        if not (Path(path) / "adapter_config.json").is_file():
            return self._adapters_now(f"Can't find 'adapter_config.json' at '{path}'")
        self.adapters[name] = path
        return self._adapters_now()

    async def unload_lora(self, request: Request) -> Response:
        name = str((await request.json())["lora_name"])
        if name not in self.adapters:
            return self._adapters_now(f"LoRA adapter {name} is not loaded.")
        del self.adapters[name]
        return self._adapters_now()

    def _adapters_now(self, error: str = "") -> Response:
        body = {"success": not error, "error_message": error, "loaded_adapters": self.adapters}
        return JSONResponse(body, 400 if error else 200)

    async def set_fault(self, request: Request) -> Response:
        self.fault = await request.json()
        return JSONResponse({})

    async def chat(self, request: Request) -> Response:
        body = await self._body(request)
        _, colon, adapter = str(body.get("model")).partition(":")
        if colon and adapter not in self.adapters:
            return JSONResponse(error_body(f"LoRA adapter {adapter} is not loaded.", 400), 400)
        if not body.get("messages"):
            return JSONResponse(error_body("Messages cannot be empty.", 400), 400)
        answer = Answer(body["messages"][-1]["content"], body, self._next_fault())
        head = {"id": f"chat-{len(self.seen)}", "created": 1, "model": self.model}

        def chunk(delta: Json, reason: str | None = None) -> Json:
            choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
            return {**head, "object": "chat.completion.chunk", "choices": [choice]}

        if answer.streamed:
            opening = chunk({"role": "assistant", "content": ""})
            return await self._stream(
                request,
                answer,
                opening,
                lambda word: chunk({"content": word}),
                lambda reason: chunk({}, reason),
            )
        message = {"role": "assistant", "content": answer.text}
        choice = {"index": 0, "message": message, "finish_reason": answer.reason, "logprobs": None}
        whole = {**head, "object": "chat.completion", "choices": [choice], "usage": answer.usage()}
        return await self._whole(request, answer, whole)

    async def completions(self, request: Request) -> Response:
        body = await self._body(request)
        answer = Answer(str(body["prompt"]), body, self._next_fault())
        head = {"id": f"cmpl-{len(self.seen)}", "object": "text_completion", "created": 1}

        def chunk(text: str, reason: str | None = None) -> Json:
            choice = {"index": 0, "text": text, "finish_reason": reason, "logprobs": None}
            return {**head, "model": self.model, "choices": [choice]}

        if answer.streamed:
            return await self._stream(request, answer, None, chunk, lambda reason: chunk("", reason))
        return await self._whole(
            request, answer, {**chunk(answer.text, answer.reason), "usage": answer.usage()}
        )

    async def _body(self, request: Request) -> Json:
        body: Json = json.loads(await request.body())
        self.seen.append((request.url.path, body))
        return body

    def _next_fault(self) -> Json:
        fault = self.fault
        if fault.get("kind") not in STANDING:
            self.fault = {}
        return fault

    async def _whole(self, request: Request, answer: Answer, body: Json) -> Response:
        if (refusal := answer.refusal()) is not None:
            return refusal
        async for _ in self._words(request, answer):
            pass
        if answer.kind == "error":
            return JSONResponse(error_body(FAILED, 500), 500)
        return JSONResponse(body)

    async def _stream(
        self, request: Request, answer: Answer, opening: Json | None, word_chunk: Any, end_chunk: Any
    ) -> Response:
        """The first token is awaited before the head is sent, so what fails before it has a status of its own."""
        if (refusal := answer.refusal()) is not None:
            return refusal
        if answer.kind == "error" and answer.after == 0:
            return JSONResponse(error_body(FAILED, 500), 500)

        async def events() -> AsyncIterator[bytes]:
            if opening is not None:
                yield event(opening)
            async for word in self._words(request, answer):
                yield event(word_chunk(word))
            if answer.kind == "cut":
                raise ConnectionError("cut by the stand-in")
            if answer.kind == "error":
                yield event({"error": error_body(FAILED, 500)})
            else:
                yield event(end_chunk(answer.reason))
                if answer.asks_usage:
                    yield event({**end_chunk(None), "choices": [], "usage": answer.usage()})
            yield b"data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def _words(self, request: Request, answer: Answer) -> AsyncIterator[str]:
        self.running += 1
        try:
            while answer.kind == "hang" and not await request.is_disconnected():
                await asyncio.sleep(0.01)
            for word in answer.words:
                yield word
                await asyncio.sleep(0.001)
            self.answered += 1
            self.tokens_in += answer.tokens_in
            self.tokens_out += len(answer.words)
        finally:
            self.running -= 1


class Answer:
    """One text on its way back."""

    def __init__(self, text: str, body: Json, fault: Json) -> None:
        self.kind = fault.get("kind")
        self.after = fault.get("after", 0)
        self.streamed = bool(body.get("stream"))
        self.asks_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        words = [f"{word} " for word in text.split()]
        self.tokens_in = len(words)
        broken = self.kind in ("error", "abort", "cut")
        self.words = words[: self.after if broken else body.get("max_tokens")]
        self.reason = (
            "abort" if self.kind == "abort" else "stop" if len(self.words) == len(words) else "length"
        )

    @property
    def text(self) -> str:
        return "".join(self.words)

    def usage(self) -> Json:
        total = self.tokens_in + len(self.words)
        return {
            "prompt_tokens": self.tokens_in,
            "completion_tokens": len(self.words),
            "total_tokens": total,
        }

    def refusal(self) -> Response | None:
        return JSONResponse(error_body(QUEUE_FULL, 503), 503) if self.kind == "full" else None


def error_body(message: str, code: int) -> Json:
    """Flat where it is the whole answer; in a stream it stands under `error`."""
    kind = {400: "BadRequestError", 503: "ServiceUnavailableError"}.get(code, "InternalServerError")
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def event(fields: Json) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="sglang serve (stand-in)")
    parser.add_argument("verb", choices=["serve"])
    parser.add_argument("--model-path", required=True)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=30000)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--enable-metrics", action="store_true")
    known, _ = parser.parse_known_args()
    standin = SglangStandin(
        known.served_model_name,
        key=yaml.safe_load(known.config.read_text())["api-key"],
        metrics=known.enable_metrics,
        health_generates=os.environ.get("SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION", "1") != "0",
    )
    sys.stderr.write(f"stand-in for SGLang on {known.host}:{known.port}\n")
    uvicorn.run(standin.app, host=known.host, port=known.port, log_level="critical", lifespan="off")


if __name__ == "__main__":
    main()
