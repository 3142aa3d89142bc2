"""Answers as engines stream them, in each dialect, from pieces of text; and the text that a client reads from them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from inferry.core.filter_settings import Filter
from inferry.core.request import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Route
from inferry.gateway.filters.filter_set import FilterSet
from inferry.gateway.filters.stream_filter import StreamFilter

DIALECTS = (
    "chat",
    "reasoning",
    "tool",
    "completions",
    "responses",
    "response_tool",
    "messages",
    "message_tool",
)
ARGUMENTS = frozenset({"tool", "response_tool", "message_tool"})
ROUTE_OF: dict[str, Route] = {
    "chat": CHAT,
    "reasoning": CHAT,
    "tool": CHAT,
    "completions": COMPLETIONS,
    "responses": RESPONSES,
    "response_tool": RESPONSES,
    "messages": MESSAGES,
    "message_tool": MESSAGES,
}


def compiled(*entries: dict[str, Any]) -> FilterSet:
    """Each entry as it would stand in the file; names are given if they have none."""
    return FilterSet([Filter.model_validate({"name": f"r{at}", **each}) for at, each in enumerate(entries)])


def event(body: dict[str, Any], end: str = "\n", name: str = "") -> bytes:
    head = f"event: {name}{end}" if name else ""
    return f"{head}data: {json.dumps(body)}{end}{end}".encode()


def stream_of(dialect: str, pieces: Sequence[str], end: str = "\n") -> list[bytes]:
    """The events of an answer whose text comes in `pieces`."""
    match dialect:
        case "chat" | "reasoning" | "tool" | "completions":
            return _choices(dialect, pieces, end)
        case "responses" | "response_tool":
            return _responses(dialect, pieces, end)
        case _:
            return _messages(dialect, pieces, end)


def _choices(dialect: str, pieces: Sequence[str], end: str) -> list[bytes]:
    def chunk(choice: dict[str, Any]) -> bytes:
        return event({"id": "c1", "model": "m", "choices": [{"index": 0, **choice}]}, end)

    def delta(text: str) -> dict[str, Any]:
        if dialect == "completions":
            return {"text": text}
        if dialect == "tool":
            return {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}}
        return {"delta": {"reasoning_content" if dialect == "reasoning" else "content": text}}

    first = (
        [] if dialect == "completions" else [chunk({"delta": {"role": "assistant"}, "finish_reason": None})]
    )
    last: dict[str, Any] = {"text": ""} if dialect == "completions" else {"delta": {}}
    return [
        *first,
        *(chunk({**delta(piece), "finish_reason": None}) for piece in pieces),
        chunk({**last, "finish_reason": "stop"}),
        event({"id": "c1", "choices": [], "usage": {"total_tokens": 9}}, end),
        f"data: [DONE]{end}{end}".encode(),
    ]


def _responses(dialect: str, pieces: Sequence[str], end: str) -> list[bytes]:
    item: dict[str, Any]
    place: dict[str, Any]
    stem = "response.output_text" if dialect == "responses" else "response.function_call_arguments"
    place = {"item_id": "i1", "output_index": 0}
    text = "".join(pieces)
    if dialect == "responses":
        place["content_index"] = 0
        item = {"id": "i1", "type": "message", "content": [{"type": "output_text", "text": text}]}
        whole = {"text": text}
    else:
        item = {"id": "i1", "type": "function_call", "name": "f", "arguments": text}
        whole = {"arguments": text}
    bodies: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"id": "r1", "status": "in_progress", "output": []}},
        *({"type": f"{stem}.delta", **place, "delta": piece} for piece in pieces),
        {"type": f"{stem}.done", **place, **whole},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": "r1", "status": "completed", "output": [item]}},
    ]
    return [event({**body, "sequence_number": at}, end, str(body["type"])) for at, body in enumerate(bodies)]


def _messages(dialect: str, pieces: Sequence[str], end: str) -> list[bytes]:
    block: dict[str, Any]
    if dialect == "messages":
        block, kind, field = {"type": "text", "text": ""}, "text_delta", "text"
    else:
        block = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
        kind, field = "input_json_delta", "partial_json"
    bodies: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "m1", "content": [], "usage": {"input_tokens": 3}}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: piece}}
            for piece in pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    return [event(body, end, body["type"]) for body in bodies]


def bodies_of(stream: bytes) -> list[Any]:
    """The data of each event, `[DONE]` as a text."""
    found: list[Any] = []
    for each in stream.replace(b"\r\n", b"\n").split(b"\n\n"):
        for line in each.split(b"\n"):
            if line.startswith(b"data: "):
                found.append("[DONE]" if line[6:] == b"[DONE]" else json.loads(line[6:]))
    return found


def text_of(dialect: str, stream: bytes) -> str:
    """What a client puts together."""
    parts: list[str] = []
    for body in bodies_of(stream):
        if body == "[DONE]":
            continue
        for choice in body.get("choices", ()):
            delta = choice.get("delta", {})
            calls = delta.get("tool_calls") or [{"function": {}}]
            parts += [
                choice.get("text", ""),
                delta.get("content") or "",
                delta.get("reasoning_content") or "",
                calls[0]["function"].get("arguments", ""),
            ]
        delta = body.get("delta", "")
        if isinstance(delta, str):
            parts.append(delta)
        else:
            parts += [delta.get("text", ""), delta.get("partial_json", "")]
    return "".join(parts)


def ending_of(dialect: str, stream: bytes) -> str:
    """The reason that the client reads for the end of the answer."""
    reasons = [""]
    for body in bodies_of(stream):
        if body == "[DONE]":
            continue
        reasons += [choice.get("finish_reason") or "" for choice in body.get("choices", ())]
        if body.get("type") == "message_delta":
            reasons.append(body["delta"]["stop_reason"])
        response = body.get("response", {})
        if response.get("status") == "incomplete":
            reasons.append(response["incomplete_details"]["reason"])
        elif response.get("status") == "completed":
            reasons.append("completed")
    return next(reason for reason in reversed(reasons) if reason or reason == reasons[0])


def run(stream: StreamFilter, events: Sequence[bytes]) -> bytes:
    out: list[bytes] = []
    for each in events:
        out.append(stream.feed(each))
        if stream.blocked is not None:
            return b"".join(out)
    return b"".join([*out, stream.finish()])


def compositions(text: str) -> Iterator[list[str]]:
    """Every way to cut `text` into pieces that are not empty: 2^(n-1)."""
    for cuts in itertools.product((False, True), repeat=max(0, len(text) - 1)):
        pieces, start = [], 0
        for at, cut in enumerate(cuts, 1):
            if cut:
                pieces.append(text[start:at])
                start = at
        yield [*pieces, text[start:]]


def few_cuts(text: str) -> Iterator[list[str]]:
    """Whole, one character each, and every way to cut it twice."""
    yield [text]
    yield list(text)
    for first, second in itertools.combinations(range(1, len(text)), 2):
        yield [text[:first], text[first:second], text[second:]]
