"""Looks at an answer that is not streamed, and writes the one that stands in place of a blocked one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Raw

from inferry.core.request import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Route
from inferry.gateway.filters.json_walk import (
    UNREADABLE,
    Blocks,
    Members,
    Walk,
    decode_items,
    decode_members,
    encode,
)
from inferry.gateway.filters.request_filter import UNREADABLE_RULE
from inferry.gateway.filters.rule import Rule
from inferry.gateway.filters.stream_filter import NOT_LOOKED_AT
from inferry.gateway.filters.verdict import Blocked, Masked, Passed, Verdict, blocked

ANSWER_FIELD = {CHAT: "choices", COMPLETIONS: "choices", RESPONSES: "output", MESSAGES: "content"}
"""Where a route's answer has its texts. Other routes' answers hold numbers, or the request's own texts."""


def filter_answer(rules: Sequence[Rule], route: Route, body: bytes) -> Verdict:
    """An answer without the field (an error of the engine's) passes."""
    name = ANSWER_FIELD[route]
    walk = Walk(rules, leave=NOT_LOOKED_AT)
    fields: Members = {}
    try:
        fields = decode_members(body)
        new = walk.value(fields[name], name) if name in fields else None
    except Blocks as ended:
        found = blocked(ended.rule.name, "answer")
        return blocked_answer(found, route, body)
    except UNREADABLE:
        if all(rule.action == "flag" for rule in rules):
            return Passed()
        return blocked(UNREADABLE_RULE, "answer", "it is not valid JSON")
    flags = frozenset(walk.flags)
    if new is None:
        return Passed(flags)
    return Masked(encode({**fields, name: new}), frozenset(walk.masked_by), flags)


def blocked_answer(found: Blocked, route: Route, body: bytes) -> Blocked:
    """`found` with the answer that the dialect has for it: the same head and usage, and no text."""
    try:
        fields = decode_members(body)
        if ANSWER_FIELD[route] not in fields:
            return found
        answer = encode({**fields, **_EMPTIED[route](fields)})
    except UNREADABLE:
        return found
    return Blocked(found.rule, found.error, found.flags, answer)


def answer_texts(route: Route, body: bytes) -> list[str]:
    """What a classifier is asked about."""
    texts: list[str] = []
    walk = Walk((), leave=NOT_LOOKED_AT, on_text=lambda _, text: texts.append(text) if text.strip() else None)
    try:
        fields = decode_members(body)
        if (name := ANSWER_FIELD[route]) in fields:
            walk.value(fields[name], name)
    except UNREADABLE:
        return []
    return texts


def _chat(fields: Members) -> dict[str, Any]:
    message = {"role": "assistant", "content": None, "refusal": None}
    return _choices(fields, {"message": message})


def _completions(fields: Members) -> dict[str, Any]:
    return _choices(fields, {"text": ""})


def _choices(fields: Members, emptied: dict[str, Any]) -> dict[str, Any]:
    choices = [decode_members(each) for each in decode_items(fields["choices"])]
    return {
        "choices": [
            {
                "index": choice.get("index", Raw(b"0")),
                **emptied,
                "logprobs": None,
                "finish_reason": "content_filter",
            }
            for choice in choices
        ]
    }


def _responses(fields: Members) -> dict[str, Any]:
    return {"output": [], "status": "incomplete", "incomplete_details": {"reason": "content_filter"}}


def _messages(fields: Members) -> dict[str, Any]:
    return {"content": [], "stop_reason": "refusal", "stop_sequence": None}


_EMPTIED: dict[Route, Callable[[Members], dict[str, Any]]] = {
    CHAT: _chat,
    COMPLETIONS: _completions,
    RESPONSES: _responses,
    MESSAGES: _messages,
}
