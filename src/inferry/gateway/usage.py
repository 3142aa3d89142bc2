"""Reads how many tokens an answer took, from its last bytes; chunks on the way are never parsed for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta


class Usage(msgspec.Struct):
    """Tokens of one answer, as the engine counted them; None where it does not tell."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


# A counter must never fall, and no count of tokens needs more than a double holds exactly.
_Count = Annotated[int, Meta(ge=0, le=2**53)] | None


class _Wire(msgspec.Struct):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    input_tokens: _Count = None  # Anthropic messages, OpenAI responses
    output_tokens: _Count = None
    # Anthropic counts what the cache knew apart from `input_tokens`; the others count it in.
    cache_read_input_tokens: _Count = None
    cache_creation_input_tokens: _Count = None

    def prompt(self) -> int | None:
        if self.prompt_tokens is not None or self.input_tokens is None:
            return self.prompt_tokens
        cached = (self.cache_read_input_tokens or 0) + (self.cache_creation_input_tokens or 0)
        return self.input_tokens + cached


_decode = msgspec.json.Decoder(_Wire).decode
_KEY = b'"usage"'
_OBJECT_BYTES_MAX = 4096
_LOOKS_MAX = 16
"""Places named "usage" to look at, from the end: an answer may repeat what a client sent."""


def read_usage(last_chunks: Iterable[bytes]) -> Usage | None:
    """The last `"usage": {...}` in the given bytes, or None.

    Text that a model wrote can't be mistaken for it: inside a JSON string its quotes are escaped.
    """
    tail = b"".join(last_chunks)
    at = len(tail)
    for _ in range(_LOOKS_MAX):
        at = tail.rfind(_KEY, 0, at)
        if at < 0:
            return None
        found = _object_after(tail, at + len(_KEY))
        if found is None:
            continue
        prompt = found.prompt()
        completion = found.completion_tokens if found.completion_tokens is not None else found.output_tokens
        if prompt is not None or completion is not None:
            return Usage(prompt, completion)
    return None


def _object_after(tail: bytes, start: int) -> _Wire | None:
    opening = tail.find(b"{", start, start + 8)
    if opening < 0 or tail[start:opening].strip() != b":":
        return None
    depth = 0
    for index in range(opening, min(len(tail), opening + _OBJECT_BYTES_MAX)):
        byte = tail[index]
        if byte == 0x7B:
            depth += 1
        elif byte == 0x7D:
            depth -= 1
            if depth == 0:
                try:
                    return _decode(tail[opening : index + 1])
                except msgspec.MsgspecError:
                    return None
    return None
