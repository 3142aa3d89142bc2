"""TGI's and Ollama's APIs on the wire. Every test but one runs over both fronts: inside uvicorn's protocol, and through ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from inferry.core.api_key import ApiKey
from inferry.core.filter_settings import Filter
from inferry.core.limits import Limits
from inferry.core.outcome import Ending, UsageFrom
from inferry.core.replica import ReplicaState
from inferry.gateway.filters.filter_set import FilterSet
from inferry.gateway.fronts.pages import FRONT_PAGES, FRONT_QUESTIONS
from inferry.gateway.fronts.table import FRONTS
from inferry.ledger.key_text import digest_of, make_key_text, prefix_of

from .gateway_harness import (
    SSE_HEAD,
    Running,
    Seen,
    chunk,
    json_answer,
    post,
    raw,
    running_gateway,
    split_response,
    upstream,
    view,
)

Start = Callable[..., AbstractAsyncContextManager[Running]]
BODIES: dict[str, dict[str, Any]] = {
    "/generate": {"inputs": "hi"},
    "/generate_stream": {"inputs": "hi"},
    "/": {"inputs": "hi", "stream": True},
    "/api/chat": {"model": "chat", "messages": [{"role": "user", "content": "hi"}]},
    "/api/generate": {"model": "chat", "prompt": "hi"},
    "/api/embed": {"model": "chat", "input": "hi"},
    "/api/show": {"model": "chat"},
}
USAGE = b'"usage":{"prompt_tokens":7,"completion_tokens":5}'
CHAT_EVENTS = (
    b'data: {"choices":[{"delta":{"role":"assistant","content":null}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"gr\xc3\xbc"}}]}\n\ndata: {"choices":[{"delta":{"con',
    b'tent":"n"}}]}\n\n',
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"choices":[],' + USAGE + b"}\n\ndata: [DONE]\n\n",
)
TEXT_EVENTS = (
    b'data: {"choices":[{"text":" a"}]}\n\n',
    b'data: {"choices":[{"text":" b","finish_reason":"length"}]}\n\n',
    b'data: {"choices":[],' + USAGE + b"}\n\ndata: [DONE]\n\n",
)
CHAT_ANSWER = b'{"choices":[{"message":{"content":"gr\xc3\xbcn"},"finish_reason":"stop"}],' + USAGE + b"}"
TEXT_ANSWER = b'{"choices":[{"text":" a b","finish_reason":"length"}],' + USAGE + b"}"


@pytest.fixture(params=["protocol", "asgi"])
def start(request: pytest.FixtureRequest) -> Start:
    """`running_gateway`, by either front; engines are asked for usage, as most are."""
    return partial(running_gateway, relay_in_protocol=request.param == "protocol", asks_usage=True)


async def engine(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """A stand-in: answers chats, completions and embeddings as OpenAI describes them."""
    asked = json.loads(seen.body)
    is_chat = seen.path == "/v1/chat/completions"
    if seen.path == "/v1/embeddings":
        writer.write(json_answer(b'{"data":[{"index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":2}}'))
    elif asked.get("stream"):
        writer.write(SSE_HEAD)
        for piece in CHAT_EVENTS if is_chat else TEXT_EVENTS:
            writer.write(chunk(piece))
            await writer.drain()
            await asyncio.sleep(0.002)
        writer.write(b"0\r\n\r\n")
    else:
        writer.write(json_answer(CHAT_ANSWER if is_chat else TEXT_ANSWER))
    await writer.drain()


async def ask(
    running: Running, path: str, *headers: str, body: object = None, version: str = "1.1"
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body; the request is the path's own from BODIES unless another is given."""
    encoded = body if isinstance(body, bytes) else json.dumps(body or BODIES[path]).encode()
    return split_response(await raw(running.port, post(path, encoded, *headers, version=version)))


async def get(running: Running, path: str, *headers: str, method: str = "GET") -> tuple[int, Any]:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
    status, _, body = split_response(await raw(running.port, "\r\n".join([*lines, "", ""]).encode()))
    return status, json.loads(body) if body else None


def rows(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(row) for row in body.splitlines()]


def tgi_events(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(event.removeprefix(b"data:")) for event in body.split(b"\n\n") if event]


def test_every_path_has_a_body() -> None:
    """The tests below that go over all paths leave none out."""
    assert set(BODIES) == {*FRONTS, *FRONT_QUESTIONS}


