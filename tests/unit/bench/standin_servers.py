"""Answers as engines and broken servers give them, one for each known way to err, and a stand-in server for them.

Each is written by hand after what engines send; none was recorded. `Standin.verdict` is what is right for it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from inferry.bench.plan import Api, Target
from inferry.bench.records import Ask, Raw, Verdict

STREAM = "text/event-stream"
JSON = "application/json"
DONE = b"data: [DONE]\n\n"
IN_TURN = "in-turn"
NOT_FOUND = b"HTTP/1.1 404 .\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
ASKED = 3
"""Tokens that every ask wants."""


@dataclass(frozen=True)
class Standin:
    name: str
    verdict: Verdict
    body: bytes
    api: Api = "chat"
    status: int = 200
    content_type: str = STREAM
    whole: bool = True
    """HTTP's end comes too."""
    tokens: int = ASKED
    """That a reader of the answer should count."""
    stream: bool = True
    extra: tuple[tuple[str, object], ...] = ()
    head_after_s: float = 0.0
    stall_s: float = 0.0
    """Before the second half of the body."""

    @property
    def target(self) -> Target:
        return self.target_at("http://127.0.0.1:1")

    def target_at(self, server: str) -> Target:
        return Target(
            base_url=f"{server}/{self.name}",
            model="m",
            api=self.api,
            stream=self.stream,
            extra=dict(self.extra),
        )

    def raw(self, pieces: tuple[tuple[float, bytes], ...] | None = None, whole: bool | None = None) -> Raw:
        """As a client saw it that sent at 0.5 s. Without `pieces`: all in one, at 1 s."""
        pieces = ((1.0, self.body),) if pieces is None else pieces
        return Raw(
            number=0,
            due_s=0.4,
            sent_s=0.5,
            first_byte_s=0.75,
            ended_s=3.0,
            status=self.status,
            content_type=self.content_type,
            pieces=pieces,
            whole=self.whole if whole is None else whole,
        )


ASK = Ask(number=0, due_s=0.4, text="Say three words.", input_tokens=4, output_tokens=ASKED)


def event(fields: dict[str, Any], kind: str = "") -> bytes:
    named = f"event: {kind}\n".encode() if kind else b""
    return named + b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\n\n"


def delta(finish: str | None = None, usage: int | None = None, index: int = 0, **fields: Any) -> bytes:
    """A chunk of chat. `usage`: the tokens up to here."""
    ids = {"token_ids": fields.pop("ids")} if "ids" in fields else {}
    chunk: dict[str, Any] = {"choices": [{"index": index, "delta": fields, "finish_reason": finish, **ids}]}
    return event(chunk if usage is None else {**chunk, "usage": used(usage)})


def used(tokens: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": 4, "completion_tokens": tokens, "total_tokens": 4 + tokens, **more}


def total(tokens: int, **more: Any) -> bytes:
    """The chunk without choices that ends a stream."""
    return event({"choices": [], "usage": used(tokens, **more)})


def text(piece: str, finish: str | None = None, usage: int | None = None) -> bytes:
    """A chunk of completions."""
    chunk: dict[str, Any] = {"choices": [{"index": 0, "text": piece, "finish_reason": finish}]}
    return event(chunk if usage is None else {**chunk, "usage": used(usage)})


def say(kind: str, **fields: Any) -> bytes:
    """An event of messages or responses: its type stands outside and inside."""
    return event({"type": kind, **fields}, kind)


def block(index: int = 0, **fields: Any) -> bytes:
    return say("content_block_delta", index=index, delta=fields)


def stopped(reason: str | None, tokens: int) -> bytes:
    stop = say("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": tokens})
    return say("content_block_stop", index=0) + stop + say("message_stop")


def response(status: str, tokens: int = ASKED, reason: str | None = None, **more: Any) -> dict[str, Any]:
    details = None if reason is None else {"reason": reason}
    usage = {"input_tokens": 4, "output_tokens": tokens, "output_tokens_details": {"reasoning_tokens": 1}}
    return {"status": status, "incomplete_details": details, "error": None, "usage": usage, **more}


