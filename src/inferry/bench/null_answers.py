"""What the null server says: whole and proper answers of each API, with as many tokens as were asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import msgspec

from inferry.bench.plan import Api

PATHS: dict[str, Api] = {
    "/chat/completions": "chat",
    "/completions": "completions",
    "/responses": "responses",
    "/messages": "messages",
    "/generate_stream": "tgi",
    "/generate": "tgi",
    "/embeddings": "embeddings",
}
"""By the end of a path; the first that fits."""
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
WORD = " word"

_Event = dict[str, object]


@lru_cache(maxsize=256)
def streamed(api: Api, tokens: int) -> tuple[bytes, ...]:
    """One write per token: the head goes with the first, the end with the last."""
    *firsts, last = [b"".join(_framed(event) for event in events) for events in _steps(api, tokens)]
    if api in ("chat", "completions"):
        last += _chunk(b"data: [DONE]\n\n")
    writes = [*firsts, last + b"0\r\n\r\n"]
    return (STREAM_HEAD + writes[0], *writes[1:])


@lru_cache(maxsize=256)
def whole(api: Api, tokens: int) -> bytes:
    """The answer in one body."""
    body = msgspec.json.encode(_body(api, tokens))
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


def _framed(event: _Event) -> bytes:
    name = event.get("type")  # where the API has one, the event is also called so
    line = f"event: {name}\n".encode() if name else b""
    return _chunk(b"%bdata: %b\n\n" % (line, msgspec.json.encode(event)))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _steps(api: Api, tokens: int) -> Iterator[list[_Event]]:
    """For each token, the events that come with it."""
    before: list[_Event] = []
    if api == "messages":
        before = [{"type": "message_start", "message": {"role": "assistant", "usage": {"input_tokens": 1}}}]
    for number in range(1, tokens + 1):
        after = _ends(api, tokens) if number == tokens else []
        yield [*before, _token(api, number, tokens), *after]
        before = []


def _token(api: Api, number: int, tokens: int) -> _Event:
    match api:
        case "chat":
            return {"choices": [{"index": 0, "delta": {"content": WORD}, "finish_reason": None}]}
        case "completions":
            return {"choices": [{"index": 0, "text": WORD, "finish_reason": None}]}
        case "responses":
            return {"type": "response.output_text.delta", "delta": WORD}
        case "messages":
            return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORD}}
        case _:
            event: _Event = {"token": {"id": 1, "text": WORD, "special": False}, "generated_text": None}
            return {**event, **_body("tgi", tokens)} if number == tokens else event


def _ends(api: Api, tokens: int) -> list[_Event]:
    """What comes after the last token."""
    match api:
        case "chat" | "completions":
            choice: _Event = {"index": 0, "finish_reason": "length"}
            if api == "chat":
                choice["delta"] = {}
            else:
                choice["text"] = ""
            return [{"choices": [choice]}, {"choices": [], "usage": _usage(tokens)}]
        case "responses":
            return [{"type": "response.incomplete", "response": _body("responses", tokens)}]
        case "messages":
            usage = {"output_tokens": tokens}
            delta: _Event = {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": usage}
            return [delta, {"type": "message_stop"}]
        case _:
            return []


def _body(api: Api, tokens: int) -> _Event:
    text = WORD * tokens
    usage: _Event = {"input_tokens": 1, "output_tokens": tokens}
    match api:
        case "chat":
            message = {"role": "assistant", "content": text}
            choice: _Event = {"index": 0, "message": message, "finish_reason": "length"}
            return {"choices": [choice], "usage": _usage(tokens)}
        case "completions":
            return {
                "choices": [{"index": 0, "text": text, "finish_reason": "length"}],
                "usage": _usage(tokens),
            }
        case "responses":
            item = {"type": "message", "content": [{"type": "output_text", "text": text}]}
            why = {"reason": "max_output_tokens"}
            return {"status": "incomplete", "incomplete_details": why, "output": [item], "usage": usage}
        case "messages":
            return {"content": [{"type": "text", "text": text}], "stop_reason": "max_tokens", "usage": usage}
        case "tgi":
            return {
                "generated_text": text,
                "details": {"finish_reason": "length", "generated_tokens": tokens},
            }
        case _:
            one = {"index": 0, "embedding": [0.5] * 8}
            return {"data": [one], "usage": {"prompt_tokens": 1, "total_tokens": 1}}


def _usage(tokens: int) -> _Event:
    return {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