# --- answers ------------------------------------------------------------------------------------------


async def test_tgi_answers_whole(start: Start) -> None:
    """/generate: a text and its details, from a completion; the outcome is the inner route's."""
    async with upstream(engine) as served, start([served.port]) as running:
        body = {"inputs": "hi", "parameters": {"details": True, "max_new_tokens": 2}}
        status, headers, got = await ask(running, "/generate", body=body)
        assert (status, headers["content-type"]) == (200, "application/json")
        assert int(headers["content-length"]) == len(got)
        assert headers["x-inferry-replica"] == "chat-0"
        answer = json.loads(got)
        assert answer["generated_text"] == " a b"
        assert (answer["details"]["finish_reason"], answer["details"]["generated_tokens"]) == ("length", 5)
        [seen] = served.seen
        assert seen.path == "/v1/completions"
        assert json.loads(seen.body)["max_tokens"] == 2
        outcome = await running.outcome()
        assert (outcome.route, outcome.ending, outcome.stream) == ("/v1/completions", Ending.COMPLETED, False)
        assert (outcome.prompt_tokens, outcome.completion_tokens) == (7, 5)


@pytest.mark.parametrize("path", ["/generate_stream", "/"])
async def test_tgi_streams(start: Start, path: str) -> None:
    """Events without [DONE], the engine asked for usage, and its own count in the details and in the outcome."""
    async with upstream(engine) as served, start([served.port]) as running:
        body = {**BODIES[path], "parameters": {"details": True}}
        status, headers, got = await ask(running, path, body=body)
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert b"[DONE]" not in got
        first, second, last = tgi_events(got)
        assert [each["token"]["text"] for each in (first, second, last)] == [" a", " b", ""]
        assert last["generated_text"].endswith(" a b")
        assert last["details"]["generated_tokens"] == 5
        assert json.loads(served.seen[0].body)["stream_options"] == {"include_usage": True}
        outcome = await running.outcome()
        assert outcome.stream
        assert (outcome.completion_tokens, outcome.usage_from) == (5, UsageFrom.ENGINE)


async def test_ollama_streams(start: Start) -> None:
    """Lines of JSON, the last one done and with the engine's own counts; the name is the client's."""
    async with upstream(engine) as served, start([served.port]) as running:
        for path, text in [("/api/chat", "message"), ("/api/generate", "response")]:
            status, headers, got = await ask(running, path, body={**BODIES[path], "model": "chat:latest"})
            assert (status, headers["content-type"]) == (200, "application/x-ndjson")
            *pieces, last = rows(got)
            said = [piece[text]["content"] if text == "message" else piece[text] for piece in pieces]
            assert said == ["grü", "n"]
            assert all(row["model"] == "chat:latest" for row in (*pieces, last))
            assert (last["done"], last["prompt_eval_count"], last["eval_count"]) == (True, 7, 5)
        assert {seen.path for seen in served.seen} == {"/v1/chat/completions"}
        outcome = await running.outcome(2)
        assert (outcome.completion_tokens, outcome.model, outcome.finish_reason) == (5, "chat", "stop")


async def test_ollama_answers_whole(start: Start) -> None:
    """`stream: false`: one object; embeddings too."""
    async with upstream(engine) as served, start([served.port]) as running:
        _, headers, got = await ask(running, "/api/chat", body={**BODIES["/api/chat"], "stream": False})
        assert int(headers["content-length"]) == len(got)
        answer = json.loads(got)
        assert (answer["message"]["content"], answer["done"], answer["eval_count"]) == ("grün", True, 5)
        _, _, vectors = await ask(running, "/api/embed")
        assert json.loads(vectors)["embeddings"] == [[0.5]]


