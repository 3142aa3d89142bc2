"""What chat and completions answer, in the form that OpenAI gave them and other servers added to."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from inferry.bench.dialects.heard import Heard, size


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct):
    function: _Function | None = None


class _Words(Struct):
    """A `delta`, or the `message` of an answer in one body."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    """The older name. A server that sends both sends the same text twice."""
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _LogProbabilities(Struct):
    content: list[msgspec.Raw] | None = None  # chat
    tokens: list[msgspec.Raw] | None = None  # completions


class _Choice(Struct):
    index: int = 0
    delta: _Words | None = None
    message: _Words | None = None
    text: str | None = None
    finish_reason: str | None = None
    token_ids: list[msgspec.Raw] | None = None
    """vLLM and SGLang, if asked for with `return_token_ids`."""
    logprobs: _LogProbabilities | None = None


class _PromptDetails(Struct):
    cached_tokens: int | None = None


class _CompletionDetails(Struct):
    reasoning_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Timings(Struct):
    """llama.cpp; in every chunk if asked for with `timings_per_token`."""

    predicted_n: int | None = None
    cache_n: int | None = None


class _Answer(Struct):
    """A chunk, or an answer in one body."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    timings: _Timings | None = None


_decode = msgspec.json.Decoder(_Answer).decode


def hear_choices(data: bytes, at_s: float, heard: Heard, *, whole: bool = False) -> None:
    """Read one chunk, or the `whole` answer. Raises one of UNREADABLE for another form."""
    answer = _decode(data)
    usage, timings = answer.usage, answer.timings
    total = None
    if usage is not None:
        _hear_usage(usage, heard)
        total = None if whole else usage.completion_tokens
    if timings is not None:
        if total is None and not whole:
            total = timings.predicted_n
        if heard.cached_tokens is None:
            heard.cached_tokens = timings.cache_n
    for choice in answer.choices or ():
        heard.finish(choice.index, choice.finish_reason)
        words = choice.delta or choice.message
        heard.add(
            at_s,
            answer=size(choice.text) + (_answer_bytes(words) if words is not None else 0),
            reasoning=size(words.reasoning or words.reasoning_content) if words is not None else 0,
            ids=None if whole else _ids(choice),
            total=total,
        )


def _hear_usage(usage: _Usage, heard: Heard) -> None:
    if usage.prompt_tokens is not None:
        heard.input_tokens = usage.prompt_tokens
    if usage.completion_tokens is not None:
        heard.output_tokens = usage.completion_tokens
    if (before := usage.prompt_tokens_details) is not None and before.cached_tokens is not None:
        heard.cached_tokens = before.cached_tokens
    if (after := usage.completion_tokens_details) is not None and after.reasoning_tokens is not None:
        heard.reasoning_tokens = after.reasoning_tokens


def _answer_bytes(words: _Words) -> int:
    total = size(words.content) + size(words.refusal)
    for call in words.tool_calls or ():
        if call.function is not None:
            total += size(call.function.name) + size(call.function.arguments)
    return total


def _ids(choice: _Choice) -> int | None:
    if choice.token_ids is not None:
        return len(choice.token_ids)
    if choice.logprobs is None:
        return None
    listed = choice.logprobs.tokens if choice.logprobs.content is None else choice.logprobs.content
    return None if listed is None else len(listed)
