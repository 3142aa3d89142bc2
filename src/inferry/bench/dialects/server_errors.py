"""What a server says went wrong, out of the many forms in which servers say it."""

from __future__ import annotations

import msgspec

CHARS_MAX = 200
"""Of a message, that a report shows."""

_MARK = b'"error"'


def error_in(data: bytes) -> str | None:
    """The message if `data` is an error in JSON, None if it is anything else.

    Known forms: `{"error": {"message": ...}}` (OpenAI, vLLM, SGLang, llama.cpp), `{"error": "..."}` (TGI, Ollama),
    `{"type": "error", "error": {...}}` (Anthropic), `{"type": "error", "message": ...}` (OpenAI's responses),
    `{"object": "error", "message": ...}` (TensorRT-LLM, older vLLM).
    """
    if _MARK not in data:  # within a text these quotes would be escaped
        return None
    fields = _object(data)
    if fields is None:
        return None
    if fields.get("error") or fields.get("type") == "error" or fields.get("object") == "error":
        return message_of(data)
    return None


def message_of(body: bytes) -> str:
    """The words for people in an error's body, shortened; the body itself if it has no known form."""
    fields = _object(body)
    return shortened(_words(fields) if fields is not None else body.decode("utf-8", "replace"))


def shortened(text: str) -> str:
    """In one line, and not longer than a report shows."""
    line = " ".join(text.split())
    return line if len(line) <= CHARS_MAX else line[: CHARS_MAX - 1] + "…"


def _object(data: bytes) -> dict[str, object] | None:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _words(fields: dict[str, object]) -> str:
    inner = fields.get("error")
    if isinstance(inner, dict):
        return _words(inner)
    for name in ("message", "error", "detail"):
        if isinstance(value := fields.get(name), str) and value:
            return value
    return msgspec.json.encode(fields).decode()
