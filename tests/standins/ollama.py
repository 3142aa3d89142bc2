"""A stand-in for `ollama serve`: no model, no words of its own, but Ollama's HTTP as it is published.

Made from Ollama's docs/api.md and its source at 0.33 (api/types.go, server/routes.go, middleware/openai.go,
openai/openai.go). It has what Inferry and the `ollama` client use of it: models fetched, loaded, listed and let
go; /api/generate, /api/chat and /api/embed; /v1/models, chat, completions and embeddings. Its answer to a text is
that text again, word by word, and a word is a token.

Settings come as they come to Ollama, by OLLAMA_HOST and OLLAMA_KEEP_ALIVE, and those that only it has by
STANDIN_LIBRARY (names that can be fetched) and STANDIN_MODELS
(names that are there). POST /standin/fault {"kind": ..., "after": N} breaks the next answer:

    cut     the runner dies after N words: `{"error": ...}` as a line, and through /v1 an empty chunk and the end
            of the stream, with neither finish_reason nor [DONE] (middleware/openai.go reads an error as an answer)
    busy    503 as when its queue is full
    reset   the connection is gone after N words
    hang    no answer until the client goes away

    python -m tests.standins.ollama serve
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

VERSION = "0.33.1-standin"
BUSY = "server busy, please try again.  maximum pending requests exceeded"
RUNNER_DIED = "an error was encountered while running the model: unexpected EOF"
FOREVER = timedelta(days=365 * 200)
Json = dict[str, Any]


class Refusal(Exception):
    """An answer that is no 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class OllamaStandin:
    """State and handlers. `seen` has every request, `loaded` the models in memory with the time they go."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.library = {full(name) for name in environ.get("STANDIN_LIBRARY", "").split(",") if name}
        self.models = {full(name) for name in environ.get("STANDIN_MODELS", "").split(",") if name}
        self.keep_alive = environ.get("OLLAMA_KEEP_ALIVE", "5m")
        self.loaded: dict[str, datetime] = {}
        self.seen: list[tuple[str, Json]] = []
        self.fault: Json = {}
        routes = [
            Route("/", self.root, methods=["GET"]),
            Route("/standin/fault", self.set_fault, methods=["POST"]),
            Route("/standin/seen", self.tell_seen, methods=["GET"]),
            Route("/api/version", self.version, methods=["GET"]),
            Route("/api/tags", self.tags, methods=["GET"]),
            Route("/api/ps", self.running, methods=["GET"]),
            Route("/api/show", self.show, methods=["POST"]),
            Route("/api/pull", self.pull, methods=["POST"]),
            Route("/api/delete", self.delete, methods=["DELETE"]),
            Route("/api/generate", self.generate, methods=["POST"]),
            Route("/api/chat", self.chat, methods=["POST"]),
            Route("/api/embed", self.embed, methods=["POST"]),
            Route("/v1/models", self.v1_models, methods=["GET"]),
            Route("/v1/chat/completions", self.v1_chat, methods=["POST"]),
            Route("/v1/completions", self.v1_completions, methods=["POST"]),
            Route("/v1/embeddings", self.v1_embeddings, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes, exception_handlers={Refusal: refused})

    # --- about itself ---------------------------------------------------------------------------------

    async def root(self, request: Request) -> Response:
        return PlainTextResponse("Ollama is running")

    async def version(self, request: Request) -> Response:
        return JSONResponse({"version": VERSION})

    async def set_fault(self, request: Request) -> Response:
        self.fault = await request.json()
        return JSONResponse({})

    async def tell_seen(self, request: Request) -> Response:
        return JSONResponse(self.seen)

    async def tags(self, request: Request) -> Response:
        models = [{**described(name), "modified_at": now().isoformat()} for name in sorted(self.models)]
        return JSONResponse({"models": models})

    async def running(self, request: Request) -> Response:
        models = [
            {**described(name), "size_vram": 0, "context_length": 4096, "expires_at": until.isoformat()}
            for name, until in self.loaded.items()
            if until > now()
        ]
        return JSONResponse({"models": models})

    async def show(self, request: Request) -> Response:
        name = self._present(await self._body(request))
        found = described(name)
        info = {"general.architecture": "standin", "general.parameter_count": 0}
        return JSONResponse(
            {
                "modelfile": f"FROM {name}",
                "parameters": "",
                "template": "{{ .Prompt }}",
                "details": found["details"],
                "model_info": info,
                "capabilities": ["completion"],
                "modified_at": now().isoformat(),
            }
        )

    # --- models ---------------------------------------------------------------------------------------

    async def pull(self, request: Request) -> Response:
        body = await self._body(request)
        name = full(body.get("model") or body.get("name") or "")
        steps: list[Json] = [{"status": "pulling manifest"}]
        if name in self.library | self.models:
            digest = described(name)["digest"]
            layer = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": 100}
            steps += [{**layer, "completed": done} for done in (0, 50, 100)]
            steps += [{"status": each} for each in ("verifying sha256 digest", "writing manifest", "success")]
            self.models.add(name)
        else:
            steps.append({"error": "pull model manifest: file does not exist"})
        if body.get("stream") is False:
            return JSONResponse(steps[-1], 500 if "error" in steps[-1] else 200)
        return lines_of(steps)

    async def delete(self, request: Request) -> Response:
        name = self._present(await self._body(request))
        self.models.discard(name)
        self.loaded.pop(name, None)
        return Response()

    def _present(self, body: Json) -> str:
        written = body.get("model") or body.get("name") or ""
        if full(written) not in self.models:
            raise Refusal(404, f"model '{written}' not found")
        return full(written)

    def _load(self, name: str, keep_alive: object) -> None:
        stays = self.keep_alive if keep_alive is None else keep_alive
        if stays in (0, "0"):
            self.loaded.pop(name, None)
        else:
            pinned = str(stays).startswith("-")
            self.loaded[name] = now() + (FOREVER if pinned else timedelta(minutes=5))

    # --- answers, natively ----------------------------------------------------------------------------

    async def generate(self, request: Request) -> Response:
        body = await self._body(request)
        name = self._present(body)
        self._load(name, body.get("keep_alive"))
        if not body.get("prompt"):
            reason = "unload" if body.get("keep_alive") in (0, "0") else "load"
            return JSONResponse({**stamp(body["model"]), "response": "", "done": True, "done_reason": reason})
        answer = self._answer(body["prompt"], body.get("options") or {})
        return await self._native(request, body, answer, lambda text: {"response": text})

    async def chat(self, request: Request) -> Response:
        body = await self._body(request)
        name = self._present(body)
        self._load(name, body.get("keep_alive"))
        messages = body.get("messages") or []
        if not messages:
            empty = {"message": {"role": "assistant", "content": ""}}
            return JSONResponse({**stamp(body["model"]), **empty, "done": True, "done_reason": "load"})
        answer = self._answer(messages[-1]["content"], body.get("options") or {})
        return await self._native(
            request, body, answer, lambda text: {"message": {"role": "assistant", "content": text}}
        )

    async def _native(self, request: Request, body: Json, answer: Answer, wrap: Any) -> Response:
        if body.get("stream") is False:
            await answer.refuse_or_hang(request)
            whole = wrap("".join(answer.words))
            return JSONResponse({**stamp(body["model"]), **whole, **answer.last()})

        async def lines() -> AsyncIterator[bytes]:
            async for word in answer.pieces(request):
                yield line({**stamp(body["model"]), **wrap(word), "done": False})
            if answer.died:
                yield line({"error": RUNNER_DIED})
            else:
                yield line({**stamp(body["model"]), **wrap(""), **answer.last()})

        await answer.refuse_or_hang(request, streamed=True)
        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def embed(self, request: Request) -> Response:
        body = await self._body(request)
        self._load(self._present(body), body.get("keep_alive"))
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        count = sum(len(words_of(text)) for text in texts)
        vectors = [vector(text) for text in texts]
        return JSONResponse(
            {"model": body["model"], "embeddings": vectors, "total_duration": 1, "prompt_eval_count": count}
        )

    # --- answers, as OpenAI's -------------------------------------------------------------------------

    async def v1_models(self, request: Request) -> Response:
        data = [
            {"id": name, "object": "model", "created": 1, "owned_by": "library"}
            for name in sorted(self.models)
        ]
        return JSONResponse({"object": "list", "data": data})

    async def v1_chat(self, request: Request) -> Response:
        body = await self._body(request)
        if not body.get("messages"):
            raise Refusal(400, "[] is too short - 'messages'")
        answer = self._v1_answer(body, body["messages"][-1]["content"])
        head = {"id": "chatcmpl-7", "created": 1, "model": body["model"], "system_fingerprint": "fp_ollama"}
        if not body.get("stream"):
            await answer.refuse_or_hang(request)
            message = {"role": "assistant", "content": "".join(answer.words)}
            choice = {"index": 0, "message": message, "finish_reason": answer.reason}
            return JSONResponse(
                {**head, "object": "chat.completion", "choices": [choice], "usage": answer.usage()}
            )

        def chunk(text: str, reason: str | None) -> Json:
            delta = {"role": "assistant", "content": text}
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            return {**head, "object": "chat.completion.chunk", "choices": [choice]}

        return await self._v1_stream(request, body, answer, chunk, {})

    async def v1_completions(self, request: Request) -> Response:
        body = await self._body(request)
        if not isinstance(body.get("prompt"), str):
            raise Refusal(400, "json: cannot unmarshal array into Go struct field CompletionRequest.prompt")
        answer = self._v1_answer(body, body["prompt"])
        head = {"id": "cmpl-7", "object": "text_completion", "created": 1, "model": body["model"]}
        head["system_fingerprint"] = "fp_ollama"
        if not body.get("stream"):
            await answer.refuse_or_hang(request)
            choice = {"text": "".join(answer.words), "index": 0, "finish_reason": answer.reason}
            return JSONResponse({**head, "choices": [choice], "usage": answer.usage()})

        def chunk(text: str, reason: str | None) -> Json:
            return {**head, "choices": [{"text": text, "index": 0, "finish_reason": reason}]}

        # Asked for usage, Ollama puts an empty one on every chunk here.
        empty = {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}
        return await self._v1_stream(request, body, answer, chunk, empty if asks_usage(body) else {})

    async def v1_embeddings(self, request: Request) -> Response:
        body = await self._body(request)
        self._load(self._present(body), None)
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [
            {"object": "embedding", "index": at, "embedding": vector(text)} for at, text in enumerate(texts)
        ]
        count = sum(len(words_of(text)) for text in texts)
        usage = {"prompt_tokens": count, "total_tokens": count}
        return JSONResponse({"object": "list", "data": data, "model": body["model"], "usage": usage})

    def _v1_answer(self, body: Json, text: str) -> Answer:
        self._load(self._present(body), None)
        limit = body.get("max_tokens")
        return self._answer(text, {} if limit is None else {"num_predict": limit})

    async def _v1_stream(
        self, request: Request, body: Json, answer: Answer, chunk: Any, on_each: Json
    ) -> Response:
        async def events() -> AsyncIterator[bytes]:
            async for word in answer.pieces(request):
                yield event({**chunk(word, None), **on_each})
            if answer.died:
                yield event({**chunk("", None), "model": ""})
                return
            yield event({**chunk("", answer.reason), **on_each})
            if asks_usage(body):
                yield event({**chunk("", None), "choices": [], "usage": answer.usage()})
            yield b"data: [DONE]\n\n"

        await answer.refuse_or_hang(request, streamed=True)
        return StreamingResponse(events(), media_type="text/event-stream")

    # --------------------------------------------------------------------------------------------------

    async def _body(self, request: Request) -> Json:
        try:
            body: Json = json.loads(await request.body())
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        self.seen.append((request.url.path, body))
        return body

    def _answer(self, text: str, options: Json) -> Answer:
        fault, self.fault = self.fault, {}
        return Answer(words_of(text), options.get("num_predict"), fault)


class Answer:
    """One text on its way back."""

    def __init__(self, prompt: list[str], length_max: int | None, fault: Json) -> None:
        self.prompt_tokens = len(prompt)
        self.words = prompt if length_max is None or length_max < 0 else prompt[:length_max]
        self.reason = "stop" if len(self.words) == len(prompt) else "length"
        self.died = False
        self._kind = fault.get("kind")
        self._after = fault.get("after", 0)

    async def refuse_or_hang(self, request: Request, *, streamed: bool = False) -> None:
        """Whatever keeps it from beginning."""
        if self._kind == "busy":
            raise Refusal(503, BUSY)
        if self._kind == "cut" and not streamed:
            raise Refusal(500, RUNNER_DIED)
        while self._kind == "hang" and not await request.is_disconnected():
            await asyncio.sleep(0.02)

    async def pieces(self, request: Request) -> AsyncIterator[str]:
        for at, word in enumerate(self.words):
            if self._kind in ("cut", "reset") and at >= self._after:
                await asyncio.sleep(0.2)  # what came before is out, and read by itself
                if self._kind == "reset":
                    raise ConnectionResetError("on command")
                self.died = True
                return
            yield word
            await asyncio.sleep(0)

    def last(self) -> Json:
        """What closes a native answer; durations are in ns."""
        counts = {"prompt_eval_count": self.prompt_tokens, "eval_count": len(self.words)}
        durations = {"total_duration": 4, "load_duration": 1, "prompt_eval_duration": 1, "eval_duration": 2}
        return {"done": True, "done_reason": self.reason, **counts, **durations}

    def usage(self) -> Json:
        completion = len(self.words)
        total = self.prompt_tokens + completion
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": total,
        }


async def refused(request: Request, error: Exception) -> Response:
    """Natively a bare text; through /v1 OpenAI's object."""
    assert isinstance(error, Refusal)
    message: object = str(error)
    if request.url.path.startswith("/v1/"):
        kind = {400: "invalid_request_error", 404: "not_found_error"}.get(error.status, "api_error")
        message = {"message": str(error), "type": kind, "param": None, "code": None}
    return JSONResponse({"error": message}, error.status)


