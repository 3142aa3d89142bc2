"""A stand-in for TGI's router: no model, no words of its own, but TGI's HTTP as it is published.

Made from TGI's docs/openapi.json, docs/source/reference/metrics.md and router/src/server.rs of its 3rd version. It has
what Inferry and the `huggingface_hub` client use of it: /, /generate, /generate_stream, /info, /health, /metrics and
the two OpenAI routes. Its answer to a text is that text again, word by word, and a word is a token.

POST /standin/fault {"kind": ..., "after": N} breaks the next answer:

    error       generation fails after N tokens: 424, or in a stream an event `{"error": ..., "error_type": ...}`, and
                through /v1 [DONE] behind it (TGI ends every stream there with [DONE])
    overloaded  as above its --max-concurrent-requests: 429, or in a stream status 200 and that as its first event
    cut         the connection is gone after N tokens
    hang        no answer until the client goes away
    unhealthy   /health answers 503 from now on
    stuck       /health does not answer any more

    API_KEY=... python -m tests.standins.tgi --hostname 127.0.0.1 --port 3000 [any other flag of the launcher]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

VERSION = "3.3.6-standin"
MODEL = "standin/echo"
Json = dict[str, Any]
Wrap = Callable[["Answer", int], Json]

_STATUS = {"generation": 424, "overloaded": 429, "validation": 422}


class Refusal(Exception):
    """TGI's errors: a text and a type, beside each other."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.status = _STATUS[kind]
        self.body = {"error": message, "error_type": kind}


