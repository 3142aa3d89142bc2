"""How many tokens of a stream were relayed, for answers whose engine never got to tell.

The client left, the engine died, the gateway was killed: there is no usage then. A read on the way costs one
search for the mark of an event that can carry a token; JSON is parsed only at the end, and only of the stream's
first and last events, to take out those that had the mark and no token.

Assumed: an event with text, reasoning or tool arguments carries one token. That is so for vLLM, SGLang, llama.cpp
and Ollama as they come. It counts too few where

- one event carries several tokens (speculative decoding, `--stream-interval N`): by that factor, unless the engine
  also tells its count in each event (`stream_options.continuous_usage_stats`, llama.cpp's `timings_per_token`):
  then that is taken, and exact;
- tokens had no text of their own (half a letter, the end sign, a tool call's frame): a few per answer.

It counts too many where an event without a token comes in the middle: the signature of an Anthropic thinking
block, or the role of a choice that began late: one for each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from inferry.core.request import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Route
from inferry.gateway.sse import event_fields, split_events
from inferry.gateway.usage import read_usage

# Keys of the events that can carry a token. With their bare quotes no model can write them.
_MARKS = {
    CHAT: b'"delta":',
    COMPLETIONS: b'"text":',
    RESPONSES: b'"delta":',
    MESSAGES: b'"delta":',
}
_NO_MARK = b"\0"
_HEAD_BYTES = 2048
"""What is kept of the beginning: a role event for each of a few choices."""
_PIECE_BYTES_MAX = 16 * 1024
"""Of the beginning and of the end, what is parsed at most."""
_PREDICTED = re.compile(rb'"timings"\s*+:\s*+\{[^{}]*?"predicted_n"\s*+:\s*+(\d{1,15})\b')
_LF = 10


class TokenEvents:
    """Counts one stream: `count` for every read, `tokens` at the end."""

    __slots__ = ("_cut", "_head", "_head_room", "_mark", "_overlap", "_route", "marks")

    def __init__(self, route: Route) -> None:
        self._route = route
        self._mark = _MARKS.get(route, _NO_MARK)
        self._overlap = 1 - len(self._mark)
        self.marks = 0
        self._cut = b""
        self._head: list[bytes] = []
        self._head_room = _HEAD_BYTES

    def count(self, data: bytes) -> int:
        """One read, not empty: any number of events, cut anywhere. Returns the marks so far."""
        if self._head_room > 0:
            self._head.append(data)
            self._head_room -= len(data)
        if self._cut:
            data = self._cut + data
            self._cut = b""
        if data[-1] != _LF:
            self._cut = data[self._overlap :]
        self.marks = marks = self.marks + data.count(self._mark)
        return marks

    def take_back(self, data: bytes) -> None:
        """The last read, whole events, is not for the client."""
        self.marks -= data.count(self._mark)
        if self._head and self._head[-1] is data:
            self._head.pop()
            self._head_room += len(data)

    def tokens(self, last_chunks: Iterable[bytes]) -> int:
        """Tokens in the whole events so far. `last_chunks` are the last reads, the very objects, in order."""
        first, last = self._ends(list(last_chunks))
        several = False
        without = 0
        for piece in (first, last):
            for event in split_events(piece)[0]:
                marks = event.count(self._mark)
                if marks and (fields := event_fields(event)) is not None:
                    without += marks - _tokens_in(self._route, fields)
                    several = several or _is_of_several(fields)
        behind = split_events(last or first)[1]
        # Nobody got the half event at the end.
        counted = max(self.marks - without - behind.count(self._mark), 0)
        told = self._told(last or first)
        if told is None:
            return counted
        # With several choices, an event's count is that of its own choice.
        return max(counted, told) if several else told

    def _ends(self, last_reads: list[bytes]) -> tuple[bytes, bytes]:
        """What is known of the beginning and of the end, without overlap; the second is empty if all is in the
        first."""
        shared = 0
        for count in range(1, min(len(self._head), len(last_reads)) + 1):
            if all(a is b for a, b in zip(self._head[-count:], last_reads, strict=False)):
                shared = count
        if shared or not last_reads:
            everything = b"".join(self._head + last_reads[shared:])
            if len(everything) <= 2 * _PIECE_BYTES_MAX:
                return everything, b""
            return everything[:_PIECE_BYTES_MAX], everything[-_PIECE_BYTES_MAX:]
        return b"".join(self._head)[:_PIECE_BYTES_MAX], b"".join(last_reads)[-_PIECE_BYTES_MAX:]

    def _told(self, end: bytes) -> int | None:
        """The engine's own running count, if its last event carries one."""
        for event in reversed(split_events(end)[0]):
            if b'"message_start"' in event:  # tells what is to come
                return None
            usage = read_usage([event])
            if usage is not None and usage.completion_tokens:  # Ollama's completions tell 0 in each event
                return usage.completion_tokens
            if (predicted := _PREDICTED.search(event)) is not None:
                return int(predicted[1])
            if self._mark in event:
                return None
        return None


def _tokens_in(route: Route, fields: dict[str, Any]) -> int:
    if route is RESPONSES:
        return int(str(fields.get("type")).endswith(".delta") and bool(fields.get("delta")))
    if route is MESSAGES:
        delta = fields.get("delta")
        return int(isinstance(delta, dict) and any(delta.get(key) for key in _ANTHROPIC_PAYLOADS))
    return sum(map(_has_token, _choices(fields)))


_ANTHROPIC_PAYLOADS = ("text", "thinking", "partial_json")


def _choices(fields: dict[str, Any]) -> list[dict[str, Any]]:
    choices = fields.get("choices")
    return [each for each in choices if isinstance(each, dict)] if isinstance(choices, list) else []


def _has_token(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        delta = {"text": choice.get("text")}
    if any(value for key, value in delta.items() if key != "role"):
        return True
    # vLLM sends an empty text for a token that is half a letter; at the beginning and the end it is none.
    is_empty_text = delta.get("content") == "" or delta.get("text") == ""
    return is_empty_text and "role" not in delta and choice.get("finish_reason") is None


def _is_of_several(fields: dict[str, Any]) -> bool:
    return any(choice.get("index") not in (0, None) for choice in _choices(fields))