def token(piece: str, end: str | None = None, *, special: bool = False) -> bytes:
    """An event of TGI; `end`: the finish reason of the last one."""
    details = None if end is None else {"finish_reason": end, "generated_tokens": ASKED, "input_length": 4}
    shown = {"id": 7, "text": piece, "special": special}
    return event({"token": shown, "generated_text": None if end is None else "a b c", "details": details})


ROLE = delta(role="assistant", content="")
WORDS = delta(content="one") + delta(content=" two") + delta(content=" three")
FAILED = event({"error": {"message": "out of memory", "type": "InternalServerError", "code": 500}})
WELL = ROLE + WORDS + delta("length") + total(ASKED) + DONE
STARTED = say(
    "message_start", message={"usage": {"input_tokens": 3, "cache_read_input_tokens": 1, "output_tokens": 1}}
)
STARTED += say("content_block_start", index=0, content_block={"type": "text", "text": ""}) + say("ping")
BLOCKS = block(type="text_delta", text="one") + block(type="text_delta", text=" two three")
CREATED = say("response.created", response=response("in_progress", usage=None))
SAID = say("response.output_text.delta", delta="one") + say("response.output_text.delta", delta=" two three")
WHOLE_CHAT = {"choices": [{"index": 0, "message": {"content": "one two three"}, "finish_reason": "length"}]}
CALL = {"type": "function_call", "name": "f", "arguments": "{}"}

OK, ERROR, CUT = Verdict.OK, Verdict.STREAM_ERROR, Verdict.TRUNCATED
BAD, SHORT, OPEN = Verdict.MALFORMED, Verdict.WRONG_LENGTH, Verdict.NO_FINISH