class TgiStandin:
    """State and handlers. `seen` has every request for an answer."""

    def __init__(self, api_key: str | None = None, max_concurrent: int = 128, max_tokens: int = 4096) -> None:
        self.api_key = api_key
        self.max_concurrent = max_concurrent
        self.max_tokens = max_tokens
        self.seen: list[tuple[str, Json]] = []
        self.fault: Json = {}
        self.running = 0
        self.answered = self.tokens_in = self.tokens_out = 0
        routes = [
            Route("/health", self.health),
            Route("/info", self.info),
            Route("/metrics", self.metrics),
            Route("/v1/models", self.models),
            Route("/standin/fault", self.set_fault, methods=["POST"]),
            Route("/", self.generate_either, methods=["POST"]),
            Route("/generate", self.generate, methods=["POST"]),
            Route("/generate_stream", self.generate_stream, methods=["POST"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.completions, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes, exception_handlers={Refusal: refused})

    # --- open to all ----------------------------------------------------------------------------------

    async def health(self, request: Request) -> Response:
        while self.fault.get("kind") == "stuck" and not await request.is_disconnected():
            await asyncio.sleep(0.01)
        if self.fault.get("kind") == "unhealthy":
            return JSONResponse({"error": "unhealthy", "error_type": "healthcheck"}, 503)
        return Response()

    async def info(self, request: Request) -> Response:
        return JSONResponse(
            {
                "model_id": MODEL,
                "model_sha": None,
                "model_pipeline_tag": "text-generation",
                "max_concurrent_requests": self.max_concurrent,
                "max_best_of": 2,
                "max_stop_sequences": 4,
                "max_input_tokens": self.max_tokens - 1,
                "max_total_tokens": self.max_tokens,
                "validation_workers": 2,
                "max_client_batch_size": 4,
                "router": "standin",
                "version": VERSION,
                "sha": None,
                "docker_label": None,
            }
        )

    async def models(self, request: Request) -> Response:
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": MODEL}
        return JSONResponse({"object": "list", "data": [model]})

    async def metrics(self, request: Request) -> Response:
        """Names of docs/source/reference/metrics.md; a name appears with its first value, as there."""
        lines = [f"tgi_batch_current_size {self.running}", "tgi_queue_size 0"]
        if self.answered:
            lines += [
                f"tgi_request_success {self.answered}",
                'tgi_request_generated_tokens_bucket{le="+Inf"} ' + str(self.answered),
                f"tgi_request_generated_tokens_sum {self.tokens_out}",
                f"tgi_request_generated_tokens_count {self.answered}",
                f"tgi_request_input_length_sum {self.tokens_in}",
                f"tgi_request_input_length_count {self.answered}",
            ]
        return PlainTextResponse("\n".join(lines) + "\n")

    async def set_fault(self, request: Request) -> Response:
        self.fault = await request.json()
        return JSONResponse({})

    # --- its own routes -------------------------------------------------------------------------------

    async def generate_either(self, request: Request) -> Response:
        body = await self._body(request)
        return await self._native(request, body, streamed=bool(body.get("stream")))

    async def generate(self, request: Request) -> Response:
        return await self._native(request, await self._body(request), streamed=False)

    async def generate_stream(self, request: Request) -> Response:
        return await self._native(request, await self._body(request), streamed=True)

    async def _native(self, request: Request, body: Json, *, streamed: bool) -> Response:
        parameters = body.get("parameters") or {}
        answer = self._answer(body["inputs"], parameters.get("max_new_tokens", 100))
        detailed = bool(parameters.get("details"))
        if streamed:
            return self._stream(
                request, answer, lambda each, at: native_event(each, at, detailed), done=False
            )
        await self._complete(request, answer)
        whole: Json = {"generated_text": answer.text}
        if detailed:
            tokens = [token(at, word) for at, word in enumerate(answer.words)]
            whole["details"] = {**answer.details(), "prefill": [], "tokens": tokens}
        # The root answers with a list, as the hub's API does.
        return JSONResponse([whole] if request.url.path == "/" else whole)

    # --- OpenAI's routes ------------------------------------------------------------------------------

    async def chat(self, request: Request) -> Response:
        body = await self._body(request)
        answer = self._answer(body["messages"][-1]["content"], body.get("max_tokens", 100))
        head = {"id": "", "created": 1, "model": MODEL, "system_fingerprint": f"{VERSION}-native"}
        if body.get("stream"):
            usage = bool((body.get("stream_options") or {}).get("include_usage"))

            def chunk(answer: Answer, at: int) -> Json:
                last = at == len(answer.words) - 1
                delta = {"role": "assistant", "content": answer.words[at]}
                choice = {"index": 0, "delta": delta, "logprobs": None}
                choice["finish_reason"] = answer.openai_reason if last else None
                return {**head, "object": "chat.completion.chunk", "choices": [choice], "usage": None}

            extra = {**head, "object": "chat.completion.chunk", "choices": [], "usage": answer.usage()}
            return self._stream(request, answer, chunk, done=True, extra=extra if usage else None)
        await self._complete(request, answer)
        message = {"role": "assistant", "content": answer.text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.openai_reason}
        return JSONResponse(
            {**head, "object": "chat.completion", "choices": [choice], "usage": answer.usage()}
        )

    async def completions(self, request: Request) -> Response:
        body = await self._body(request)
        if not isinstance(body["prompt"], str):
            raise Refusal("Input validation error: `prompt` must be a text", "validation")
        answer = self._answer(body["prompt"], body.get("max_tokens", 100))
        head = {"id": "", "object": "text_completion", "created": 1, "model": MODEL}
        head["system_fingerprint"] = f"{VERSION}-native"

        def chunk(answer: Answer, at: int) -> Json:
            last = at == len(answer.words) - 1
            choice = {"index": 0, "text": answer.words[at], "logprobs": None}
            # An empty text, not null, until the end; there the usage is in any case.
            choice["finish_reason"] = answer.reason if last else ""
            return {**head, "choices": [choice], **({"usage": answer.usage()} if last else {})}

        if body.get("stream"):
            return self._stream(request, answer, chunk, done=True)
        await self._complete(request, answer)
        choice = {"index": 0, "text": answer.text, "logprobs": None, "finish_reason": answer.openai_reason}
        return JSONResponse({**head, "choices": [choice], "usage": answer.usage()})

    # --------------------------------------------------------------------------------------------------

    async def _body(self, request: Request) -> Json:
        if self.api_key is not None and request.headers.get("authorization") != f"Bearer {self.api_key}":
            raise Unauthorized
        body: Json = json.loads(await request.body())
        self.seen.append((request.url.path, body))
        return body

    def _answer(self, text: str, length_max: int) -> Answer:
        fault = self.fault
        if fault.get("kind") not in ("unhealthy", "stuck"):
            self.fault = {}
        answer = Answer(text, length_max, fault)
        if answer.tokens_in >= self.max_tokens:
            answer.refusal = Refusal("Input validation error: `inputs` must have less tokens", "validation")
        elif self.running >= self.max_concurrent or fault.get("kind") == "overloaded":
            answer.refusal = Refusal("Model is overloaded", "overloaded")
        return answer

    async def _complete(self, request: Request, answer: Answer) -> None:
        """Lets a whole answer take place; raises what keeps it from that."""
        if answer.refusal is not None:
            raise answer.refusal
        async for _ in self._words(request, answer):
            pass

    def _stream(
        self, request: Request, answer: Answer, wrap: Wrap, *, done: bool, extra: Json | None = None
    ) -> Response:
        """Status 200 whatever happens: its errors are events."""

        async def events() -> AsyncIterator[bytes]:
            try:
                if answer.refusal is not None:
                    raise answer.refusal
                async for at in self._words(request, answer):
                    yield event(wrap(answer, at))
                if extra is not None:
                    yield event(extra)
            except Refusal as refusal:
                yield event(refusal.body)
            if done:
                yield b"data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def _words(self, request: Request, answer: Answer) -> AsyncIterator[int]:
        self.running += 1
        try:
            while answer.kind == "hang" and not await request.is_disconnected():
                await asyncio.sleep(0.01)
            for at in range(len(answer.words)):
                if answer.kind in ("error", "cut") and at >= answer.after:
                    break
                yield at
                await asyncio.sleep(0.001)
            if answer.kind in ("error", "cut"):
                await asyncio.sleep(0.2)  # what came before is out, and read by itself
            if answer.kind == "error":
                raise Refusal("Request failed during generation: the shard died", "generation")
            if answer.kind == "cut":
                raise ConnectionResetError
            self.answered += 1
            self.tokens_in += answer.tokens_in
            self.tokens_out += len(answer.words)
        finally:
            self.running -= 1


class Answer:
    """One text on its way back."""

    def __init__(self, text: str, length_max: int, fault: Json) -> None:
        words = [f"{word} " for word in text.split()]
        self.tokens_in = len(words)
        self.words = words[:length_max]
        self.reason = "eos_token" if len(words) <= length_max else "length"
        self.refusal: Refusal | None = None
        self.kind = fault.get("kind")
        self.after = fault.get("after", 0)

    @property
    def text(self) -> str:
        return "".join(self.words)

    @property
    def openai_reason(self) -> str:
        return "stop" if self.reason == "eos_token" else self.reason

    def details(self) -> Json:
        return {"finish_reason": self.reason, "generated_tokens": len(self.words), "seed": None}

    def usage(self) -> Json:
        total = self.tokens_in + len(self.words)
        return {
            "prompt_tokens": self.tokens_in,
            "completion_tokens": len(self.words),
            "total_tokens": total,
        }


class Unauthorized(Refusal):
    """401, and nothing more is said."""

    def __init__(self) -> None:
        Exception.__init__(self)
        self.status = 401
        self.body = {}


async def refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse(error.body, error.status) if error.body else Response(status_code=error.status)


def token(at: int, word: str) -> Json:
    return {"id": at, "text": word, "logprob": -0.1, "special": False}


def native_event(answer: Answer, at: int, detailed: bool) -> Json:
    """`generated_text` is null until the last event: that is how a client knows."""
    last = at == len(answer.words) - 1
    details = {**answer.details(), "input_length": answer.tokens_in} if last and detailed else None
    return {
        "index": at + 1,
        "token": token(at, answer.words[at]),
        "generated_text": answer.text if last else None,
        "details": details,
    }


def event(fields: Json) -> bytes:
    return b"data:" + json.dumps(fields).encode() + b"\n\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="text-generation-launcher (stand-in)")
    parser.add_argument("--hostname", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-concurrent-requests", type=int, default=128)
    known, _ = parser.parse_known_args()
    app = TgiStandin(os.environ.get("API_KEY"), known.max_concurrent_requests).app
    sys.stderr.write(f"stand-in for TGI on {known.hostname}:{known.port}\n")
    uvicorn.run(app, host=known.hostname, port=known.port, log_level="critical", lifespan="off")


if __name__ == "__main__":
    main()
