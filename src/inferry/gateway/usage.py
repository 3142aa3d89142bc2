"""Reads how many tokens an answer took, from its last bytes; chunks on the way are never parsed for it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Usage(msgspec.Struct):
    """Tokens of one answer, as the engine counted them; None where it does not tell."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Wire(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None  # Anthropic messages, OpenAI responses
    output_tokens: int | None = None


_decode = msgspec.json.Decoder(_Wire).decode
_KEY = b'"usage"'
_OBJECT_BYTES_MAX = 4096


def read_usage(last_chunks: Iterable[bytes]) -> Usage | None:
    """The last `"usage": {...}` in the given bytes, or None.

    Text that a model wrote can't be mistaken for it: inside a JSON string its quotes are escaped.
    """
    tail = b"".join(last_chunks)
    at = len(tail)
    while (at := tail.rfind(_KEY, 0, at)) >= 0:
        found = _object_after(tail, at + len(_KEY))
        if found is not None:
            prompt = found.prompt_tokens if found.prompt_tokens is not None else found.input_tokens
            completion = (
                found.completion_tokens if found.completion_tokens is not None else found.output_tokens
            )
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
