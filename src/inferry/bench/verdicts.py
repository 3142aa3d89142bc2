"""Was a request answered well? Strict: an answer that did not end for a reason that its server named is none.

In this order; the first that is so decides:

UNSENT, CONNECT   the client says so, or there was no answer at all
HTTP_ERROR        a status other than 200
STREAM_ERROR      the server said within the answer that something went wrong, whatever it said after that
MALFORMED         an event or body that is not JSON, or not of the API's form; one JSON body in place of a stream
TIMEOUT, ABANDONED, MALFORMED   the client says so
TRUNCATED         neither HTTP's end was seen nor the API's own last word
NO_FINISH         an end, and a choice without a finish reason
STREAM_ERROR      a finish reason that says that the engine gave up: `abort` and its like
EMPTY             not one character of text, reasoning or tool call
WRONG_LENGTH      more tokens than asked for; or fewer, and the reason for the end is not the model's own. Not judged
                  where nobody counts, nor of several choices: llama.cpp's usage has one of them, vLLM's all

[DONE] proves nothing and is not demanded: vLLM and SGLang send it after an error, TGI and transformers never send
it. What is demanded is a finish reason for every choice. [DONE] only counts as an end where a server closes the
connection without HTTP's own.

An abandoned request whose answer had failed before the client left is a failure: else leaving would hide it.
"""

from __future__ import annotations

from inferry.bench.dialects.chunk_tokens import Counted
from inferry.bench.dialects.heard import Heard
from inferry.bench.dialects.server_errors import message_of
from inferry.bench.records import Ask, Raw, TokenSource, Verdict

OK_STATUS = 200
BY_LENGTH = frozenset({"length", "max_tokens", "max_output_tokens"})
"""Chat, completions and TGI; Anthropic; responses."""
BY_MODEL = frozenset(
    {"stop", "tool_calls", "function_call"}  # chat, completions
    | {"end_turn", "stop_sequence", "tool_use", "pause_turn"}  # Anthropic; the second TGI's too
    | {"eos_token", "completed"}  # TGI; responses
)
GAVE_UP = frozenset({"abort", "error", "cancelled", "failed"})
"""vLLM and SGLang that shut down; OpenRouter; responses."""

_KNOWN: frozenset[TokenSource] = frozenset({"usage_per_chunk", "ids", "usage"})

Judged = tuple[Verdict, str]


def judge(ask: Ask, raw: Raw, heard: Heard, counted: Counted, *, choices: int, names_an_end: bool) -> Judged:
    """The verdict, and the reason of a failure for people. `choices`: how many answers were asked for."""
    if raw.trouble in (Verdict.UNSENT, Verdict.CONNECT):
        return raw.trouble, raw.reason
    if raw.status is not None and raw.status != OK_STATUS:
        body = message_of(b"".join(piece for _, piece in raw.pieces))
        return Verdict.HTTP_ERROR, f"status {raw.status}: {body or 'an empty body'}"
    if heard.error is not None:
        return Verdict.STREAM_ERROR, f"after {_so_far(counted)} the server said: {heard.error}"
    if heard.malformed is not None:
        return Verdict.MALFORMED, heard.malformed
    if raw.trouble is not None:
        return raw.trouble, raw.reason
    if raw.status is None:
        return Verdict.CONNECT, raw.reason or "the connection ended before an answer began"
    if not (raw.whole or heard.end_mark):
        return Verdict.TRUNCATED, _cut(raw, counted)
    if names_an_end and (verdict := _judge_end(heard, counted, choices)) is not None:
        return verdict
    if not heard.said:
        return Verdict.EMPTY, "ended well, without one character of an answer"
    if choices == 1 and ask.output_tokens is not None and counted.source in _KNOWN:
        return _judge_length(ask.output_tokens, counted.sum, heard)
    return Verdict.OK, ""


def _judge_end(heard: Heard, counted: Counted, choices: int) -> Judged | None:
    open_choices = [choice for choice, reason in heard.finishes.items() if reason is None]
    missing = max(choices - len(heard.finishes), len(open_choices))
    if missing:
        which = "" if choices == 1 else f" for {missing} of {choices} choices"
        return Verdict.NO_FINISH, f"ended after {_so_far(counted)} without a finish reason{which}"
    for reason in heard.finishes.values():
        if reason in GAVE_UP:
            return (
                Verdict.STREAM_ERROR,
                f"the engine gave up after {_so_far(counted)}: finish reason {reason!r}",
            )
    return None


def _judge_length(asked: int, came: int, heard: Heard) -> Judged:
    reasons = set(heard.finishes.values())
    if came == asked or (came < asked and reasons & BY_MODEL):
        return Verdict.OK, ""
    named = ", ".join(sorted(str(reason) for reason in reasons))
    return Verdict.WRONG_LENGTH, f"{came} tokens where {asked} were asked for, finish reason {named}"


def _cut(raw: Raw, counted: Counted) -> str:
    how = raw.reason or "the connection ended"
    return f"{how} after {_so_far(counted)}, before the answer was at its end"


def _so_far(counted: Counted) -> str:
    if not counted.tokens:
        return "no text"
    unit = "chunk" if counted.source == "chunks" else "token"
    return f"{counted.sum} {unit}{'' if counted.sum == 1 else 's'}"
