"""Answers that end and are none, over both fronts: what the client sees, and what the outcome says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest

from inferry.core.outcome import Ending, UsageFrom

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
)

Start = Callable[..., AbstractAsyncContextManager[Running]]
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
BODIES = {
    CHAT: CHAT_STREAM,
    RESPONSES: b'{"model":"chat","stream":true,"input":"hi"}',
    MESSAGES: b'{"model":"chat","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}',
}
DONE = b"data: [DONE]\n\n"


def event(payload: object) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def token(text: str, finish: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


FRAME = event({"error": {"message": "CUDA error", "type": "InternalServerError", "param": None, "code": 500}})
TWO = event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}})
USAGE = event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})


@pytest.fixture(params=["protocol", "asgi"])
def start(request: pytest.FixtureRequest) -> Start:
    """A strict gateway, by either front."""
    return partial(running_gateway, relay_in_protocol=request.param == "protocol", reason_needed=True)


def stream(*pieces: bytes, end: bytes | None = b"0\r\n\r\n") -> Handler:
    """Each piece in a read of its own; `end` None: the connection is cut."""

    async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD)
        for piece in pieces:
            writer.write(chunk(piece))
            await writer.drain()
            await asyncio.sleep(0.01)
        if end is None:
            writer.transport.abort()
            return
        writer.write(end)
        await writer.drain()

    return handler


async def ask(running: Running, path: str = CHAT, body: bytes | None = None) -> tuple[int, bytes]:
    status, _, answer = split_response(await raw(running.port, post(path, body or BODIES[path])))
    return status, answer


def code_of(event: bytes) -> str:
    return str(json.loads(event.removeprefix(b"data: "))["error"]["code"])


@pytest.mark.parametrize(
    ("last", "end", "code", "told"),
    [
        ([FRAME, DONE], b"0\r\n\r\n", "engine_stream_error", True),
        ([FRAME + DONE], b"0\r\n\r\n", "engine_stream_error", True),
        ([FRAME], b"0\r\n\r\n", "engine_stream_error", True),
        ([token("", "abort"), DONE], b"0\r\n\r\n", "engine_aborted", False),
        ([token("", "error"), TWO, DONE], b"0\r\n\r\n", "engine_aborted", False),
        ([DONE], b"0\r\n\r\n", "engine_unfinished", False),
        ([TWO, DONE], b"0\r\n\r\n", "engine_unfinished", False),
        ([], b"0\r\n\r\n", "engine_unfinished", False),
        ([b"data: [DO", b"NE]\n\n"], b"0\r\n\r\n", "engine_unfinished", False),
        ([], None, "engine_broke", False),
        ([token("c", "stop")[:20]], None, "engine_broke", False),
    ],
)
async def test_an_end_that_is_none_is_a_failure(
    start: Start, last: list[bytes], end: bytes | None, code: str, told: bool
) -> None:
    """The client gets what came, one error event (the engine's own if it sent one) and no [DONE]; the outcome has the
    code; what was relayed is billed as counted."""
    async with (
        upstream(stream(token("a"), token("b"), *last, end=end)) as engine,
        start([engine.port]) as running,
    ):
        status, answer = await ask(running)
        outcome = await running.outcome()
    assert status == 200
    assert answer.startswith(token("a") + token("b"))
    assert b"[DONE]" not in answer
    assert answer.count(b'"error":') == 1
    if told:
        assert answer == token("a") + token("b") + FRAME
    else:
        assert code_of(answer.split(b"\n\n")[-2]) == code
    assert (outcome.ending, outcome.error_code, outcome.status) == (Ending.FAILED, code, 200)
    assert (outcome.completion_tokens, outcome.usage_from) == (2, UsageFrom.COUNTED)
    assert running.failures
    assert running.gateway.metrics.rejects == {("chat", code): 1}


@pytest.mark.parametrize(
    ("last", "end"),
    [
        ([token("", "stop"), USAGE, DONE], b"0\r\n\r\n"),
        ([token("", "length"), USAGE, DONE], None),  # nothing was missing but the end of its framing
        ([token("", "tool_calls"), USAGE], b"0\r\n\r\n"),
        (
            [token("", "content_filter: SAFETY"), b": a\n\n", b": b\n\n", USAGE, b": c\n\n", DONE],
            b"0\r\n\r\n",
        ),
        ([token("error"), token('{"error":{"message":"x"}}', "stop"), USAGE + DONE], b"0\r\n\r\n"),
    ],
)
async def test_a_whole_answer_is_completed(start: Start, last: list[bytes], end: bytes | None) -> None:
    """With a reason it is whole, with or without [DONE], whatever the model wrote; it goes on byte for byte."""
    sent = token("a"), *last
    async with upstream(stream(*sent, end=end)) as engine, start([engine.port]) as running:
        _, answer = await ask(running)
        outcome = await running.outcome()
    assert answer == b"".join(sent)
    assert (outcome.ending, outcome.error_code) == (Ending.COMPLETED, None)
    assert (outcome.completion_tokens, outcome.usage_from) == (3, UsageFrom.ENGINE)


@pytest.mark.parametrize("size", [1, 7])
async def test_the_cut_of_the_network_changes_no_verdict(start: Start, size: int) -> None:
    """Reads of a byte, too: whole stays whole, and an error frame stays one."""
    for last, ending in ((token("", "stop"), Ending.COMPLETED), (FRAME, Ending.FAILED)):
        whole = token("a") + last + USAGE + DONE
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]

        async def handler(seen: Seen, writer: asyncio.StreamWriter, pieces: list[bytes] = pieces) -> None:
            writer.write(SSE_HEAD)
            for piece in pieces:
                writer.write(chunk(piece))
                await writer.drain()
                await asyncio.sleep(0)
            writer.write(b"0\r\n\r\n")

        async with upstream(handler) as engine, start([engine.port]) as running:
            _, answer = await ask(running)
            assert (await running.outcome()).ending is ending
            assert (DONE in answer) == (ending is Ending.COMPLETED)


@pytest.mark.parametrize("first", [FRAME, FRAME + DONE, DONE, b"", token("", "abort") + DONE])
async def test_what_the_client_has_not_seen_is_tried_elsewhere(start: Start, first: bytes) -> None:
    """An engine that begins with its failure costs the client nothing but time."""
    pieces = [first] if first else []
    good = token("a"), token("", "stop"), DONE
    async with (
        upstream(stream(*pieces)) as bad,
        upstream(stream(*good)) as other,
        start([bad.port, other.port]) as running,
    ):
        status, answer = await ask(running)
        outcome = await running.outcome()
        assert (status, answer) == (200, b"".join(good))
        assert (outcome.ending, outcome.attempts) == (Ending.COMPLETED, 2)


async def test_without_another_replica_it_is_an_http_error(start: Start) -> None:
    """Nothing has gone out yet: 502 with the engine's words, no stream."""
    async with upstream(stream(FRAME, DONE)) as engine, start([engine.port]) as running:
        status, answer = await ask(running)
        outcome = await running.outcome()
    error = json.loads(answer)["error"]
    assert (status, error["code"]) == (502, "engine_stream_error")
    assert "CUDA error" in error["message"]
    assert (outcome.ending, outcome.status, outcome.usage_from) == (Ending.FAILED, 502, UsageFrom.NONE)


async def test_a_request_that_the_engine_refuses_in_its_stream_is_not_tried_again(start: Start) -> None:
    """TGI says at status 200 that the input is too long: the client gets a 400, and no other replica is bothered."""
    refusal = event({"error": "Input validation error: `inputs` too long", "error_type": "validation"})
    async with (
        upstream(stream(refusal)) as one,
        upstream(stream(refusal)) as two,
        start([one.port, two.port]) as running,
    ):
        status, answer = await ask(running)
        outcome = await running.outcome()
        assert running.failures == []
    error = json.loads(answer)["error"]
    assert (status, error["code"]) == (400, "engine_rejected")
    assert "too long" in error["message"]
    assert (outcome.ending, outcome.attempts) == (Ending.REJECTED, 1)
    assert len(one.seen) + len(two.seen) == 1


def typed(kind: str, **more: object) -> bytes:
    return f"event: {kind}\n".encode() + event({"type": kind, **more})


DELTA = typed("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"})
STOPS = typed("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 1})
TEXT = typed("response.output_text.delta", delta="a")


@pytest.mark.parametrize(
    ("path", "pieces", "code"),
    [
        (MESSAGES, [DELTA, STOPS, typed("message_stop")], None),
        (MESSAGES, [DELTA, typed("message_stop")], "engine_unfinished"),
        (MESSAGES, [DELTA], "engine_unfinished"),
        (
            MESSAGES,
            [DELTA, typed("error", error={"type": "api_error", "message": "x"})],
            "engine_stream_error",
        ),
        (RESPONSES, [TEXT, typed("response.completed", response={"status": "completed"})], None),
        (
            RESPONSES,
            # As long as a long answer makes it: it is all of the text once more, behind the type.
            [TEXT, typed("response.completed", response={"error": None, "output": "x" * 400_000})],
            None,
        ),
        (RESPONSES, [TEXT, typed("response.incomplete", response={"status": "incomplete"})], None),
        (RESPONSES, [TEXT], "engine_unfinished"),
        (
            RESPONSES,
            [TEXT, typed("response.failed", response={"error": {"message": "x"}})],
            "engine_stream_error",
        ),
        (RESPONSES, [TEXT, typed("response.failed", response={"status": "failed"})], "engine_stream_error"),
        (RESPONSES, [TEXT, typed("error", code="server_error", message="x")], "engine_stream_error"),
    ],
)
async def test_other_dialects_have_their_own_ends(
    start: Start, path: str, pieces: list[bytes], code: str | None
) -> None:
    """Anthropic's stop_reason, OpenAI's response events; errors that the engine did not tell come in the dialect."""
    async with upstream(stream(*pieces)) as engine, start([engine.port]) as running:
        _, answer = await ask(running, path)
        outcome = await running.outcome()
    assert (outcome.ending, outcome.error_code) == (Ending.FAILED if code else Ending.COMPLETED, code)
    assert answer.startswith(b"".join(pieces))
    if code == "engine_unfinished":
        told = answer.removeprefix(b"".join(pieces))
        assert told.startswith(b"event: error\n" if path == MESSAGES else b"data: ")
    else:
        assert answer == b"".join(pieces)


ABORTED = json.dumps(
    {
        "choices": [{"index": 0, "message": {"content": "half"}, "finish_reason": "abort"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    }
).encode()


async def test_a_whole_call_that_was_aborted_is_tried_elsewhere(start: Start) -> None:
    """vLLM answers 200 when it is stopped in the middle; another replica gives the answer, or the call fails."""
    whole = ABORTED.replace(b"abort", b"stop")

    def answers(body: bytes) -> Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]:
        async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer(body))
            await writer.drain()

        return handler

    async with upstream(answers(ABORTED)) as bad, upstream(answers(whole)) as good:
        async with start([bad.port, good.port]) as running:
            assert await ask(running, body=CHAT_BODY) == (200, whole)
            assert (await running.outcome()).attempts == 2
        async with start([bad.port]) as running:
            status, answer = await ask(running, body=CHAT_BODY)
            assert (status, json.loads(answer)["error"]["code"]) == (502, "engine_aborted")
            assert (await running.outcome()).ending is Ending.FAILED


async def test_a_server_that_never_says_why_can_be_allowed_to(start: Start) -> None:
    """`gives_finish_reason: false`: a stream that ends in order is whole, an error frame is still none."""
    async with (
        upstream(stream(token("a"), DONE)) as engine,
        start([engine.port], reason_needed=False) as running,
    ):
        assert await ask(running) == (200, token("a") + DONE)
        assert (await running.outcome()).ending is Ending.COMPLETED
    async with (
        upstream(stream(token("a"), FRAME, DONE)) as engine,
        start([engine.port], reason_needed=False) as running,
    ):
        await ask(running)
        assert (await running.outcome()).error_code == "engine_stream_error"


async def test_the_client_may_leave_after_the_end_mark(start: Start) -> None:
    """SDKs stop reading at [DONE]: the answer was whole by then, and is billed what the engine said."""
    hold = asyncio.Event()

    async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(token("a")) + chunk(token("", "stop")) + chunk(USAGE + DONE))
        await writer.drain()
        await hold.wait()

    async with upstream(handler) as engine, start([engine.port]) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(post(CHAT, CHAT_STREAM))
        async with asyncio.timeout(5):
            await reader.readuntil(DONE)
        writer.close()
        outcome = await running.outcome()
        hold.set()
    assert (outcome.completion_tokens, outcome.usage_from) == (3, UsageFrom.ENGINE)
