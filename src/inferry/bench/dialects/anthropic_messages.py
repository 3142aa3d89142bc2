"""Anthropic's messages: blocks of text, thinking and tool use between message_start and message_stop."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from inferry.bench.dialects.form import Fields, generation_fields, prompt_messages
from inferry.bench.dialects.heard import Heard, size
from inferry.bench.plan import Target
from inferry.bench.records import Ask

VERSION = "2023-06-01"
"""Of the API; the only one that its documentation names as current."""
LENGTH_DEFAULT = 4096
"""For an ask without a length, as this API demands one. Our choice; the oldest models that speak it allow it."""


class _Text(Struct):
    """A block, or a delta of one."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"")
    stop_reason: str | None = None


class _Usage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Message(Struct):
    usage: _Usage | None = None
    content: list[_Text] | None = None
    stop_reason: str | None = None


class _Event(Struct):
    type: str = ""
    message: _Message | None = None
    content_block: _Text | None = None
    delta: _Text | None = None
    usage: _Usage | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_message = msgspec.json.Decoder(_Message).decode


class Messages:
    headers: tuple[tuple[str, str], ...] = (("anthropic-version", VERSION),)
    names_an_end = True
    counts_tokens = True

    def streams(self, target: Target) -> bool:
        return target.stream

    def path(self, target: Target) -> str:
        return "/messages"

    def fields(self, target: Target, ask: Ask) -> Fields:
        """What has the role `system` goes where this API has it: beside the messages."""
        messages = prompt_messages(ask, "messages")
        system = "\n\n".join(str(each["content"]) for each in messages if each["role"] == "system")
        fields = {
            "max_tokens": LENGTH_DEFAULT,
            **generation_fields(target, ask, "max_tokens"),
            "messages": [each for each in messages if each["role"] != "system"],
        }
        return {**fields, "system": system} if system else fields

    def hear(self, data: bytes, at_s: float, heard: Heard) -> None:
        """What message_start says of output is no count yet; message_delta, at the end, has all of them."""
        event = _decode_event(data)
        if event.message is not None and event.message.usage is not None:
            _hear_usage(event.message.usage, heard)
            heard.output_tokens = None
        for block in (event.content_block, event.delta):
            if block is not None:
                _hear_block(block, at_s, heard, begins=block is event.content_block)
        if event.usage is not None:
            _hear_usage(event.usage, heard)
        if event.delta is not None and event.delta.stop_reason:
            heard.finish(0, event.delta.stop_reason)
        if event.type == "message_stop":
            heard.end_mark = True

    def hear_whole(self, body: bytes, at_s: float, heard: Heard) -> None:
        message = _decode_message(body)
        for block in message.content or ():
            _hear_block(block, at_s, heard, begins=False)
        if message.usage is not None:
            _hear_usage(message.usage, heard)
        heard.finish(0, message.stop_reason)


def _hear_block(block: _Text, at_s: float, heard: Heard, *, begins: bool) -> None:
    """A block that begins has an empty `input`, which is nobody's text."""
    given = 0 if begins or block.type != "tool_use" else len(bytes(block.input))
    heard.add(
        at_s,
        answer=size(block.text) + size(block.partial_json) + size(block.name) + given,
        reasoning=size(block.thinking),
    )


def _hear_usage(usage: _Usage, heard: Heard) -> None:
    """This API counts what a cache had apart from `input_tokens`; ours is the sum, as the others'.

    `input_tokens` is 0 where a cache had or took all of the prompt. A sum of 0 is no count: servers say so in the
    event that has only the other half. An event with the cache's part alone changes no sum that is known.
    """
    cached = usage.cache_read_input_tokens
    prompt = (usage.input_tokens or 0) + (cached or 0) + (usage.cache_creation_input_tokens or 0)
    if prompt and (usage.input_tokens is not None or heard.input_tokens is None):
        heard.input_tokens = prompt
    if cached is not None:
        heard.cached_tokens = cached
    if usage.output_tokens is not None:
        heard.output_tokens = usage.output_tokens
