"""Reads from an answer's last bytes how many tokens it took and why it ended; chunks on the way are never parsed.

Text that a model wrote can't be mistaken for either: inside a JSON string its quotes are escaped, so that no key
with bare quotes stands in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta


class Usage(msgspec.Struct):
    """Tokens of one answer, as the engine counted them; None where it does not tell."""

    prompt_tokens: int | None = None
    """All of them, cached ones included."""
    completion_tokens: int | None = None
    """All of them, reasoning ones included."""
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


# A counter must never fall, and no count of tokens needs more than a double holds exactly.
_Count = Annotated[int, Meta(ge=0, le=2**53)] | None


class _Details(msgspec.Struct):
    cached_tokens: _Count = None
    reasoning_tokens: _Count = None


class _Wire(msgspec.Struct):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens: _Count = None  # Anthropic messages, OpenAI responses
    output_tokens: _Count = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    # Anthropic counts what the cache knew apart from `input_tokens`; the others count it in.
    cache_read_input_tokens: _Count = None
    cache_creation_input_tokens: _Count = None

    def usage(self) -> Usage:
        prompt, completion = self.prompt_tokens, self.completion_tokens
        if prompt is None and self.input_tokens is not None:
            prompt = (
                self.input_tokens
                + (self.cache_read_input_tokens or 0)
                + (self.cache_creation_input_tokens or 0)
            )
        if completion is None:
            completion = self.output_tokens
        cached = self.cache_read_input_tokens
        if cached is None and (before := self.prompt_tokens_details or self.input_tokens_details):
            cached = before.cached_tokens
        after = self.completion_tokens_details or self.output_tokens_details
        return Usage(prompt, completion, cached, after.reasoning_tokens if after else None)


_decode = msgspec.json.Decoder(_Wire).decode
_KEY = b'"usage"'
_OBJECT_BYTES_MAX = 4096
_LOOKS_MAX = 16
"""Places with the same key to look at, from the end: an answer may repeat what a client sent."""
_INNER = rb"\{[^{}]*+\}"
for _ in range(3):  # objects in objects, four deep at most
    # Possessive: what was once taken is never given back, so that look-alikes cost one pass.
    _INNER = rb"\{[^{}]*+(?:" + _INNER + rb"[^{}]*+)*+\}"
_OBJECT = re.compile(rb"\s*+:\s*+(" + _INNER + rb")")
_CACHE_N = re.compile(rb'"timings"\s*+:\s*+\{\s*+"cache_n"\s*+:\s*+(\d{1,15})\b')


def read_usage(last_chunks: Iterable[bytes]) -> Usage | None:
    """The last `"usage": {...}` in the given bytes, or None."""
    tail = b"".join(last_chunks)
    at = len(tail)
    for _ in range(_LOOKS_MAX):
        at = tail.rfind(_KEY, 0, at)
        if at < 0:
            return None
        start = at + len(_KEY)
        found = _OBJECT.match(tail, start, start + _OBJECT_BYTES_MAX)
        if found is None:
            continue
        try:
            wire = _decode(found[1])
        except msgspec.MsgspecError:
            continue
        if (usage := _told(wire, tail)) is not None:
            return usage
    return None


def _told(wire: _Wire, tail: bytes) -> Usage | None:
    usage = wire.usage()
    if usage.prompt_tokens is None and usage.completion_tokens is None:
        return None
    if usage.cached_tokens is None:
        usage.cached_tokens = _from_timings(tail, usage.prompt_tokens)
    return usage


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Wire


_decode_completion = msgspec.json.Decoder(_Completion).decode
_COMPLETION_BYTES_MAX = 4096
"""Decoding a longer answer whole costs more than both searches from its end."""
_REASON_CHARS_MAX = 40


def read_completion(body: bytes) -> tuple[Usage, str] | None:
    """What `read_usage` and `finish_reason` find in a short whole chat or text completion, at a third of their cost.

    None: ask those; it is something else, or odd.
    """
    if len(body) > _COMPLETION_BYTES_MAX:
        return None
    try:
        completion = _decode_completion(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    usage = _told(completion.usage, body)
    reason = next((each.finish_reason for each in reversed(completion.choices) if each.finish_reason), "")
    if usage is None or len(reason) > _REASON_CHARS_MAX or not (reason.isascii() and reason.isidentifier()):
        return None
    return usage, reason


def _from_timings(tail: bytes, prompt_tokens: int | None) -> int | None:
    """llama.cpp's count of prompt tokens that it had in its slot; of builds that don't tell it in `usage`."""
    at = tail.rfind(b'"timings"')
    if at < 0 or prompt_tokens is None or (found := _CACHE_N.match(tail, at)) is None:
        return None
    cached = int(found[1])
    return cached if cached <= prompt_tokens else None


_REASONS = (
    # Its first word: Gemini's end in "content_filter: PROHIBITED_CONTENT".
    (b'"finish_reason"', re.compile(rb'\s*+:\s*+"(\w{1,40})[^"\\]{0,80}+"')),  # chat, completions
    (b'"stop_reason"', re.compile(rb'\s*+:\s*+"(\w{1,40})"')),  # Anthropic messages
    (b'"incomplete_details"', re.compile(rb'\s*+:\s*+\{\s*+"reason"\s*+:\s*+"(\w{1,40})"')),  # responses
)
_RESPONSE_END = re.compile(rb'"type"\s*+:\s*+"response\.(completed|failed|incomplete)"')
TAIL_BYTES_MAX = 64 * 1024
"""llama.cpp writes the reason before the text that it is about."""
_STATUS = (b'"status"', re.compile(rb'\s*+:\s*+"(completed|failed|incomplete|cancelled)"'))
_RESPONSE = re.compile(rb'"object"\s*+:\s*+"response"')


def finish_reason(last_chunks: Iterable[bytes], bytes_max: int = TAIL_BYTES_MAX) -> str | None:
    """Why the answer ended, in its own dialect's word (`stop`, `end_turn`, `completed`), or None if the given
    bytes don't say: it is not at its end, or its route has no such thing.

    Of several choices: the one that came last. `bytes_max`: how far back to look.
    """
    tail = b"".join(last_chunks)[-bytes_max:]
    for key, value in _REASONS:
        if (found := _last(tail, key, value)) is not None:
            return found
    # Not sought backwards by its key: an event that repeats the client's tools has hundreds of `"type"`.
    ends = _RESPONSE_END.findall(tail)
    if ends:
        return str(ends[-1], "ascii")
    # A response that is no stream. In a stream, `status` also belongs to items that are complete by themselves.
    if b"data:" not in tail[:6] and b"\ndata:" not in tail and _RESPONSE.search(tail):
        return _last(tail, *_STATUS)
    return None


def _last(tail: bytes, key: bytes, value: re.Pattern[bytes]) -> str | None:
    at = len(tail)
    for _ in range(_LOOKS_MAX):
        at = tail.rfind(key, 0, at)
        if at < 0:
            return None
        if (found := value.match(tail, at + len(key))) is not None:
            return found[1].decode("ascii")
    return None
