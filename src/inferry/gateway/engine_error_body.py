"""An engine's error in the shape that clients of the route expect, whatever shape the engine has.

OpenAI's is `{"error": {...}}`. TensorRT-LLM and SGLang send those fields flat, TGI `{"error": text, "error_type": ...}`,
FastAPI `{"detail": ...}`, others `{"message": ...}`. What is no JSON, or has the shape already, goes on as it came.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from inferry.core.request import Dialect

HELD_BYTES_MAX = 64 * 1024
"""Nobody explains an error at greater length; more than this goes on as it comes."""
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.encode


class Relay(Protocol):
    """The exchange."""

    def forward(self, data: bytes, complete: bool) -> None: ...

    def forward_whole(self, body: bytes, lines: bytes) -> None: ...


class ErrorOut:
    """The last part of an error's way: collected, and put into shape."""

    def __init__(self, relay: Relay, status: int, dialect: Dialect) -> None:
        self._relay = relay
        self._status = status
        self._dialect = dialect
        self._held = b""
        self._passing = False

    def feed(self, data: bytes, complete: bool) -> None:
        if self._passing:
            self._relay.forward(data, complete)
            return
        self._held += data
        if complete:
            self._relay.forward_whole(in_shape(self._held, self._status, self._dialect), b"")
        elif len(self._held) > HELD_BYTES_MAX:
            self._passing = True
            self._relay.forward(self._held, False)

    def cancel(self) -> None:
        """The request is over."""
        self._held = b""


def in_shape(body: bytes, status: int, dialect: Dialect) -> bytes:
    """The body, as clients of this dialect read it."""
    if len(body) > HELD_BYTES_MAX:
        return body
    try:
        fields = _decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return body
    if not isinstance(fields, dict) or isinstance(fields.get("error"), dict):
        return body
    message = _message(fields)
    if message is None:
        return body
    kind = _text(fields.get("type")) or _text(fields.get("error_type"))
    if dialect is Dialect.ANTHROPIC:
        return _encode({"type": "error", "error": {"type": kind or "api_error", "message": message}})
    fallback = "invalid_request_error" if status < 500 else "server_error"
    return _encode(
        {
            "error": {
                "message": message,
                "type": kind or fallback,
                "param": _text(fields.get("param")),
                "code": fields.get("code"),
            }
        }
    )


def _message(fields: dict[str, Any]) -> str | None:
    for name in ("message", "error", "detail"):
        found = fields.get(name)
        if isinstance(found, str) and found:
            return found
        if name == "detail" and found:
            return _encode(found).decode()  # FastAPI's list of what is wrong
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