STANDINS = (
    # --- as it should be, in all its forms
    Standin("well", OK, WELL),
    Standin("without-done", OK, ROLE + WORDS + delta("length") + total(ASKED)),
    Standin("without-role-and-usage", OK, WORDS + delta("stop") + DONE),
    Standin("closed-behind-done", OK, WELL, whole=False),
    Standin("ended-early-by-itself", OK, ROLE + delta(content="one") + delta("stop") + total(1) + DONE, tokens=1),
    Standin("empty-chunks", OK, ROLE + delta(content="") * 4 + WORDS + delta(content="") * 3 + delta("length") + total(3)),
    Standin("crlf", OK, WELL.replace(b"\n", b"\r\n")),
    Standin("cr", OK, WELL.replace(b"\n", b"\r")),
    Standin("mixed-line-ends", OK, WELL.replace(b"\n\n", b"\n\r\n")),
    Standin("comments", OK, WELL.replace(b"data: {", b": keep-alive\n\n: and one more\ndata:{")),
    Standin("byte-order-mark", OK, b"\xef\xbb\xbf" + WELL),
    Standin("other-fields", OK, WELL.replace(b"data: {", b"id: 7\nretry: 9\nevent: message\ndata: {")),
    Standin("data-in-lines", OK, WELL.replace(b'"delta":', b'\ndata:   "delta":')),
    Standin("no-last-empty-line", OK, ROLE + WORDS + total(ASKED) + delta("length")[:-2]),
    Standin("utf-8", OK, ROLE + delta(content="日本") + delta(content="語🙂") + delta(content="é") + delta("length") + total(3)),
    Standin("mentions-an-error", OK, ROLE + WORDS + delta("length", content='"error": {') + total(ASKED) + DONE),
    Standin("reasoning", OK, ROLE + delta(reasoning="hm") + delta(reasoning_content="ah") + delta("stop", content="yes") + total(3)),
    Standin("tool-call", OK, ROLE + delta(tool_calls=[{"function": {"name": "f", "arguments": ""}}]) + delta("tool_calls", tool_calls=[{"function": {"arguments": "{}"}}]) + total(2), tokens=2),
    Standin("two-choices", OK, WORDS + delta("length") + delta(content="uno due tre", index=1) + delta("length", index=1) + total(6), tokens=6, extra=(("n", 2),)),
    Standin("late-head", OK, WELL, head_after_s=0.15),
    Standin("stall", OK, WELL, stall_s=0.15),
    Standin("completions", OK, text("one") + text("", usage=0) + text(" two") + text(" three", "length") + total(3) + DONE, "completions"),
    Standin("responses", OK, CREATED + SAID + say("response.completed", response=response("completed")), "responses"),
    Standin("responses-by-length", OK, CREATED + SAID + say("response.incomplete", response=response("incomplete", reason="max_output_tokens")), "responses"),
    Standin("messages", OK, STARTED + BLOCKS + stopped("max_tokens", 3), "messages"),
    Standin("tgi", OK, token("a") + token(" b") + token(" c", "length"), "tgi"),
    Standin("embeddings", OK, json.dumps({"data": [{"embedding": [0.5, 1]}], "usage": {"prompt_tokens": 4}}).encode(), "embeddings", content_type=JSON, tokens=0),
    Standin("chat-in-one-body", OK, json.dumps({**WHOLE_CHAT, "usage": used(3)}).encode(), content_type=JSON, stream=False),
    Standin("messages-in-one-body", OK, json.dumps({"content": [{"type": "text", "text": "one two three"}], "stop_reason": "end_turn", "usage": {"input_tokens": 4, "output_tokens": 3}}).encode(), "messages", content_type=JSON, stream=False),
    Standin("responses-in-one-body", OK, json.dumps(response("completed", output=[CALL])).encode(), "responses", content_type=JSON, stream=False),
    Standin("tgi-in-one-body", OK, json.dumps({"generated_text": "a b c", "details": {"finish_reason": "length", "generated_tokens": 3, "prefill": []}}).encode(), "tgi", content_type=JSON, stream=False),
    # --- several tokens at once
    Standin("five-in-a-chunk-usage", OK, ROLE + delta(content="a", usage=1) + delta(content=" bcdef", usage=2) + delta("length", content="g", usage=3) + total(3) + DONE),
    Standin("five-in-a-chunk-ids", OK, ROLE + delta(content="a", ids=[1]) + delta("length", content=" bcdef", ids=[2, 3]) + DONE),
    Standin("five-in-a-chunk-spread", OK, ROLE + delta(content="a") + delta("length", content="bc") + total(3) + DONE),
    # --- errors behind a 200
    Standin("error-then-done", ERROR, ROLE + delta(content="one") + FAILED + DONE, tokens=1),
    Standin("error-then-finish", ERROR, ROLE + delta(content="one") + FAILED + delta("stop") + DONE, tokens=1),
    Standin("error-event", ERROR, ROLE + delta(content="one") + b"event: error\ndata: gone\n\n", tokens=1),
    Standin("error-flat", ERROR, ROLE + event({"object": "error", "message": "gone", "code": 500}), tokens=0),
    Standin("error-as-body", ERROR, b'{"error": {"message": "no such model"}}', content_type=JSON, tokens=0),
    Standin("error-as-body-not-streamed", ERROR, b'{"error": "busy"}', content_type=JSON, stream=False, tokens=0),
    Standin("engine-gave-up", ERROR, ROLE + WORDS + delta("abort") + total(ASKED) + DONE),
    Standin("messages-error", ERROR, STARTED + BLOCKS + say("error", error={"type": "overloaded_error", "message": "full"}), "messages", tokens=2),
    Standin("responses-failed", ERROR, CREATED + SAID + say("response.failed", response=response("failed", 2, error={"message": "gone"})), "responses", tokens=2),
    Standin("responses-error", ERROR, CREATED + SAID + say("error", message="gone", code="500"), "responses", tokens=2),
    Standin("tgi-error", ERROR, token("a") + event({"error": "gone", "error_type": "generation"}), "tgi", tokens=1),
    # --- ends that are none
    Standin("cut-in-an-event", CUT, (ROLE + WORDS)[:-9], whole=False, tokens=2),
    Standin("cut-between-events", CUT, ROLE + WORDS, whole=False),
    Standin("cut-behind-the-finish", CUT, ROLE + WORDS + delta("length"), whole=False),
    Standin("cut-body", CUT, json.dumps(WHOLE_CHAT).encode()[:-5], whole=False, stream=False, content_type=JSON, tokens=0),
    Standin("cut-head-only", CUT, b"", whole=False, tokens=0),
    Standin("messages-cut", CUT, STARTED + BLOCKS, "messages", whole=False, tokens=2),
    Standin("tgi-cut", CUT, token("a") + token(" b"), "tgi", whole=False, tokens=2),
    Standin("no-finish-then-done", OPEN, ROLE + WORDS + total(ASKED) + DONE),
    Standin("no-finish", OPEN, ROLE + WORDS),
    Standin("no-events", OPEN, b"", tokens=0),
    Standin("comments-only", OPEN, b": keep-alive\n\n", tokens=0),
    Standin("empty-finish", OPEN, ROLE + WORDS + delta("") + DONE),
    Standin("one-choice-of-two", OPEN, WORDS + delta("length") + total(ASKED), extra=(("n", 2),)),
    Standin("messages-no-stop", OPEN, STARTED + BLOCKS + stopped(None, 3), "messages"),
    Standin("responses-no-end", OPEN, CREATED + SAID, "responses", tokens=2),
    Standin("tgi-no-details", OPEN, token("a") + event({"token": {"text": " b"}, "generated_text": "a b"}), "tgi", tokens=2),
    Standin("nothing-said", Verdict.EMPTY, ROLE + delta(content="") * 3 + delta("stop") + total(0) + DONE, tokens=0),
    Standin("no-vectors", Verdict.EMPTY, b'{"data": []}', "embeddings", content_type=JSON, tokens=0),
    # --- not as many as asked for
    Standin("too-few", SHORT, ROLE + WORDS + delta("length") + total(2) + DONE, tokens=2),
    Standin("too-many", SHORT, ROLE + WORDS + delta("stop") + total(4) + DONE, tokens=4),
    Standin("filtered", SHORT, ROLE + delta(content="one") + delta("content_filter") + total(1) + DONE, tokens=1),
    Standin("messages-too-few", SHORT, STARTED + BLOCKS + stopped("max_tokens", 2), "messages", tokens=2),
    # --- not the API
    Standin("event-not-json", BAD, ROLE + delta(content="one") + b"data: {oops\n\n" + DONE, tokens=1),
    Standin("event-of-another-form", BAD, ROLE + event({"choices": "none"}), tokens=0),
    Standin("event-not-utf-8", BAD, ROLE + delta(content="one") + delta(content="X").replace(b"X", b"\xff"), tokens=1),
    Standin("page-instead", BAD, b"<html><body>It works!</body></html>", content_type="text/html", tokens=0),
    Standin("body-instead-of-stream", BAD, json.dumps(WHOLE_CHAT).encode(), content_type=JSON, tokens=0),
    Standin("stream-instead-of-body", BAD, WELL, stream=False, tokens=0),
    Standin("not-200", Verdict.HTTP_ERROR, b'{"error": {"message": "try later"}}', status=503, content_type=JSON, tokens=0),
    Standin("not-200-cut", Verdict.HTTP_ERROR, b'{"detail": "try la', status=502, whole=False, tokens=0),
    Standin("only-almost-200", Verdict.HTTP_ERROR, WELL, status=206, tokens=0),
)  # fmt: skip