def full(name: str) -> str:
    """With its tag, as Ollama keeps names."""
    return name if ":" in name or not name else f"{name}:latest"


def described(name: str) -> Json:
    details = {"parent_model": "", "format": "standin", "family": "standin", "families": ["standin"]}
    details |= {"parameter_size": "0", "quantization_level": "none"}
    digest = "sha256:" + name.encode().hex().ljust(64, "0")[:64]
    return {"name": name, "model": name, "size": 100, "digest": digest, "details": details}


def stamp(written: str) -> Json:
    return {"model": written, "created_at": now().isoformat()}


def words_of(text: str) -> list[str]:
    return [f"{word} " for word in text.split()]


def vector(text: str) -> list[float]:
    return [float(len(text)), 1.0]


def asks_usage(body: Json) -> bool:
    return bool((body.get("stream_options") or {}).get("include_usage"))


def lines_of(steps: list[Json]) -> Response:
    return StreamingResponse(
        iter([line(step) for step in steps]), media_type="application/x-ndjson", status_code=200
    )


def line(value: Json) -> bytes:
    return json.dumps(value).encode() + b"\n"


def event(value: Json) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def now() -> datetime:
    return datetime.now(UTC)


def main() -> int:
    if sys.argv[1:] != ["serve"]:
        sys.stderr.write("Error: unknown command\n")
        return 1
    host, _, port = os.environ.get("OLLAMA_HOST", "127.0.0.1:11434").rpartition(":")
    sys.stderr.write(f"stand-in for ollama on {host}:{port}\n")
    uvicorn.run(
        OllamaStandin(os.environ).app,
        host=host.strip("[]"),
        port=int(port),
        log_level="error",
        lifespan="off",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
