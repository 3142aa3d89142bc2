"""Answers of chats, completions and embeddings as Ollama gives them: JSON, or a line of JSON for each piece.

Built from Ollama 0.33's api/types.go. `eval_count` and `prompt_eval_count` are the engine's own counts, and left out
where it tells none. Durations, in nanoseconds: the engine's own measure where it tells one (llama.cpp), else, of a
stream, what the gateway saw: until the first piece, and from there to the end.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from msgspec import Raw

from inferry.core.clock import utc_text
from inferry.core.errors import InferryError
from inferry.gateway.fronts.answer_pieces import Delta, Piece, Timings, Tokens, ToolCall, read_piece
from inferry.gateway.fronts.front import Moments, NotAnswered

_encode = msgspec.json.encode
_CUT_SHORT = frozenset({"length", "content_filter"})
"""Reasons that leave a tool call unfinished. They are told as they are; every other one is `stop` to Ollama."""


class OllamaErrors:
    """A Grumbler: `{"error"}`."""

    def error(self, status: int, message: str) -> bytes:
        return _encode({"error": message})

    def error_piece(self, status: int, message: str) -> bytes:
        return _encode({"error": message}) + b"\n"


class Shape(Protocol):
    """Where the text goes: what /api/chat and /api/generate differ in."""

    def said(self, text: str, thinking: str, calls: list[dict[str, Any]]) -> dict[str, Any]: ...


class ChatShape:
    def said(self, text: str, thinking: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = calls
        return {"message": message}


class GenerateShape:
    def said(self, text: str, thinking: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        return {"response": text, "thinking": thinking} if thinking else {"response": text}


class OllamaWriter:
    """A Writer."""

    def __init__(self, shape: Shape, model: str, moments: Moments, *, stream: bool) -> None:
        """`model`: as the client named it."""
        self.stream_type = b"application/x-ndjson" if stream else None
        self._shape = shape
        self._model = model
        self._moments = moments
        self._begun_s = moments.now_s()
        self._first_s: float | None = None
        self._reason = "stop"
        self._usage = Tokens()
        self._timings = Timings()
        self._calls: dict[int, tuple[list[str], list[str]]] = {}
        """Pieces of (name, arguments), by the call's index: Ollama tells a call as a whole."""

    def whole(self, body: bytes) -> bytes:
        said = self._take(read_piece(body))
        text, thinking = _texts(said)
        return _encode(self._line(text, thinking, self._finished_calls(), self._end()))

    def piece(self, data: bytes) -> bytes:
        text, thinking = _texts(self._take(read_piece(data)))
        if not text and not thinking:
            return b""
        if self._first_s is None:
            self._first_s = self._moments.now_s()
        return _encode(self._line(text, thinking, [], {"done": False})) + b"\n"

    def last(self) -> bytes:
        lines = b""
        if calls := self._finished_calls():
            lines = _encode(self._line("", "", calls, {"done": False})) + b"\n"
        return lines + _encode(self._line("", "", [], self._end())) + b"\n"

    def _take(self, piece: Piece) -> Delta:
        """Note what it says besides its text."""
        self._usage = piece.usage or self._usage
        self._timings = piece.timings or self._timings
        choice = piece.choice
        if choice is None:
            return Delta()
        if (ended := choice.ended) is not None:
            self._reason = ended if ended in _CUT_SHORT else "stop"
        for number, call in enumerate(choice.said.tool_calls or ()):
            self._note_call(call, call.index if choice.delta is not None else number)
        return choice.said

    def _note_call(self, call: ToolCall, index: int) -> None:
        names, arguments = self._calls.setdefault(index, ([], []))
        if call.function is not None:
            names.append(call.function.name or "")
            arguments.append(call.function.arguments or "")

    def _finished_calls(self) -> list[dict[str, Any]]:
        """Without those in whose middle the answer was cut short: what was said before them is an answer all the
        same. Raises NotAnswered where the model itself ended one that is none."""
        calls: list[dict[str, Any]] = []
        was_cut = self._reason in _CUT_SHORT
        for _, (names, pieces) in sorted(self._calls.items()):
            written = "".join(pieces) or ("" if was_cut else "{}")
            try:
                arguments = msgspec.json.decode(written)
            except (msgspec.MsgspecError, RecursionError):
                arguments = None
            if was_cut and not isinstance(arguments, dict):
                continue
            if not isinstance(arguments, dict):
                raise NotAnswered(502, "The model's tool call has arguments that are no JSON object.")
            calls.append({"function": {"name": "".join(names), "arguments": arguments}})
        return calls

    def _line(
        self, text: str, thinking: str, calls: list[dict[str, Any]], rest: dict[str, Any]
    ) -> dict[str, Any]:
        created = rfc3339(self._moments.wall_s())
        said = self._shape.said(text, thinking, calls)
        return {"model": self._model, "created_at": created, **said, **rest}

    def _end(self) -> dict[str, Any]:
        now_s, timings = self._moments.now_s(), self._timings
        prompt_s = None if timings.prompt_ms is None else timings.prompt_ms / 1e3
        eval_s = None if timings.predicted_ms is None else timings.predicted_ms / 1e3
        if self._first_s is not None:
            prompt_s = self._first_s - self._begun_s if prompt_s is None else prompt_s
            eval_s = now_s - self._first_s if eval_s is None else eval_s
        figures = {
            "total_duration": _ns(now_s - self._begun_s),
            "prompt_eval_count": self._usage.prompt_tokens,
            "prompt_eval_duration": None if prompt_s is None else _ns(prompt_s),
            "eval_count": self._usage.completion_tokens,
            "eval_duration": None if eval_s is None else _ns(eval_s),
        }
        known = {name: figure for name, figure in figures.items() if figure is not None}
        return {"done": True, "done_reason": self._reason, **known}