@asynccontextmanager
async def serving(standins: tuple[Standin, ...] = STANDINS) -> AsyncIterator[str]:
    """All of them over HTTP/1.1, each below its name, and below IN_TURN one after the other: the server's address.

    Connections are closed after each answer.
    """
    by_name = {standin.name: standin for standin in standins}
    in_turn = itertools.cycle(standins)
    served: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            served.add(task)
            task.add_done_callback(served.discard)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if not head.startswith("POST "):  # other tools look for metrics and models
                writer.write(NOT_FOUND)
                return
            length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
            await reader.readexactly(int(length.partition(":")[2]))
            name = head.split("/")[1]
            await _send(next(in_turn) if name == IN_TURN else by_name[name], writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # a connection that was opened ahead and never used
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in served:
            task.cancel()
        await server.wait_closed()


async def _send(standin: Standin, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(standin.head_after_s)
    kind = f"Content-Type: {standin.content_type}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
    writer.write(f"HTTP/1.1 {standin.status} .\r\n{kind}\r\n".encode())
    middle = len(standin.body) // 2
    for half in (standin.body[:middle], standin.body[middle:]):
        if half:
            writer.write(f"{len(half):x}\r\n".encode() + half + b"\r\n")
        await writer.drain()
        await asyncio.sleep(standin.stall_s)
    if standin.whole:
        writer.write(b"0\r\n\r\n")
    await writer.drain()
