"""What each API's file gives, and what all of them do alike with a request's fields."""

from __future__ import annotations

from typing import Protocol

import msgspec
from msgspec import Struct

from inferry.bench.dialects.heard import Heard
from inferry.bench.plan import Api, Target
from inferry.bench.records import Ask
from inferry.core.errors import BadBenchPlan

Fields = dict[str, object]

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading JSON raises: no JSON or of another form, no UTF-8, nested a thousand deep."""

TAKES_TOKEN_IDS: frozenset[Api] = frozenset({"completions", "embeddings"})
"""APIs in which a prompt may be token ids."""


class Encoded(Struct, frozen=True, kw_only=True):
    """A request, ready to be sent but for the key."""

    path: str
    """Behind the target's base_url."""
    body: bytes
    """JSON."""
    headers: tuple[tuple[str, str], ...] = ()
    """Besides content-type, accept and the key."""


class Dialect(Protocol):
    """One API."""

    headers: tuple[tuple[str, str], ...]
    names_an_end: bool
    """Whether a whole answer says why it ends."""
    counts_tokens: bool

    def streams(self, target: Target) -> bool:
        """Whether the answer is to come as server-sent events."""

    def path(self, target: Target) -> str:
        """Behind the target's base_url."""

    def fields(self, target: Target, ask: Ask) -> Fields:
        """The request's body, without the target's `extra`. Raises BadBenchPlan for what the API can't be asked."""

    def hear(self, data: bytes, at_s: float, heard: Heard) -> None:
        """Read one event of a stream. Raises one of UNREADABLE for another form."""

    def hear_whole(self, body: bytes, at_s: float, heard: Heard) -> None:
        """Read an answer that came in one body at `at_s`. Raises like `hear`."""


def prompt_text(ask: Ask, api: Api) -> str:
    """The prompt as one text; a conversation's contents one after the other, so that what is shared stays shared.

    Raises BadBenchPlan if there are only token ids, which this API does not take.
    """
    if ask.messages is not None:
        return "\n\n".join(content for _, content in ask.messages)
    if ask.text is None:
        raise BadBenchPlan(
            f"api {api} takes no token ids, and request {ask.number} has nothing else: "
            f"use one of {', '.join(sorted(TAKES_TOKEN_IDS))}, or a workload with text"
        )
    return ask.text


def prompt_messages(ask: Ask, api: Api) -> list[Fields]:
    """The prompt as messages with roles. Raises BadBenchPlan like `prompt_text`."""
    if ask.messages is not None:
        return [{"role": role, "content": content} for role, content in ask.messages]
    return [{"role": "user", "content": prompt_text(ask, api)}]


def prompt_text_or_ids(ask: Ask, api: Api) -> object:
    """Token ids if there are any, else one text."""
    return list(ask.token_ids) if ask.token_ids is not None else prompt_text(ask, api)


def generation_fields(target: Target, ask: Ask, length_field: str) -> Fields:
    """Model, length and stream, in the words that four of the APIs share.

    `stream` is said in either case: to transformers' responses, silence means a stream.
    """
    fields: Fields = {"model": target.model, "stream": target.stream}
    if ask.output_tokens is not None:
        fields[length_field] = ask.output_tokens
        if target.ignore_eos:
            fields["ignore_eos"] = True
    return fields


def usage_options(target: Target) -> Fields:
    """`stream_options` of chat and completions; nothing where nothing is streamed, since engines refuse it then."""
    if not target.stream:
        return {}
    options: Fields = {"include_usage": True}
    if target.usage_per_chunk:
        options["continuous_usage_stats"] = True
    return {"stream_options": options}


def merged(fields: Fields, extra: Fields) -> Fields:
    """`fields` with `extra` over them: an object goes into ours of that name, None takes ours out."""
    result = dict(fields)
    for name, value in extra.items():
        ours = result.get(name)
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(ours, dict):
            result[name] = merged(ours, value)
        else:
            result[name] = value
    return result
