"""Reads what engines answer on /v1/chat/completions and /v1/completions, whole or event by event, tolerantly.

Engines differ in what they leave out, and remote ones in the shape of their errors; what is of a wrong type is
left to the caller as NotAnswered.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from inferry.gateway.fronts.front import NotAnswered
from inferry.gateway.verdict import judge_reason


class CallFunction(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None
    """JSON, or a piece of it."""


class ToolCall(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: CallFunction | None = None


class Delta(msgspec.Struct):
    """A whole message, or what is new of it."""

    content: str | None = None
    reasoning_content: str | None = None  # SGLang, llama.cpp, DeepSeek
    reasoning: str | None = None  # vLLM, Ollama, OpenRouter
    tool_calls: list[ToolCall] | None = None


class Choice(msgspec.Struct):
    index: int = 0
    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    """TGI: an empty text until the end, and its own words there."""
    stop_reason: str | int | None = None
    """vLLM: the stop sequence that ended it, or a token's id; None for the model's own end."""

    @property
    def said(self) -> Delta:
        return self.delta or self.message or Delta(self.text)

    @property
    def ended(self) -> str | None:
        """Why it has ended, in the engine's words; None: it goes on. Raises NotAnswered where it was given up.

        Which words mean that is the gateway's one judgement, so that its ledger says what its client hears.
        """
        if not self.finish_reason:
            return None
        if judge_reason(self.finish_reason, reason_needed=False) is not None:
            raise NotAnswered(502, f"The engine ended the answer with '{self.finish_reason}'.")
        return self.finish_reason


class Tokens(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Timings(msgspec.Struct):
    """llama.cpp's own measure, in milliseconds."""

    prompt_ms: float | None = None
    predicted_ms: float | None = None


class Piece(msgspec.Struct):
    """An answer, or an event of one."""

    choices: list[Choice] | None = None
    usage: Tokens | None = None
    timings: Timings | None = None
    error: Raw | UnsetType = UNSET

    @property
    def choice(self) -> Choice | None:
        """The only one: more are never asked for."""
        return self.choices[0] if self.choices else None


_decode = msgspec.json.Decoder(Piece).decode
_UNREADABLE = "The engine's answer could not be read."


def read_piece(data: bytes) -> Piece:
    """One JSON object of an engine's. Raises NotAnswered if it is none, or tells of an error."""
    try:
        piece = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise NotAnswered(502, _UNREADABLE) from None
    if piece.error is not UNSET and bytes(piece.error) != b"null":
        raise NotAnswered(*error_of(data, 502))
    return piece


_TEXT_CHARS_MAX = 2000


def error_of(body: bytes, status: int) -> tuple[int, str]:
    """(status, message) of an error in any of the shapes that are about: `{"error": {"message"}}`, `{"error": "..."}`,
    `{"message"}`, `{"detail"}`. `status`: taken where the body has none of its own."""
    try:
        fields: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        fields = None
    if isinstance(fields, dict) and isinstance(fields.get("error"), dict):
        fields = fields["error"]
    if isinstance(fields, dict):
        code = fields.get("code")
        if isinstance(code, int) and 400 <= code <= 599:
            status = code
        for name in ("message", "error", "detail"):
            text = fields.get(name)
            if isinstance(text, str) and text:
                return status, text[:_TEXT_CHARS_MAX]
    return status, f"The engine answered with an error that says nothing more (status {status})."


_BOUNDARY = re.compile(rb"\r?\n\r?\n|\r\r")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_DONE = b"[DONE]"


class EventReader:
    """Takes a stream's bytes, cut anywhere, and gives the data of its whole events; comments and `[DONE]` are none."""

    BYTES_MAX = 8 * 1024 * 1024
    """Of an event that has not ended: more is no event that an engine writes."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Raises NotAnswered where an event does not end."""
        *events, self._rest = _BOUNDARY.split(self._rest + data)
        if len(self._rest) > self.BYTES_MAX:
            raise NotAnswered(502, _UNREADABLE)
        return [found for event in events if (found := _data_of(event))]

    def finish(self) -> list[bytes]:
        """An event that the end of the stream has ended."""
        rest, self._rest = self._rest, b""
        return [found] if (found := _data_of(rest)) else []


def _data_of(event: bytes) -> bytes:
    data = b"\n".join(line[5:].strip() for line in _LINE_END.split(event) if line.startswith(b"data:"))
    return b"" if data == _DONE else data
