"""The gateway on the wire. Every test runs over both fronts: inside uvicorn's protocol, and through ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import pytest

from inferry.core.outcome import Ending
from inferry.core.replica import ReplicaState
from inferry.core.request import CHAT, ROUTES

from .gateway_harness import (
    CHAT_BODY,
    CHAT_STREAM,
    SSE_HEAD,
    Handler,
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

ANSWER = b'{"id":"x","choices":[{"message":{"content":"hello"}}],"usage":{"prompt_tokens":7,"completion_tokens":3}}'
Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture(params=["protocol", "asgi"])
def start(request: pytest.FixtureRequest) -> Start:
    """`running_gateway`, by either front."""
    return partial(running_gateway, relay_in_protocol=request.param == "protocol")


async def plain(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(json_answer(ANSWER))
    await writer.drain()


def events(*pieces: bytes, head: bytes = SSE_HEAD, end: bytes = b"0\r\n\r\n") -> Handler:
    """A handler that writes each piece as a chunk of its own, apart in time."""

    async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for piece in pieces:
            writer.write(chunk(piece))
            await writer.drain()
            await asyncio.sleep(0.002)
        writer.write(end)
        await writer.drain()

    return handler


async def test_plain_answer_is_relayed_and_counted(start: Start) -> None:
    """An answer goes through byte for byte; its outcome has the tokens that the engine reported."""
    async with upstream(plain) as engine, start([engine.port]) as running:
        status, headers, body = split_response(
            await raw(running.port, post("/v1/chat/completions", CHAT_BODY))
        )
        assert (status, body) == (200, ANSWER)
        assert headers["content-type"] == "application/json"
        assert headers["x-inferry-replica"] == "chat-0"
        assert headers["x-request-id"].startswith("req-")
        outcome = await running.outcome()
        assert outcome.ending is Ending.COMPLETED
        assert (outcome.prompt_tokens, outcome.completion_tokens, outcome.attempts) == (7, 3, 1)
        assert outcome.request_id == headers["x-request-id"]


async def test_request_reaches_engine_untouched(start: Start) -> None:
    """The body is the client's very bytes; the engine gets its own key, and never the client's."""
    body = b'{ "model":"chat", "messages":[{"role":"user","content":"\xc3\xa9"}], "seed": 1.0 , "x":[1,2]}'
    async with upstream(plain) as engine, start([engine.port]) as running:
        await raw(
            running.port,
            post(
                "/v1/chat/completions?api-version=1",
                body,
                "Authorization: Bearer client",
                "traceparent: 00-ab",
            ),
        )
        [seen] = engine.seen
        assert seen.body == body
        assert seen.path == "/v1/chat/completions"
        assert seen.header("authorization") == "Bearer up"
        assert seen.header("traceparent") == "00-ab"
        assert seen.header("content-type") == "application/json"
        assert b"client" not in seen.head


async def test_model_is_renamed_for_the_engine_only(start: Start) -> None:
    """A deployment may have another name than its engine's model; everything else in the body stays."""
    async with upstream(plain) as engine:
        async with start([engine.port], upstream_model="served-name", aliases=["gpt-4o"]) as running:
            for name in ("chat", "gpt-4o"):
                body = b'{"seed":1.50,"model":"%b","messages":[{"role":"user"}]}' % name.encode()
                assert (await raw(running.port, post("/v1/chat/completions", body))).startswith(
                    b"HTTP/1.1 200"
                )
        assert [seen.body for seen in engine.seen] == [
            b'{"seed":1.50,"model":"served-name","messages":[{"role":"user"}]}'
        ] * 2


async def test_a_lora_adapter_is_a_model_of_its_deployment(start: Start) -> None:
    """`chat/law` goes to the replicas of `chat`, with the engine's own name for the adapter."""
    async with upstream(plain) as engine:
        async with start([engine.port], lora_models={"chat/law": "law"}) as running:
            for name in ("chat/law", "chat"):
                body = b'{"model":"%b","messages":[{"role":"user"}]}' % name.encode()
                answer = await raw(running.port, post("/v1/chat/completions", body))
                assert answer.startswith(b"HTTP/1.1 200")
            unknown = await raw(
                running.port,
                post("/v1/chat/completions", b'{"model":"chat/lw","messages":[{"role":"user"}]}'),
            )
        assert [json.loads(seen.body)["model"] for seen in engine.seen] == ["law", "chat"]
        assert unknown.startswith(b"HTTP/1.1 404")
        assert b"Did you mean 'chat/law'" in unknown