async def test_a_piece_does_not_wait_for_the_next(start: Start) -> None:
    """A line is at the client while the engine is still silent about the next."""
    go_on = asyncio.Event()

    async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'))
        await go_on.wait()
        writer.write(chunk(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n') + b"0\r\n\r\n")

    async with upstream(handler) as served, start([served.port]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(post("/api/chat", json.dumps(BODIES["/api/chat"]).encode()))
        async with asyncio.timeout(5):
            await reader.readuntil(b'"done":false}\n')
            go_on.set()
            rest = await reader.read()
        writer.close()
        assert b'"done":true' in rest


async def test_http_1_0() -> None:
    """A client that knows no chunks gets a stream that ends with its connection. (Over ASGI, uvicorn sends chunks.)"""
    async with upstream(engine) as served, running_gateway([served.port]) as running:
        status, headers, got = await ask(running, "/api/chat", version="1.0")
        assert (status, rows(got)[-1]["done"]) == (200, True)
        assert "transfer-encoding" not in headers


async def test_openai_clients_notice_nothing(start: Start) -> None:
    """Beside the fronts, the inner routes are as they were: the usage that only the gateway asked for is taken out."""
    async with upstream(engine) as served, start([served.port]) as running:
        await ask(running, "/api/chat")
        chat = {**BODIES["/api/chat"], "stream": True}
        _, headers, got = await ask(running, "/v1/chat/completions", body=chat)
        assert headers["content-type"] == "text/event-stream"
        assert b"usage" not in got
        assert got.endswith(b"data: [DONE]\n\n")


# --- models -------------------------------------------------------------------------------------------


async def test_pages(start: Start) -> None:
    """Names and aliases in both APIs' words, to GET and HEAD."""
    async with upstream(engine) as served, start([served.port], aliases=["smol"]) as running:
        assert (await get(running, "/info"))[1]["model_id"] == "chat"
        assert [each["name"] for each in (await get(running, "/api/tags"))[1]["models"]] == ["chat", "smol"]
        assert [each["name"] for each in (await get(running, "/api/ps"))[1]["models"]] == ["chat", "smol"]
        assert (await get(running, "/api/version"))[1]["version"].count(".") == 2
        for path in FRONT_PAGES:
            assert await get(running, path, method="HEAD") == (200, None)
        _, _, shown = await ask(running, "/api/show", body={"model": "smol:latest"})
        assert json.loads(shown)["capabilities"] == ["completion", "embedding"]
        running.gateway.apply(view(served.port, state=ReplicaState.STARTING))
        assert (await get(running, "/api/ps"))[1] == {"models": []}
        assert served.seen == []
        assert {*FRONTS, *FRONT_PAGES, *FRONT_QUESTIONS} <= set((await get(running, "/"))[1]["api"])


async def test_loading_is_asking_whether_it_is_there(start: Start) -> None:
    """An empty prompt asks no engine: it is answered if a replica is ready, and refused as any request if none is."""
    async with upstream(engine) as served, start([served.port]) as running:
        status, headers, got = await ask(running, "/api/generate", body={"model": "chat:latest"})
        assert (status, json.loads(got)["done_reason"]) == (200, "load")
        assert headers["x-request-id"] == (await running.outcome()).request_id
        status, _, got = await ask(running, "/api/chat", body={"model": "nope", "messages": []})
        assert (status, "Known: chat" in json.loads(got)["error"]) == (404, True)
        running.gateway.apply(view(served.port, state=ReplicaState.STARTING))
        status, headers, got = await ask(running, "/api/generate", body={"model": "chat"})
        assert (status, list(json.loads(got))) == (503, ["error"])
        assert int(headers["retry-after"]) >= 1
        endings = [outcome.ending for outcome in running.outcomes]
        assert endings == [Ending.COMPLETED, Ending.REJECTED, Ending.FAILED]
        assert served.seen == []


async def test_the_header_names_the_model(start: Start) -> None:
    """TGI's bodies name none; a header may, and is held to what there is."""
    async with upstream(engine) as served, start([served.port], aliases=["smol"]) as running:
        await ask(running, "/generate", "X-Inferry-Model: smol")
        assert (await running.outcome()).model == "smol"
        status, _, got = await ask(running, "/generate", "X-Inferry-Model: nope")
        assert (status, json.loads(got)) == (
            404,
            {"error": "The model 'nope' does not exist here. Known: chat, smol."},
        )


async def test_a_route_that_the_engine_lacks(start: Start) -> None:
    """The error names the inner route, in the outer API's form."""
    routes = frozenset({"/v1/chat/completions"})
    async with upstream(engine) as served, start([served.port], routes=routes) as running:
        status, _, got = await ask(running, "/api/embed")
        assert (status, "/v1/embeddings" in json.loads(got)["error"]) == (404, True)
        status, _, got = await ask(running, "/generate")
        assert (status, json.loads(got)["error_type"]) == (400, "validation")
        assert b"none has /v1/completions" in got


# --- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", BODIES)
async def test_errors_speak_the_apis_language(start: Start, path: str) -> None:
    """No JSON, unknown fields and too long bodies are refused in the form that the path's clients read."""
    form = {"error"} if path.startswith("/api/") else {"error", "error_type"}
    long = json.dumps({**BODIES[path], "pad": "x" * 5000}).encode()
    async with upstream(engine) as served, start([served.port], body_max_bytes=4096) as running:
        for body, status in [(b"{", 400), (b"null", 400), (b'{"nonsense":1}', 400), (long, 413)]:
            got, headers, answer = await ask(running, path, body=body)
            assert got == status
            assert headers["content-type"] == "application/json"
            assert "x-request-id" in headers
            assert set(json.loads(answer)) == form
        assert served.seen == []


async def test_bodies_nested_deeply(start: Start) -> None:
    """However deep, a body is served or refused; near the limit of what can be read, too."""
    async with upstream(engine) as served, start([served.port]) as running:
        statuses = set()
        for depth in [10, *range(800, 1000, 10), 100_000]:
            schema = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
            body = b'{"model":"chat","messages":[{"role":"user"}],"format":' + schema + b"}"
            statuses.add((await ask(running, "/api/chat", body=body))[0])
            plain = b'{"model":"chat","stream":true,"messages":[{"role":"user"}],"x":' + schema + b"}"
            statuses.add((await ask(running, "/v1/chat/completions", body=plain))[0])
        assert statuses == {200, 400}


async def test_other_methods_and_paths(start: Start) -> None:
    """405 says which methods there are; what there is not is a 404. Both in the form of the API that was meant."""
    async with upstream(engine) as served, start([served.port]) as running:
        for path, method, allowed in [
            ("/generate", "GET", "POST"),
            ("/info", "DELETE", "GET, HEAD"),
            ("/", "PUT", "GET, HEAD, POST"),
            ("/api/show", "GET", "POST"),
            ("/api/chat", "GET", "POST"),
        ]:
            request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
            status, headers, body = split_response(await raw(running.port, request))
            assert (status, headers["allow"]) == (405, allowed)
            assert "error" in json.loads(body)
        for path, method, instead in [
            ("/api/pull", "POST", "To fetch or delete files, use 'inferry models'."),
            ("/api/delete", "DELETE", "which models there are, the deployment file says."),
            ("/api/embeddings", "POST", "use /api/embed, with 'input' instead of 'prompt'."),
            ("/api/chatt", "POST", "Did you mean '/api/chat'?"),
        ]:
            status, body = await get(running, path, method=method)
            assert (status, list(body)) == (404, ["error"])
            assert body["error"].startswith(f"There is no {method} {path} here")
            assert instead in body["error"]


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/embed", "/api/show"])
async def test_a_missing_model(start: Start, path: str) -> None:
    """The error lists the names that may stand there."""
    async with upstream(engine) as served, start([served.port], aliases=["smol"]) as running:
        status, _, got = await ask(running, path, body=b"{}")
        words = "Missing required parameter: 'model'. Name one of: chat, smol."
        assert (status, json.loads(got)) == (400, {"error": words})


async def test_an_engines_error_keeps_its_status(start: Start) -> None:
    """A refusal by the engine comes with its status and its words, for a stream as well."""

    async def refuses(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(b'{"error":{"message":"too long","type":"x"}}', b"400 Bad Request"))

    async with upstream(refuses) as served, start([served.port]) as running:
        for path in ("/generate", "/generate_stream", "/api/chat", "/api/embed"):
            status, headers, got = await ask(running, path)
            assert (status, headers["content-type"]) == (400, "application/json")
            assert json.loads(got)["error"] == "too long"


async def test_a_stream_that_breaks_ends_in_an_error(start: Start) -> None:
    """An engine that dies in the middle: the pieces so far, an error as the last one, and no end beside it."""

    async def dies(seen: Seen, writer: asyncio.StreamWriter) -> None:
        is_chat = seen.path == "/v1/chat/completions"
        writer.write(SSE_HEAD + chunk((CHAT_EVENTS if is_chat else TEXT_EVENTS)[0]))
        if is_chat:
            writer.write(chunk(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'))
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.close()

    async with upstream(dies) as served, start([served.port]) as running:
        status, _, got = await ask(running, "/api/chat")
        piece, error = rows(got)
        assert (status, piece["message"]["content"]) == (200, "a")
        assert list(error) == ["error"]
        status, _, got = await ask(running, "/generate_stream")
        piece, error = tgi_events(got)
        assert (status, piece["token"]["text"], error["error_type"]) == (200, " a", "generation")
        assert {outcome.ending for outcome in running.outcomes} == {Ending.FAILED}


async def test_an_answer_that_breaks_is_an_error(start: Start) -> None:
    """Of an answer that is no stream nothing has gone out when it breaks off: the client gets a whole error."""

    async def dies(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{")
        await writer.drain()
        writer.close()

    async with upstream(dies) as served, start([served.port]) as running:
        status, headers, got = await ask(running, "/generate")
        assert (status, json.loads(got)["error_type"]) == (502, "generation")
        assert int(headers["content-length"]) == len(got)
        assert (await running.outcome()).ending is Ending.FAILED


async def test_another_replica_takes_over(start: Start) -> None:
    """What fails before an answer began is tried elsewhere, as on every route."""

    async def hangs_up(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with (
        upstream(hangs_up) as broken,
        upstream(engine) as served,
        start([broken.port, served.port]) as running,
    ):
        for _ in range(2):
            status, _, got = await ask(running, "/api/chat")
            assert (status, rows(got)[-1]["done"]) == (200, True)
        assert max(outcome.attempts for outcome in running.outcomes) == 2


# --- the client's side --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/api/chat"])
async def test_a_client_that_leaves_frees_the_engine(start: Start, path: str) -> None:
    """Whether it waits for a whole answer or reads a stream: the engine's connection closes, the outcome is cancelled."""

    async def endless(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if json.loads(seen.body).get("stream"):
            first = TEXT_EVENTS[0] if seen.path == "/v1/completions" else CHAT_EVENTS[0]
            writer.write(SSE_HEAD + chunk(first) * 2)
            await writer.drain()
        await seen.closed.wait()

    async with upstream(endless) as served, start([served.port]) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(post(path, json.dumps(BODIES[path]).encode()))
        async with asyncio.timeout(5):
            while not served.seen:
                await asyncio.sleep(0.005)
            writer.close()
            await served.seen[0].closed.wait()
        assert (await running.outcome()).ending is Ending.CANCELLED
        assert running.gateway.deployments["chat"].balancer.slots["chat-0"].in_flight == 0


async def test_a_slow_client_slows_the_engine(start: Start) -> None:
    """A client that does not read stops the upstream read: translated pieces do not pile up either."""
    piece = b'data: {"choices":[{"delta":{"content":"' + b"x" * 65000 + b'"}}]}\n\n'
    total = 600  # 39 MB: far more than all socket buffers together
    sent = 0

    async def flood(seen: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(SSE_HEAD)
        for _ in range(total):
            writer.write(chunk(piece))
            await writer.drain()
            sent += 1
        writer.write(chunk(CHAT_EVENTS[-2]) + b"0\r\n\r\n")
        await writer.drain()

    async with upstream(flood) as served, start([served.port]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=65536)
        writer.write(post("/api/chat", json.dumps(BODIES["/api/chat"]).encode()))
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while sent != before or sent == 0:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.3)
        assert sent < total / 2
        received = b""
        async with asyncio.timeout(60):
            while data := await reader.read(1 << 20):
                received = (received + data)[-1000:]
        writer.close()
        assert b'"done":true' in received


# --- keys ---------------------------------------------------------------------------------------------


def key(name: str, deployments: frozenset[str] | None) -> tuple[str, ApiKey]:
    """A key's text, and what is kept of it."""
    text = make_key_text()
    return text, ApiKey(
        f"key_{name}", prefix_of(text), digest_of(text), "acme", name, deployments=deployments
    )


async def test_keys_hold_on_every_path(start: Start) -> None:
    """Without a key, or with a wrong one: 401 everywhere, in the path's own form, and no engine hears of it."""
    async with upstream(engine) as served, start([served.port], auth="keys") as running:
        good, known = key("good", None)
        running.gateway.callers.replace_keys([known])
        for headers in ([], ["Authorization: Bearer nonsense"]):
            for path in BODIES:
                status, _, got = await ask(running, path, *headers)
                assert (status, list(json.loads(got))) == (401, ["error"])
            for path in FRONT_PAGES:
                status, body = await get(running, path, *headers)
                assert (status, list(body)) == (401, ["error"])
        assert served.seen == []
        for path in BODIES:
            assert (await ask(running, path, f"Authorization: Bearer {good}"))[0] == 200
        for path in FRONT_PAGES:
            assert (await get(running, path, f"Authorization: Bearer {good}"))[0] == 200
        assert {outcome.key_id for outcome in running.outcomes if outcome.status == 200} == {"key_good"}


async def test_a_question_without_a_key_is_not_read(start: Start) -> None:
    """401 comes while the body is still on its way; with a key, a body that is too long for a question is refused."""
    async with upstream(engine) as served, start([served.port], auth="keys") as running:
        text, known = key("good", None)
        running.gateway.callers.replace_keys([known])
        head = b"POST /api/show HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n{"
        status, _, got = split_response(await raw(running.port, head))
        assert (status, list(json.loads(got))) == (401, ["error"])
        long = {"model": "chat", "system": "x" * 64 * 1024}
        status, _, got = await ask(running, "/api/show", f"Authorization: Bearer {text}", body=long)
        assert status == 413
        assert "65,536 bytes" in json.loads(got)["error"]


async def test_a_key_for_something_else(start: Start) -> None:
    """A key that may not call the deployment neither gets an answer nor learns that it is there."""
    async with upstream(engine) as served, start([served.port], auth="keys") as running:
        text, known = key("other", frozenset({"other"}))
        running.gateway.callers.replace_keys([known])
        bearer = f"Authorization: Bearer {text}"
        for path in ("/api/chat", "/api/generate", "/api/embed"):
            assert (await ask(running, path, bearer))[0] == 403
        assert (await ask(running, "/api/generate", bearer, body={"model": "chat"}))[0] == 403
        assert (await ask(running, "/api/show", bearer))[0] == 404
        assert (await ask(running, "/generate", bearer))[0] == 400
        assert (await get(running, "/api/tags", bearer))[1] == {"models": []}
        assert (await get(running, "/api/ps", bearer))[1] == {"models": []}
        status, body = await get(running, "/info", bearer)
        assert (status, "chat" in body["error"]) == (400, False)
        assert served.seen == []


# --- what stands over every request -------------------------------------------------------------------


async def test_limits_hold(start: Start) -> None:
    """A limit of the key's counts both APIs' requests, and says when to come back."""
    limits = Limits(requests_per_minute=2)
    async with upstream(engine) as served, start([served.port], auth="keys", key_limits=limits) as running:
        text, known = key("good", None)
        running.gateway.callers.replace_keys([known])
        answers = [
            await ask(running, path, f"Authorization: Bearer {text}")
            for path in ("/generate", "/api/chat", "/generate_stream", "/api/generate")
        ]
        assert [status for status, _, _ in answers] == [200, 200, 429, 429]
        assert json.loads(answers[2][2])["error_type"] == "overloaded"
        assert list(json.loads(answers[3][2])) == ["error"]
        assert all(int(headers["retry-after"]) >= 1 for _, headers, _ in answers[2:])
        assert "x-ratelimit-remaining-requests" in answers[0][1]
        assert len(served.seen) == 2


async def test_filters_hold(start: Start) -> None:
    """What is masked in answers and blocked in prompts is so in both APIs' words, over pieces of a stream too."""
    filters = [
        Filter(name="green", action="mask", terms=["grün"], on="output"),
        Filter(name="bird", action="block", terms=["Nightjar"], on="input"),
    ]
    async with upstream(engine) as served, start([served.port]) as running:
        deployment = running.gateway.deployments["chat"]
        deployment.configure(replace(deployment.spec, filters=filters), FilterSet(filters))
        for stream in (True, False):
            body = {**BODIES["/api/chat"], "stream": stream}
            status, _, got = await ask(running, "/api/chat", body=body)
            text = "".join(row["message"]["content"] for row in rows(got))
            assert (status, rows(got)[-1]["done"]) == (200, True)
            assert "gr" not in text
            assert text
        seen = len(served.seen)
        status, _, got = await ask(running, "/generate", body={"inputs": "A Nightjar"})
        assert (status, json.loads(got)["error_type"]) == (400, "validation")
        status, _, got = await ask(running, "/api/generate", body={"model": "chat", "prompt": "A Nightjar"})
        assert (status, list(json.loads(got))) == (400, ["error"])
        assert len(served.seen) == seen
