"""Whether an answer that has ended is one: judged by its last events, since none is parsed on the way.

    engine's last words                                   verdict
    a finish_reason, stop_reason or response.completed    whole
    an error frame, then maybe [DONE]                     engine_stream_error
    response.failed                                       engine_stream_error
    the reason abort or error                             engine_aborted
    [DONE], or nothing more, and no reason before         engine_unfinished

`[DONE]` proves nothing: vLLM and SGLang send it behind an error. Ollama's OpenAI routes end without a word when the
model fails, and a connection that closes in order looks like an end, too.
"""

from __future__ import annotations

from typing import Any

from inferry.core.errors import (
    EngineAborted,
    EngineError,
    EngineRejected,
    EngineStreamError,
    EngineUnfinished,
)
from inferry.gateway.sse import event_fields, split_events

GIVEN_UP = frozenset({"abort", "aborted", "error", "cancelled"})
_FAILED = "failed"
_ERROR = b'"error"'
_TEXT_MAX = 300
_NOT_THE_CLIENTS = frozenset({408, 429})


def may_hold_error(events: bytes) -> bool:
    """Cheap, and too suspicious: whether it is worth to `read_error`."""
    return _ERROR in events


def read_error(events: bytes) -> EngineStreamError | EngineRejected | None:
    """What the last error frame of these events says. A model can't write one: in its texts, quotes are escaped."""
    if not may_hold_error(events):
        return None
    whole, rest = split_events(events)
    for event in reversed([*whole, rest]):
        if _ERROR in event and (fields := event_fields(event)) is not None:
            found = error_in(fields)
            if found is not None:
                return found
    return None


def judge_reason(reason: str | None, *, reason_needed: bool) -> EngineError | None:
    """Of an answer without an error frame: why it is none, by the reason that it ended with."""
    if reason is None:
        if not reason_needed:
            return None
        return EngineUnfinished("its answer ended without saying why (no finish_reason)")
    if reason == _FAILED:
        return EngineStreamError("it reported that its answer failed")
    if reason in GIVEN_UP:
        return EngineAborted(f"it gave the answer up (reason '{reason}')")
    return None


def error_in(fields: dict[str, Any]) -> EngineStreamError | EngineRejected | None:
    """OpenAI, vLLM, SGLang, llama.cpp: `error` is an object; TGI: a text, beside `error_type`; Anthropic and
    OpenAI's responses: `type` is error; a failed response holds it inside."""
    error = fields.get("error")
    response = fields.get("response")
    if not error and isinstance(response, dict):
        error = response.get("error")
    if not error and fields.get("type") == "error":
        error = fields
    if not error:
        return None
    inside = error if isinstance(error, dict) else {"message": error, "type": fields.get("error_type")}
    message = str(inside.get("message") or "it does not say which")[:_TEXT_MAX]
    if _is_the_clients(inside):
        return EngineRejected(message)
    return EngineStreamError(f"it reported an error: {message}")


def _is_the_clients(error: dict[str, Any]) -> bool:
    code = error.get("code")
    if isinstance(code, int):
        return 400 <= code < 500 and code not in _NOT_THE_CLIENTS
    return error.get("type") in ("validation", "invalid_request_error")
