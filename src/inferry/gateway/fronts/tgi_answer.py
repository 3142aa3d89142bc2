"""Answers of /v1/completions as TGI gives them: JSON, or events without `[DONE]`, the last one with the whole text.

Built from TGI 3.3's router (GenerateResponse, StreamResponse, ErrorResponse). An engine's event stands for a token.
Engines don't tell the tokens' ids here: an id is -1, a log-probability null. The last event carries no text of its
own; its token is marked as special, as the end sign is in TGI, so that clients leave it out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from inferry.core.errors import InferryError
from inferry.gateway.fronts.answer_pieces import Piece, read_piece
from inferry.gateway.fronts.front import NotAnswered

_encode = msgspec.json.encode
_UNKNOWN_ID = -1


class TgiErrors:
    """A Grumbler: `{"error", "error_type"}`.

    The type is left out where the fault is none that TGI has a type for (a key, a name, a path): its clients then
    raise what fits the status.
    """

    def error(self, status: int, message: str) -> bytes:
        return _encode(_error(status, message))

    def error_piece(self, status: int, message: str) -> bytes:
        return _event(_error(status, message))


_WITHOUT_TYPE = frozenset({401, 403, 404, 405})


def _error(status: int, message: str) -> dict[str, Any]:
    if status in _WITHOUT_TYPE:
        return {"error": message}
    refusal = "validation" if status < 500 else "generation"
    kind = "overloaded" if status in (429, 503) else refusal
    return {"error": message, "error_type": kind}


class TgiWriter:
    """A Writer."""

    def __init__(self, *, stream: bool, prompt: str, details: bool, seed: int | None, in_list: bool) -> None:
        """`prompt`: what the whole text begins with, maybe nothing. `in_list`: POST / wraps a whole answer."""
        self.stream_type = b"text/event-stream" if stream else None
        self._prompt = prompt
        self._details = details
        self._seed = seed
        self._in_list = in_list
        self._texts: list[str] = []
        self._reason = "eos_token"
        self._tokens: int | None = None
        """As the engine counted them."""

    def whole(self, body: bytes) -> bytes:
        self._take(read_piece(body))
        answer: dict[str, Any] = {"generated_text": self._text()}
        if self._details:
            answer["details"] = {**self._end(), "prefill": [], "tokens": []}
        return _encode([answer] if self._in_list else answer)

    def piece(self, data: bytes) -> bytes:
        text = self._take(read_piece(data))
        return (
            _event({**self._token(text, special=False), "generated_text": None, "details": None})
            if text
            else b""
        )

    def last(self) -> bytes:
        return _event(
            {
                **self._token("", special=True),
                "generated_text": self._text(),
                "details": self._end() if self._details else None,
            }
        )

    def _take(self, piece: Piece) -> str:
        """Note what it says; its text."""
        if piece.usage is not None and piece.usage.completion_tokens is not None:
            self._tokens = piece.usage.completion_tokens
        choice = piece.choice
        if choice is None:
            return ""
        text = choice.said.content or ""
        if text:
            self._texts.append(text)
        if (ended := choice.ended) is not None:
            self._reason = _reason(ended, choice.stop_reason)
        return text

    def _text(self) -> str:
        return self._prompt + "".join(self._texts)

    def _token(self, text: str, *, special: bool) -> dict[str, Any]:
        token = {"id": _UNKNOWN_ID, "text": text, "logprob": None, "special": special}
        return {"index": len(self._texts) + special, "token": token}

    def _end(self) -> dict[str, Any]:
        tokens = len(self._texts) if self._tokens is None else self._tokens
        return {"finish_reason": self._reason, "generated_tokens": tokens, "seed": self._seed}


def _reason(ended: str, stop_reason: str | int | None) -> str:
    """One of the three that TGI's clients know."""
    match ended:
        case "length" | "stop_sequence":
            return ended
        case "stop" if isinstance(stop_reason, str):
            return "stop_sequence"
        case "content_filter":
            raise NotAnswered(400, "A filter of the operator's has ended the answer.")
    return "eos_token"


def _event(fields: dict[str, Any]) -> bytes:
    return b"data:" + _encode(fields) + b"\n\n"


def tgi_error(error: InferryError) -> bytes:
    """An error of ours on one of TGI's pages."""
    return TgiErrors().error(error.status, error.message)