@pytest.mark.parametrize("split", ["chunks", "bytes", "whole"])
async def test_stream_is_relayed_byte_for_byte(start: Start, split: str) -> None:
    """Content and order of server-sent events are the engine's, however the network cuts them."""
    stream = b'event: a\ndata: {"x":1}\n\n: ping\n\ndata: {"y":"\xc3\xa9"}\r\n\r\ndata: 3\ndata: 4\n\ndata: [DONE]\n\n'
    pieces = {
        "chunks": [stream[index : index + 7] for index in range(0, len(stream), 7)],
        "bytes": [stream[index : index + 1] for index in range(len(stream))],
        "whole": [stream],
    }[split]
    async with upstream(events(*pieces)) as engine, start([engine.port]) as running:
        status, headers, body = split_response(
            await raw(running.port, post("/v1/chat/completions", CHAT_STREAM))
        )
        assert (status, headers["content-type"], body) == (200, "text/event-stream", stream)
        assert (await running.outcome()).stream


async def test_first_event_does_not_wait_for_the_second(start: Start) -> None:
    """Nothing is buffered: an event is at the client while the engine is still silent about the next."""
    go_on = asyncio.Event()

    async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(b"data: 1\n\n"))
        await go_on.wait()
        writer.write(chunk(b"data: 2\n\n") + b"0\r\n\r\n")
        await writer.drain()

    async with upstream(handler) as engine, start([engine.port]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(post("/v1/chat/completions", CHAT_STREAM))
        async with asyncio.timeout(5):
            await reader.readuntil(b"data: 1\n\n")
            go_on.set()
            await reader.readuntil(b"data: 2\n\n")
        writer.close()


@pytest.mark.parametrize("wants", [True, False])
async def test_usage_is_asked_for_and_hidden_from_those_who_did_not_ask(start: Start, wants: bool) -> None:
    """Engines that can are always asked for usage; the extra event only reaches clients that asked too."""
    text = b'data: {"choices":[{"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n'
    done = b"data: [DONE]\n\n"
    body = CHAT_STREAM
    if wants:
        body = body[:-1] + b',"stream_options":{"include_usage":true}}'
    async with upstream(events(text + usage[:20], usage[20:] + done)) as engine:
        async with start([engine.port], asks_usage=True) as running:
            _, _, answer = split_response(await raw(running.port, post("/v1/chat/completions", body)))
            assert answer == (text + usage + done if wants else text + done)
            outcome = await running.outcome()
            assert (outcome.prompt_tokens, outcome.completion_tokens) == (5, 2)
        assert json.loads(engine.seen[0].body)["stream_options"] == {"include_usage": True}


async def test_round_robin_takes_turns(start: Start) -> None:
    """Two replicas of equal standing get the same number of requests."""
    async with upstream(plain) as one, upstream(plain) as two, start([one.port, two.port]) as running:
        for _ in range(10):
            await raw(running.port, post("/v1/chat/completions", CHAT_BODY))
        assert (len(one.seen), len(two.seen)) == (5, 5)


async def test_keep_alive_serves_many_requests_on_one_connection(start: Start) -> None:
    """Client and upstream connections are reused, for relayed and ordinary requests in turn."""
    async with upstream(plain) as engine, start([engine.port]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        for _ in range(5):
            writer.write(post("/v1/chat/completions", CHAT_BODY, close=False))
            async with asyncio.timeout(5):
                await reader.readuntil(ANSWER)
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(5):
                await reader.readuntil(b"}}}")
        writer.close()
        assert len(engine.seen) == 5
        assert engine.connections == 1


async def test_pipelined_requests_are_answered_in_order(start: Start) -> None:
    """Requests sent without waiting for answers get them one after another."""

    async def echo(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        writer.write(json_answer(seen.body))
        await writer.drain()

    bodies = [b'{"model":"chat","messages":[{"role":"user"}],"seed":%d}' % seed for seed in range(3)]
    async with upstream(echo) as engine, start([engine.port]) as running:
        data = b"".join(
            post("/v1/chat/completions", body, close=index == len(bodies) - 1)
            for index, body in enumerate(bodies)
        )
        answer = await raw(running.port, data)
        positions = [answer.index(body) for body in bodies]
        assert positions == sorted(positions)
        assert answer.count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize(
    "frame",
    ["content-length", "chunked", "until-eof", "http-1.0"],
)
async def test_every_upstream_framing_is_understood(start: Start, frame: str) -> None:
    """However an engine marks the end of its body, the client gets all of it and a clean end."""

    async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
        match frame:
            case "content-length":
                writer.write(json_answer(ANSWER))
            case "chunked":
                writer.write(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(ANSWER) + b"0\r\n\r\n"
                )
            case "until-eof":
                writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + ANSWER)
            case _:
                writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + ANSWER)
        await writer.drain()
        if frame in ("until-eof", "http-1.0"):
            writer.close()

    async with upstream(handler) as engine, start([engine.port]) as running:
        for _ in range(2):
            status, _, body = split_response(await raw(running.port, post("/v1/chat/completions", CHAT_BODY)))
            assert (status, body) == (200, ANSWER)
        assert (await running.outcome(2)).ending is Ending.COMPLETED


async def test_http_1_0_client_gets_a_body_without_chunks(start: Start) -> None:
    """A client that can't read chunks gets the plain stream, ended by the connection."""
    async with upstream(events(b"data: 1\n\n", b"data: 2\n\n")) as engine, start([engine.port]) as running:
        answer = await raw(running.port, post("/v1/chat/completions", CHAT_STREAM, version="1.0"))
        if answer.startswith(b"HTTP/1.1 200 OK\r\n") and b"transfer-encoding" not in answer:
            assert answer.endswith(b"data: 1\n\ndata: 2\n\n")
        else:  # uvicorn's own front chunks for everybody
            assert split_response(answer)[2] == b"data: 1\n\ndata: 2\n\n"


# --- failures -----------------------------------------------------------------------------------------


async def test_dead_replica_costs_no_request(start: Start) -> None:
    """While one replica refuses connections, every request is served by the other one."""
    async with upstream(plain) as gone:
        dead_port = gone.port
    async with upstream(plain) as engine, start([dead_port, engine.port]) as running:
        for _ in range(6):
            status, headers, _ = split_response(
                await raw(running.port, post("/v1/chat/completions", CHAT_BODY))
            )
            assert (status, headers["x-inferry-replica"]) == (200, "chat-1")
        assert {replica for replica, _ in running.failures} == {"chat-0"}
        assert max(outcome.attempts for outcome in running.outcomes) == 2


async def test_replica_that_dies_before_its_answer_is_replaced(start: Start) -> None:
    """A connection that breaks before the first byte of an answer is no error for the client."""

    async def die(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.transport.abort()

    async with upstream(die) as dying, upstream(plain) as engine, start([dying.port, engine.port]) as running:
        for _ in range(4):
            assert (await raw(running.port, post("/v1/chat/completions", CHAT_BODY))).startswith(
                b"HTTP/1.1 200"
            )
        assert len(engine.seen) == 4


async def test_a_replica_that_has_restarted_counts_as_new(start: Start) -> None:
    """A request that met a replica's death may be served by its next life, at another port."""
    async with upstream(plain) as reborn:

        async def die(seen: Seen, writer: asyncio.StreamWriter) -> None:
            running.gateway.apply(view(reborn.port, 0))  # back before its last connection is noticed
            writer.transport.abort()

        async def die_too(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        async with upstream(die) as one, upstream(die_too) as two, start([one.port, two.port]) as running:
            running.gateway.deployments["chat"].balancer.choose(["chat-0"])  # so that chat-0 comes first
            slot = running.gateway.deployments["chat"].balancer.slots["chat-1"]
            running.gateway.deployments["chat"].balancer.release(slot)
            answer = await raw(running.port, post("/v1/chat/completions", CHAT_BODY))
            assert answer.startswith(b"HTTP/1.1 200")
            assert len(reborn.seen) == 1


@pytest.mark.parametrize("said", ["500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable"])
async def test_a_replica_that_can_not_is_passed_over(start: Start, said: str) -> None:
    """A 500, 502 or 503 of one replica sends the request to another; the last one's reaches the client."""

    async def loading(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(b'{"error":{"message":"loading"}}', said.encode()))
        await writer.drain()

    async with upstream(loading) as one, upstream(plain) as two:
        async with start([one.port, two.port]) as running:
            for _ in range(4):
                assert (await raw(running.port, post("/v1/chat/completions", CHAT_BODY))).startswith(
                    b"HTTP/1.1 200"
                )
        async with start([one.port]) as running:
            status, _, body = split_response(await raw(running.port, post("/v1/chat/completions", CHAT_BODY)))
            assert (status, body) == (int(said[:3]), b'{"error":{"message":"loading"}}')
            assert (await running.outcome()).ending is Ending.FAILED


async def test_all_replicas_dead_is_a_clear_502(start: Start) -> None:
    """When every try fails, the client reads which replica failed, how, and when to come back."""
    async with upstream(plain) as gone:
        dead_port = gone.port
    async with start([dead_port]) as running:
        status, headers, body = split_response(
            await raw(running.port, post("/v1/chat/completions", CHAT_BODY))
        )
        error = json.loads(body)["error"]
        assert (status, error["code"], error["type"]) == (502, "engine_unreachable", "server_error")
        assert "chat-0" in error["message"]
        assert "connection refused" in error["message"]
        assert int(headers["retry-after"]) >= 1


async def test_no_ready_replica_is_503_with_retry_after(start: Start) -> None:
    """A deployment whose replicas are all starting says so."""
    async with start([]) as running:
        running.gateway.apply(view(1, state=ReplicaState.STARTING))
        status, headers, body = split_response(
            await raw(running.port, post("/v1/chat/completions", CHAT_BODY))
        )
        error = json.loads(body)["error"]
        assert (status, error["code"]) == (503, "no_ready_replica")
        assert "1 starting" in error["message"]
        assert int(headers["retry-after"]) >= 1


@pytest.mark.parametrize("how", ["reset", "garbage", "short"])
async def test_broken_stream_ends_with_an_error_event(start: Start, how: str) -> None:
    """A stream that breaks in the middle ends with OpenAI's error object between whole events."""

    async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(b'data: {"a":1}\n\ndata: {"half'))
        await writer.drain()
        await asyncio.sleep(0.02)
        if how == "garbage":
            writer.write(b"zz\r\nnot a chunk")
            await writer.drain()
        elif how == "reset":
            writer.transport.abort()
        else:
            writer.close()

    async with upstream(handler) as engine, start([engine.port]) as running:
        _, _, body = split_response(await raw(running.port, post("/v1/chat/completions", CHAT_STREAM)))
        first, error_event, rest = body.split(b"\n\n")
        assert (first, rest) == (b'data: {"a":1}', b"")
        error = json.loads(error_event.removeprefix(b"data: "))["error"]
        assert error["code"] == "engine_broke"
        assert "part of the answer has gone out" in error["message"]
        outcome = await running.outcome()
        assert (outcome.ending, outcome.error_code) == (Ending.FAILED, "engine_broke")


async def test_broken_anthropic_stream_speaks_anthropic(start: Start) -> None:
    """On /v1/messages the error event has Anthropic's name and shape."""

    async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(b"event: message_start\ndata: {}\n\n"))
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.transport.abort()

    body = b'{"model":"chat","stream":true,"max_tokens":5,"messages":[{"role":"user"}]}'
    async with upstream(handler) as engine, start([engine.port]) as running:
        _, _, answer = split_response(await raw(running.port, post("/v1/messages", body)))
        assert b'event: error\ndata: {"type":"error","error":{"type":"api_error"' in answer


async def test_broken_plain_answer_is_none(start: Start) -> None:
    """Half of a short JSON body never reaches the client: another replica gives it whole, and if there is none, the
    answer is an error."""

    async def breaks(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(ANSWER)[:-20])
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.transport.abort()

    async def answers(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(ANSWER)[:-20])
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(json_answer(ANSWER)[-20:])

    async with upstream(breaks) as bad, upstream(answers) as good, start([bad.port, good.port]) as running:
        status, _, body = split_response(await raw(running.port, post("/v1/chat/completions", CHAT_BODY)))
        assert (status, body) == (200, ANSWER)
        assert (await running.outcome()).attempts == 2
    async with upstream(breaks) as bad, start([bad.port]) as running:
        status, _, body = split_response(await raw(running.port, post("/v1/chat/completions", CHAT_BODY)))
        assert (status, json.loads(body)["error"]["code"]) == (502, "engine_broke")


async def test_broken_long_answer_is_visibly_cut(start: Start) -> None:
    """Half of a long JSON body must not look like a whole one: the connection ends short of its length."""
    long = json.dumps({"data": ["x" * 1000] * 1000}).encode()

    async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(long)[:-20])
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.transport.abort()

    async with upstream(handler) as engine, start([engine.port]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(post("/v1/chat/completions", CHAT_BODY))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: %d" % len(long) in head
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await reader.readexactly(len(long))
        writer.close()
        assert (await running.outcome()).ending is Ending.FAILED


async def test_silent_engine_times_out(start: Start) -> None:
    """An engine that says nothing within first_byte_timeout_s gives 504."""

    async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await seen.closed.wait()

    async with upstream(silent) as engine, start([engine.port], first_byte_timeout_s=0.5) as running:
        status, _, body = split_response(await raw(running.port, post("/v1/chat/completions", CHAT_BODY)))
        assert (status, json.loads(body)["error"]["code"]) == (504, "engine_timeout")
        async with asyncio.timeout(5):
            await engine.seen[0].closed.wait()


async def test_stale_idle_connection_is_not_a_failure(start: Start) -> None:
    """An engine that closed an idle connection is asked again on a new one, and is not reported."""

    async def close_after(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if len(engine.seen) == 2:
            writer.transport.abort()  # as if it had closed just when we sent
            return
        writer.write(json_answer(ANSWER))
        await writer.drain()

    async with upstream(close_after) as engine, start([engine.port]) as running:
        for _ in range(2):
            assert (await raw(running.port, post("/v1/chat/completions", CHAT_BODY))).startswith(
                b"HTTP/1.1 200"
            )
        assert running.failures == []
        assert len(engine.seen) == 3


async def test_many_stale_connections_cost_one_retry(start: Start) -> None:
    """When every idle connection turns out closed, the request goes out once more on a new one."""
    die = False

    async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if die and engine.connections <= 3:
            writer.transport.abort()
            return
        await asyncio.sleep(0.05)  # so that three requests need three connections
        writer.write(json_answer(ANSWER))
        await writer.drain()

    async with upstream(handler) as engine, start([engine.port]) as running:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(raw(running.port, post("/v1/chat/completions", CHAT_BODY)))
        assert engine.connections == 3
        die = True
        assert (await raw(running.port, post("/v1/chat/completions", CHAT_BODY))).startswith(b"HTTP/1.1 200")
        assert running.failures == []
        assert engine.connections == 4


async def test_a_head_alone_is_no_answer(start: Start) -> None:
    """An engine that dies after its head, before any event, costs nothing: the other replica answers whole."""
    text = b'data: {"choices":[]}\n\ndata: [DONE]\n\n'

    async def die(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD)
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.transport.abort()

    async with upstream(die) as one, upstream(events(text)) as two, start([one.port, two.port]) as running:
        for _ in range(4):
            status, headers, body = split_response(
                await raw(running.port, post("/v1/chat/completions", CHAT_STREAM))
            )
            assert (status, headers["x-inferry-replica"], body) == (200, "chat-1", text)
        assert [outcome.ending for outcome in running.outcomes] == [Ending.COMPLETED] * 4


async def test_waiting_for_the_first_event_is_not_silence_in_the_middle(start: Start) -> None:
    """Between an engine's head and its first event, first_byte_timeout_s counts, not idle_timeout_s."""

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD)
        await writer.drain()
        await asyncio.sleep(1.5)
        writer.write(chunk(b"data: 1\n\n") + b"0\r\n\r\n")
        await writer.drain()

    async with upstream(slow) as engine, start([engine.port], idle_timeout_s=0.1) as running:
        _, _, body = split_response(await raw(running.port, post("/v1/chat/completions", CHAT_STREAM)))
        assert body == b"data: 1\n\n"


async def test_the_last_replicas_503_reaches_the_client(start: Start) -> None:
    """When attempts are used up, an engine's own 503 is relayed with its words and its Retry-After."""
    answer = json_answer(
        b'{"error":{"message":"queue full"}}', b"503 Service Unavailable", b"Retry-After: 7\r\n"
    )

    async def full(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    async with (
        upstream(full) as one,
        upstream(full) as two,
        start([one.port, two.port], attempts_max=1) as running,
    ):
        status, headers, body = split_response(
            await raw(running.port, post("/v1/chat/completions", CHAT_BODY))
        )
        assert (status, headers["retry-after"]) == (503, "7")
        assert body == b'{"error":{"message":"queue full"}}'


async def test_a_second_answer_reaches_nobody(start: Start) -> None:
    """Bytes behind a complete answer are dropped with their connection, and never mixed into any answer."""

    async def two(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(ANSWER) + json_answer(b'{"evil":true}'))
        await writer.drain()

    async with upstream(two) as engine, start([engine.port]) as running:
        for _ in range(3):
            _, headers, body = split_response(
                await raw(running.port, post("/v1/chat/completions", CHAT_BODY))
            )
            assert (headers["content-length"], body) == (str(len(ANSWER)), ANSWER)
        assert engine.connections == 3


@pytest.mark.parametrize("head", [b"HTTP/1.1 999 Odd\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000])
async def test_odd_heads_of_engines_are_502(start: Start, head: bytes) -> None:
    """A status that is none, or a head without end, is an engine's fault that the client can read about."""

    async def odd(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await writer.drain()
        await seen.closed.wait()

    async with upstream(odd) as engine, start([engine.port]) as running:
        status, _, body = split_response(await raw(running.port, post("/v1/chat/completions", CHAT_BODY)))
        assert (status, json.loads(body)["error"]["code"]) == (502, "engine_broke")


async def test_anthropic_prompt_tokens_come_from_the_first_event(start: Start) -> None:
    """Anthropic's stream tells the prompt's tokens, cached ones apart, in its first event only."""
    first = (
        b'event: message_start\ndata: {"type":"message_start","message":{"usage":'
        b'{"input_tokens":3,"cache_read_input_tokens":36,"output_tokens":0}}}\n\n'
    )
    text = b'event: content_block_delta\ndata: {"delta":{"text":"x"}}\n\n'
    last = b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":9}}\n\n'
    body = b'{"model":"chat","stream":true,"max_tokens":5,"messages":[{"role":"user"}]}'
    async with upstream(events(first, *[text] * 10, last)) as engine, start([engine.port]) as running:
        await raw(running.port, post("/v1/messages", body))
        outcome = await running.outcome()
        assert (outcome.prompt_tokens, outcome.completion_tokens) == (39, 9)


# --- the client's side --------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "during"])
async def test_disconnect_cancels_upstream_at_once(start: Start, when: str) -> None:
    """A client that goes away frees the engine: its connection is closed, and the outcome is cancelled."""

    async def endless(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if when == "during":
            writer.write(SSE_HEAD + chunk(b"data: 1\n\n"))
            await writer.drain()
        await seen.closed.wait()

    async with upstream(endless) as engine, start([engine.port]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(post("/v1/chat/completions", CHAT_STREAM))
        async with asyncio.timeout(5):
            if when == "during":
                await reader.readuntil(b"data: 1\n\n")
            while not engine.seen:
                await asyncio.sleep(0.005)
            writer.close()
            await engine.seen[0].closed.wait()
        assert (await running.outcome()).ending is Ending.CANCELLED
        assert running.gateway.deployments["chat"].balancer.slots["chat-0"].in_flight == 0


async def test_slow_client_slows_the_engine(start: Start) -> None:
    """A client that does not read stops the upstream read, so the gateway's memory stays bounded."""
    piece = b"data: " + b"x" * 65000 + b"\n\n"
    total = 1000  # 65 MB: far more than all socket buffers together
    sent = 0

    async def flood(seen: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(SSE_HEAD)
        for _ in range(total):
            writer.write(chunk(piece))
            await writer.drain()
            sent += 1
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async with upstream(flood) as engine, start([engine.port]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=65536)
        writer.write(post("/v1/chat/completions", CHAT_STREAM))
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while sent != before or sent == 0:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.3)
        assert sent < total / 2
        received = 0
        async with asyncio.timeout(60):
            while data := await reader.read(1 << 20):
                received += len(data)
        assert received > total * len(piece)
        writer.close()


async def test_too_long_body_is_413(start: Start) -> None:
    """A body over the limit is refused before it is read whole, announced or not."""
    async with upstream(plain) as engine, start([engine.port], body_max_bytes=2048) as running:
        body = CHAT_BODY[:-1] + b',"pad":"' + b"x" * 300_000 + b'"}'
        announced = await raw(running.port, post("/v1/chat/completions", body))
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        streamed = await raw(running.port, head + chunk(body) + b"0\r\n\r\n")
        for answer in (announced, streamed):
            status, _, text = split_response(answer[: answer.rfind(b"}") + 1])
            assert status == 413
            assert json.loads(text)["error"]["code"] == "request_too_large"
            assert "2,048" in json.loads(text)["error"]["message"]
        assert engine.seen == []


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param", "words"),
    [
        ("/v1/chat/completions", b"{", 400, "invalid_request", None, "not valid JSON"),
        ("/v1/chat/completions", b"", 400, "invalid_request", None, "no body"),
        ("/v1/chat/completions", b"{}", 400, "invalid_request", "model", "Name one of: chat"),
        ("/v1/chat/completions", b'{"model":"chat"}', 400, "invalid_request", "messages", "'messages'"),
        (
            "/v1/chat/completions",
            b'{"model":"chat","messages":[{"role":"user"}],"temperature":-1}',
            400,
            "invalid_request",
            "temperature",
            "got -1",
        ),
        (
            "/v1/chat/completions",
            b'{"model":"chst","messages":[{"role":"user"}]}',
            404,
            "model_not_found",
            "model",
            "Did you mean 'chat'?",
        ),
        (
            "/v1/embeddings",
            b'{"model":"chat","input":"x"}',
            404,
            "unsupported_route",
            "model",
            "/v1/embeddings",
        ),
        ("/v1/chat/completion", b"{}", 404, "unknown_url", None, "Did you mean '/v1/chat/completions'?"),
    ],
)
async def test_bad_requests_get_openai_errors(
    start: Start, path: str, body: bytes, status: int, code: str, param: str | None, words: str
) -> None:
    """Each bad request is answered by one error that names the field and the way out; no engine sees it."""
    async with upstream(plain) as engine, start([engine.port], routes=frozenset({CHAT.path})) as running:
        got, headers, text = split_response(await raw(running.port, post(path, body)))
        error = json.loads(text)["error"]
        assert (got, error["code"], error["param"]) == (status, code, param)
        assert words in error["message"]
        assert error["type"] == "invalid_request_error"
        assert headers["x-request-id"]
        assert engine.seen == []


async def test_request_id_is_the_clients_if_sane(start: Start) -> None:
    """A client's own x-request-id comes back and goes to the engine; an unusable one is replaced."""
    async with upstream(plain) as engine, start([engine.port]) as running:
        for given, kept in (("abc-1.2:3", True), ("x" * 200, False), ("a b", False)):
            answer = await raw(
                running.port, post("/v1/chat/completions", CHAT_BODY, f"X-Request-Id: {given}")
            )
            got = split_response(answer)[1]["x-request-id"]
            assert (got == given) is kept
            assert engine.seen[-1].header("x-request-id") == got


async def test_expect_continue_is_answered(start: Start) -> None:
    """A client that waits for `100 Continue` before it sends its body gets it."""
    async with upstream(plain) as engine, start([engine.port]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        request = post("/v1/chat/completions", CHAT_BODY, "Expect: 100-continue")
        writer.write(request.removesuffix(CHAT_BODY))
        async with asyncio.timeout(5):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(CHAT_BODY)
            assert ANSWER in await reader.read()
        writer.close()


async def test_garbage_behind_a_stream_ends_that_stream_only(start: Start) -> None:
    """Garbage behind a running request cancels it, once, engine and all; everybody else is served on."""

    async def endless(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if len(engine.seen) > 1:
            await plain(seen, writer)
            return
        writer.write(SSE_HEAD)
        while not seen.closed.is_set():
            writer.write(chunk(b"data: 1\n\n"))
            await writer.drain()
            await asyncio.sleep(0.005)

    async with upstream(endless) as engine, start([engine.port]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(post("/v1/chat/completions", CHAT_STREAM, close=False))
        async with asyncio.timeout(5):
            await reader.readuntil(b"data: 1\n\n")
            writer.write(b"\0\1garbage\r\n\r\n")
            await engine.seen[0].closed.wait()
        writer.close()
        assert (await running.outcome()).ending is Ending.CANCELLED
        await running.settled()
        assert (await raw(running.port, post("/v1/chat/completions", CHAT_BODY))).startswith(b"HTTP/1.1 200")
        assert len(running.outcomes) == 2


async def test_unread_answers_stop_the_fetching_of_more(start: Start) -> None:
    """A client that sends request after request and reads nothing costs a bounded amount of memory."""
    big = b'{"x":"' + b"y" * 1_000_000 + b'"}'
    count = 100

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(big))
        await writer.drain()

    async with upstream(answer) as engine, start([engine.port]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=65536)
        for index in range(count):
            writer.write(post("/v1/chat/completions", CHAT_BODY, close=index == count - 1))
        before = -1
        while len(engine.seen) != before or not engine.seen:  # until nothing moves any more
            before = len(engine.seen)
            await asyncio.sleep(0.3)
        assert len(engine.seen) < count / 2
        received = 0
        async with asyncio.timeout(60):
            while data := await reader.read(1 << 20):
                received += len(data)
        assert received > count * len(big)
        writer.close()


@pytest.mark.parametrize("token", ["h2c", "websocket", "TLS/1.3"])
async def test_an_offer_to_upgrade_is_passed_over(start: Start, token: str) -> None:
    """A request that offers another protocol is served as it stands, body included, and the connection lives."""
    offer = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {token}", "HTTP2-Settings: AAMAAABkAAQAAP__")
    async with upstream(plain) as engine, start([engine.port]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        for _ in range(2):
            writer.write(post("/v1/chat/completions", CHAT_BODY, *offer, close=False))
            async with asyncio.timeout(5):
                await reader.readuntil(ANSWER)
        writer.close()
        assert [seen.body for seen in engine.seen] == [CHAT_BODY] * 2
        assert (await raw(running.port, b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(
            b"HTTP/1.1 400"
        )


async def test_one_header_without_end_is_refused(start: Start) -> None:
    """A single header line is bounded while it comes in, not when it is whole."""
    async with start([1]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nx: ")
        sent = 0
        with pytest.raises((ConnectionError, TimeoutError)):
            async with asyncio.timeout(5):
                while not reader.at_eof():
                    writer.write(b"y" * 65536)
                    sent += 65536
                    await writer.drain()
                raise ConnectionResetError
        writer.close()
        assert sent < 16 * 1024 * 1024


async def test_a_client_that_leaves_while_it_waits_in_line_leaves_nothing(start: Start) -> None:
    """Pipelined behind a stream, then gone: both requests end, and no task waits for ever."""

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if len(engine.seen) == 1:
            writer.write(json_answer(ANSWER))
            await writer.drain()
            return
        writer.write(SSE_HEAD + chunk(b"data: 1\n\n"))
        await writer.drain()
        await seen.closed.wait()

    async with upstream(slow) as engine, start([engine.port]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        both = post("/v1/chat/completions", CHAT_BODY, close=False) + post(
            "/v1/chat/completions", CHAT_STREAM
        )
        writer.write(both)
        async with asyncio.timeout(5):
            await reader.readuntil(b"data: 1\n\n")
            writer.close()
            await engine.seen[1].closed.wait()
        assert (await running.outcome(2)).ending is Ending.CANCELLED


async def test_a_client_that_leaves_in_its_own_body_is_counted(start: Start) -> None:
    """A request that was never whole reaches no engine and ends as cancelled."""
    async with upstream(plain) as engine, start([engine.port]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(post("/v1/chat/completions", CHAT_BODY)[:-5])
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        outcome = await running.outcome()
        assert (outcome.ending, engine.seen) == (Ending.CANCELLED, [])
        assert outcome.received_wall_s > 1e9
        del reader


async def test_garbage_on_the_line_is_400_and_harms_nobody(start: Start) -> None:
    """Bytes that are not HTTP, heads without end and broken chunks end their own connection only."""
    async with upstream(plain) as engine, start([engine.port]) as running:
        assert (await raw(running.port, b"\x16\x03\x01 nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400")
        endless = b"POST /v1/chat/completions HTTP/1.1\r\n" + b"a: b\r\n" * 50_000
        answer = b""
        try:
            answer = await raw(running.port, endless)
        except ConnectionError:
            pass  # closed while we were still sending
        assert b"200 OK" not in answer
        assert (await raw(running.port, post("/v1/chat/completions", CHAT_BODY))).startswith(b"HTTP/1.1 200")


# --- ordinary routes ----------------------------------------------------------------------------------


async def get(running: Running, path: str, method: str = "GET") -> tuple[int, dict[str, str], Any]:
    answer = await raw(
        running.port, f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )
    status, headers, body = split_response(answer)
    return (
        status,
        headers,
        json.loads(body) if headers["content-type"] == "application/json" else body.decode(),
    )


async def test_models_are_listed(start: Start) -> None:
    """GET /v1/models names every deployment and alias; one can be asked for by name."""
    async with start([1], aliases=["gpt-4o"]) as running:
        _, _, listing = await get(running, "/v1/models")
        assert [model["id"] for model in listing["data"]] == ["chat", "gpt-4o"]
        assert (await get(running, "/v1/models/chat"))[2]["object"] == "model"
        status, _, error = await get(running, "/v1/models/chatt")
        assert (status, error["error"]["code"]) == (404, "model_not_found")


async def test_health_tells_ready_degraded_and_down(start: Start) -> None:
    """/health is 200 while anything serves and 503 when nothing does, and says so by deployment."""
    async with start([1, 2]) as running:
        assert (await get(running, "/health"))[::2] == (
            200,
            {
                "status": "ready",
                "generation": 1,
                "deployments": {"chat": {"status": "ready", "replicas": 2, "ready": 2}},
            },
        )
        running.gateway.apply(view(1, 0, state=ReplicaState.FAILED))
        assert (await get(running, "/health"))[2]["status"] == "degraded"
        running.gateway.apply(view(2, 1, state=ReplicaState.FAILED))
        status, _, health = await get(running, "/health")
        assert (status, health["status"]) == (503, "down")


async def test_wrong_methods_are_405(start: Start) -> None:
    """A known path asked in the wrong way names the right one."""
    async with start([1]) as running:
        for path in ROUTES:
            status, headers, error = await get(running, path)
            assert (status, headers["allow"]) == (405, "POST")
            assert "takes POST, not GET" in error["error"]["message"]
            assert ("code" in error["error"]) is not path.startswith("/v1/messages")  # each in its own shape
        status, headers, _ = await get(running, "/health", "DELETE")
        assert (status, headers["allow"]) == (405, "GET, HEAD")


async def test_metrics_count_what_happened(start: Start) -> None:
    """/metrics shows requests by ending, tokens, and the state of each replica."""
    async with upstream(plain) as engine, start([engine.port]) as running:
        await raw(running.port, post("/v1/chat/completions", CHAT_BODY))
        await raw(running.port, post("/v1/chat/completions", b"{}"))
        _, _, page = await get(running, "/metrics")
        route = 'route="/v1/chat/completions"'
        assert (
            f'inferry_requests_total{{deployment="chat",ending="completed",{route},status="200"}} 1.0' in page
        )
        assert f'inferry_requests_total{{deployment="",ending="rejected",{route},status="400"}} 1.0' in page
        assert 'inferry_tokens_total{deployment="chat",kind="completion"} 3.0' in page
        assert 'inferry_replica_state{deployment="chat",replica="chat-0",state="ready"} 1.0' in page


async def test_shutdown_lets_running_answers_finish(start: Start) -> None:
    """After shut_down no connection is accepted, and a stream under way comes to its end."""
    go_on = asyncio.Event()

    async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(b"data: 1\n\n"))
        await go_on.wait()
        writer.write(chunk(b"data: 2\n\n") + b"0\r\n\r\n")
        await writer.drain()

    async with upstream(handler) as engine, start([engine.port]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(post("/v1/chat/completions", CHAT_STREAM, close=False))
        async with asyncio.timeout(10):
            await reader.readuntil(b"data: 1\n\n")
            running.server.shut_down()
            with pytest.raises(OSError):
                while True:
                    _, late = await asyncio.open_connection("127.0.0.1", running.port)
                    late.close()
                    await asyncio.sleep(0.02)
            go_on.set()
            assert b"data: 2\n\n" in await reader.read()
        writer.close()
        assert (await running.outcome()).ending is Ending.COMPLETED


async def test_shutdown_at_once_says_why(start: Start) -> None:
    """When the drain is over, a stream under way ends with an error event, not in silence."""

    async def endless(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(b"data: 1\n\n"))
        await writer.drain()
        await seen.closed.wait()

    async with upstream(endless) as engine, start([engine.port]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(post("/v1/chat/completions", CHAT_STREAM, close=False))
        async with asyncio.timeout(10):
            await reader.readuntil(b"data: 1\n\n")
            running.server.shut_down(at_once=True)
            assert b"The gateway is shutting down." in await reader.read()
        writer.close()
