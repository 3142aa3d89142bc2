"""A stand-in for `trtllm-serve`: no model, no words of its own, but its HTTP as its source has it.

Made from tensorrt_llm/serve/openai_server.py and openai_protocol.py of TensorRT-LLM 1.2 and the metric names of its
Prometheus collector. It has what Inferry uses of it: /health, /version, /v1/models, chat and completions, the JSON page
/metrics and the Prometheus page /prometheus/metrics. Its answer to a text is that text again, word by word, and a
word is a token. It knows no keys.

POST /standin/fault {"kind": ..., "after": N} breaks the next answer:

    error      its code fails after N tokens: 400 with a flat body, or the connection is cut in mid-stream: no error
               frame, no [DONE] (the generators of its streams log what happened and raise it again)
    hang       no answer until the client goes away
    unhealthy  its executor is dead: /health answers 503 from now on
    stuck      /health does not answer any more

    python -m tests.standins.tensorrt_llm serve MODEL --host 127.0.0.1 --port 8000 --config FILE [any other flag]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

VERSION = "1.2.1-standin"
Json = dict[str, Any]
FAILED = "CUDA error: an illegal memory access was encountered"


class TensorRtLlmStandin:
    """State and handlers. `seen` has every request for an answer; `metrics` as with return_perf_metrics."""

    def __init__(self, model: str = "echo", *, perf_metrics: bool = True) -> None:
        self.model = model
        self.seen: list[tuple[str, Json]] = []
        self.fault: Json = {}
        self.running = 0
        self.answered = self.tokens_in = self.tokens_out = 0
        routes = [
            Route("/health", self.health),
            Route("/version", self.version),
            Route("/v1/models", self.models),
            Route("/metrics", self.iterations),
            Route("/standin/fault", self.set_fault, methods=["POST"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.completions, methods=["POST"]),
        ]
        if perf_metrics:
            routes.append(Route("/prometheus/metrics", self.prometheus))
        self.app = Starlette(routes=routes)

    async def health(self, request: Request) -> Response:
        while self.fault.get("kind") == "stuck" and not await request.is_disconnected():
            await asyncio.sleep(0.01)
        if self.fault.get("kind") == "unhealthy":
            return PlainTextResponse(
                "LLM is unavailable. Please check the server logs for more details.", 503
            )
        return Response()

    async def version(self, request: Request) -> Response:
        return JSONResponse({"version": VERSION})

    async def models(self, request: Request) -> Response:
        model = {"id": self.model, "object": "model", "created": 1, "owned_by": "tensorrt_llm"}
        return JSONResponse({"object": "list", "data": [model]})

    async def iterations(self, request: Request) -> Response:
        return JSONResponse([{"iter": 1, "numActiveRequests": self.running}])

    async def prometheus(self, request: Request) -> Response:
        labels = f'{{engine_type="undefined",model_name="{self.model}"}}'
        values = {
            "num_requests_running": self.running,
            "num_requests_waiting": 0,
            "kv_cache_utilization": 0.25 if self.running else 0.0,
            "prompt_tokens_total": self.tokens_in,
            "generation_tokens_total": self.tokens_out,
            "time_to_first_token_seconds_count": self.answered,
            "time_to_first_token_seconds_sum": 0.01 * self.answered,
        }
        return PlainTextResponse(
            "".join(f"trtllm_{name}{labels} {value}\n" for name, value in values.items())
        )

    async def set_fault(self, request: Request) -> Response:
        self.fault = await request.json()
        return JSONResponse({})

    async def chat(self, request: Request) -> Response:
        body = await self._body(request)
        if not body.get("messages"):
            return flat_error("messages: must not be empty")
        answer = self._answer(body["messages"][-1]["content"], body)
        head = {"id": f"chatcmpl-{len(self.seen)}", "created": 1, "model": self.model}

        def chunk(text: str, reason: str | None, *, first: bool = False) -> Json:
            delta = {"role": "assistant", "content": ""} if first else {"content": text}
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            return {**head, "object": "chat.completion.chunk", "choices": [choice]}

        if body.get("stream"):
            return self._stream(request, body, answer, chunk, chunk("", None, first=True))
        return await self._whole(
            request,
            answer,
            lambda: {
                **head,
                "object": "chat.completion",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": answer.text},
                        "finish_reason": answer.reason,
                    }
                ],
                "usage": answer.usage(),
            },
        )

    async def completions(self, request: Request) -> Response:
        body = await self._body(request)
        prompt = body["prompt"]
        answer = self._answer(prompt if isinstance(prompt, str) else " ".join(map(str, prompt)), body)
        head = {"id": f"cmpl-{len(self.seen)}", "created": 1, "model": self.model}

        def chunk(text: str, reason: str | None) -> Json:
            choice = {"index": 0, "text": text, "finish_reason": reason}
            return {**head, "object": "text_completion", "choices": [choice]}

        if body.get("stream"):
            return self._stream(request, body, answer, chunk, None)
        return await self._whole(
            request, answer, lambda: {**chunk(answer.text, answer.reason), "usage": answer.usage()}
        )

    async def _body(self, request: Request) -> Json:
        body: Json = json.loads(await request.body())
        self.seen.append((request.url.path, body))
        return body

    def _answer(self, text: str, body: Json) -> Answer:
        fault = self.fault
        if fault.get("kind") not in ("unhealthy", "stuck"):
            self.fault = {}
        return Answer(text, body.get("max_tokens") or body.get("max_completion_tokens"), fault)

    async def _whole(self, request: Request, answer: Answer, make: Callable[[], Json]) -> Response:
        try:
            async for _ in self._words(request, answer):
                pass
        except RuntimeError as error:
            return flat_error(str(error))
        return JSONResponse(make())

    def _stream(
        self, request: Request, body: Json, answer: Answer, chunk: Callable[..., Json], first: Json | None
    ) -> Response:
        """Without a way to tell an error: what `_words` raises ends the connection."""

        async def events() -> AsyncIterator[bytes]:
            if first is not None:
                yield event(first)
            async for word in self._words(request, answer):
                yield event(chunk(word, None))
            yield event(chunk("", answer.reason))
            if (body.get("stream_options") or {}).get("include_usage"):
                yield event({**chunk("", None), "choices": [], "usage": answer.usage()})
            yield b"data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def _words(self, request: Request, answer: Answer) -> AsyncIterator[str]:
        self.running += 1
        try:
            while answer.kind == "hang" and not await request.is_disconnected():
                await asyncio.sleep(0.01)
            for at, word in enumerate(answer.words):
                if answer.kind == "error" and at >= answer.after:
                    break
                yield word
                await asyncio.sleep(0.001)
            if answer.kind == "error":
                await asyncio.sleep(0.2)  # what came before is out, and read by itself
                raise RuntimeError(FAILED)
            self.answered += 1
            self.tokens_in += answer.tokens_in
            self.tokens_out += len(answer.words)
        finally:
            self.running -= 1


class Answer:
    """One text on its way back."""

    def __init__(self, text: str, length_max: int | None, fault: Json) -> None:
        words = [f"{word} " for word in text.split()]
        self.tokens_in = len(words)
        self.words = words[:length_max]
        self.reason = "stop" if len(self.words) == len(words) else "length"
        self.kind = fault.get("kind")
        self.after = fault.get("after", 0)

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


def flat_error(message: str) -> Response:
    """Its errors are not under `error`."""
    body = {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}
    return JSONResponse(body, 400)


def event(fields: Json) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="trtllm-serve (stand-in)")
    parser.add_argument("verb", choices=["serve"])
    parser.add_argument("model", type=Path)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--config", type=Path, required=True)
    known, _ = parser.parse_known_args()
    config = yaml.safe_load(known.config.read_text())
    # As there: a model's folder gives it its name.
    standin = TensorRtLlmStandin(known.model.name, perf_metrics=config.get("return_perf_metrics", False))
    sys.stderr.write(f"stand-in for TensorRT-LLM on {known.host}:{known.port}\n")
    uvicorn.run(standin.app, host=known.host, port=known.port, log_level="critical", lifespan="off")


if __name__ == "__main__":
    main()
