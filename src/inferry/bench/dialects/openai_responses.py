"""OpenAI's responses. The last event carries the whole answer again, with its status and usage."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from inferry.bench.dialects.form import Fields, generation_fields, prompt_messages, prompt_text
from inferry.bench.dialects.heard import Heard, size
from inferry.bench.dialects.server_errors import shortened
from inferry.bench.plan import Target
from inferry.bench.records import Ask

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_REASONING = "response.reasoning"
_DELTA = ".delta"


class _Reason(Struct):
    reason: str | None = None


class _Error(Struct):
    message: str = ""
    code: str | None = None


class _InputDetails(Struct):
    cached_tokens: int | None = None


class _OutputDetails(Struct):
    reasoning_tokens: int | None = None


class _Usage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Part(Struct):
    text: str | None = None
    refusal: str | None = None


class _Item(Struct):
    """A message, a reasoning or a tool call."""

    type: str = ""
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    name: str | None = None
    arguments: str | None = None


class _Response(Struct):
    status: str | None = None
    incomplete_details: _Reason | None = None
    error: _Error | None = None
    usage: _Usage | None = None
    output: list[_Item] | None = None


class _Event(Struct):
    type: str = ""
    delta: object = None
    response: _Response | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_response = msgspec.json.Decoder(_Response).decode


class Responses:
    headers: tuple[tuple[str, str], ...] = ()
    names_an_end = True
    counts_tokens = True

    def streams(self, target: Target) -> bool:
        return target.stream

    def path(self, target: Target) -> str:
        return "/responses"

    def fields(self, target: Target, ask: Ask) -> Fields:
        said: object = (
            prompt_text(ask, "responses") if ask.messages is None else prompt_messages(ask, "responses")
        )
        return {**generation_fields(target, ask, "max_output_tokens"), "input": said}

    def hear(self, data: bytes, at_s: float, heard: Heard) -> None:
        """Every event named `….delta` has a piece of text: answers, refusals, and calls of tools of any kind."""
        event = _decode_event(data)
        if event.type.endswith(_DELTA) and isinstance(event.delta, str):
            is_reasoning = event.type.startswith(_REASONING)
            heard.finish(0, None)
            heard.add(at_s, **{"reasoning" if is_reasoning else "answer": size(event.delta)})
        elif event.type in _ENDS and event.response is not None:
            heard.end_mark = True
            _hear_end(event.response, heard)

    def hear_whole(self, body: bytes, at_s: float, heard: Heard) -> None:
        response = _decode_response(body)
        for item in response.output or ():
            said = sum(size(part.text) + size(part.refusal) for part in item.content or ())
            if item.type == "reasoning":
                heard.add(at_s, reasoning=said + sum(size(part.text) for part in item.summary or ()))
            else:
                heard.add(at_s, answer=said + size(item.name) + size(item.arguments))
        _hear_end(response, heard)


def _hear_end(response: _Response, heard: Heard) -> None:
    if (usage := response.usage) is not None:
        heard.input_tokens, heard.output_tokens = usage.input_tokens, usage.output_tokens
        if usage.input_tokens_details is not None:
            heard.cached_tokens = usage.input_tokens_details.cached_tokens
        if usage.output_tokens_details is not None:
            heard.reasoning_tokens = usage.output_tokens_details.reasoning_tokens
    reason = response.status
    if response.incomplete_details is not None and response.incomplete_details.reason:
        reason = response.incomplete_details.reason
    heard.finish(0, reason)
    if response.status == "failed" or response.error is not None:
        heard.error = shortened(
            (response.error and response.error.message) or "response failed, without a reason"
        )