def loaded(shape: Shape, model: str, moments: Moments) -> bytes:
    """The answer to a request that asks for nothing but the model."""
    head = {"model": model, "created_at": rfc3339(moments.wall_s())}
    return _encode({**head, **shape.said("", "", []), "done": True, "done_reason": "load"})


class _Vector(msgspec.Struct):
    embedding: Raw
    index: int = 0


class _Vectors(msgspec.Struct):
    data: list[_Vector] | None = None
    usage: Tokens | None = None


_decode_vectors = msgspec.json.Decoder(_Vectors).decode


class EmbeddingWriter:
    """A Writer for /api/embed, which never streams."""

    def __init__(self, model: str, moments: Moments) -> None:
        self.stream_type: bytes | None = None
        self._model = model
        self._moments = moments
        self._begun_s = moments.now_s()

    def whole(self, body: bytes) -> bytes:
        try:
            answer = _decode_vectors(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise NotAnswered(502, "The engine's embeddings could not be read.") from None
        vectors = sorted(answer.data or (), key=lambda each: each.index)
        fields: dict[str, Any] = {
            "model": self._model,
            "embeddings": [each.embedding for each in vectors],
            "total_duration": _ns(self._moments.now_s() - self._begun_s),
        }
        if answer.usage is not None and answer.usage.prompt_tokens is not None:
            fields["prompt_eval_count"] = answer.usage.prompt_tokens
        return _encode(fields)

    def piece(self, data: bytes) -> bytes:
        raise AssertionError("embeddings don't stream")

    def last(self) -> bytes:
        raise AssertionError("embeddings don't stream")


def _texts(said: Delta) -> tuple[str, str]:
    return said.content or "", said.reasoning_content or said.reasoning or ""


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def rfc3339(wall_s: float) -> str:
    """`2026-01-31T12:00:00.250Z`: Go's clients read nothing else as a time."""
    whole, fraction = divmod(wall_s, 1.0)
    return f"{utc_text(whole)[:-1].replace(' ', 'T')}.{int(fraction * 1000):03d}Z"


def ollama_error(error: InferryError) -> bytes:
    """An error of ours on one of Ollama's pages."""
    return OllamaErrors().error(error.status, error.message)
