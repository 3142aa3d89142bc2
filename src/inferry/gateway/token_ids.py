"""The ids of a stream's tokens: asked for beside the client's question, and taken out of the answer again.

With them, an answer that breaks off is gone on with from its very tokens, and counted to the token, however many of
them an engine put into one event. vLLM sends them where `return_token_ids` is set: those of the prompt with the first
event, those of the answer with each choice.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from inferry.core.request import CHAT, Route
from inferry.gateway.sse import EventGate, each_event, event_fields

TOKEN_IDS_FIELD = "return_token_ids"
_TRUE = Raw(b"true")
_decode = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.encode

_SAMPLING = frozenset(
    {
        "ignore_eos", "include_stop_str_in_output", "logit_bias", "max_tokens", "min_p", "min_tokens", "model",
        "priority", "repetition_penalty", "seed", "skip_special_tokens", "spaces_between_special_tokens",
        "stop_token_ids", "stream", "stream_options", "temperature", "top_k", "top_p", "user", TOKEN_IDS_FIELD,
    }
)  # fmt: skip
"""What chats and completions take alike."""
_OF_THE_PROMPT = frozenset(
    {
        "messages", "prompt", "add_generation_prompt", "continue_final_message", "chat_template",
        "chat_template_kwargs", "add_special_tokens", "documents", "max_completion_tokens", "metadata",
    }
)  # fmt: skip
"""Has had its effect on the ids."""


def with_token_ids(body: bytes) -> bytes | None:
    """The same request, asking for ids; None: the client asks for them itself, and shall have them."""
    fields = _decode(body)
    if TOKEN_IDS_FIELD in fields:
        return None
    fields[TOKEN_IDS_FIELD] = _TRUE
    return _encode(fields)


class TokenIds:
    """Of one stream, over all its replicas: `feed` every read, then `finish`."""

    def __init__(self) -> None:
        self._gate = EventGate()
        self._prompt: list[int] | None = None
        self._answer: list[int] = []
        self._told = 0
        """So many of the answer's have had their text: half a letter has none yet."""
        self._broken = False

    def feed(self, data: bytes) -> bytes:
        return b"".join(map(self._without_ids, each_event(self._gate.feed(data))))

    def finish(self) -> bytes:
        return b"".join(map(self._without_ids, each_event(self._gate.finish())))

    def next_leg(self, *, exact: bool) -> None:
        """Another replica goes on: from these ids, or from the text, whose tokens may be others."""
        self._gate.discard()
        del self._answer[self._told :]
        self._broken = self._broken or not exact

    @property
    def told(self) -> int | None:
        """How many tokens the client has; None: not known."""
        return None if self._broken or self._prompt is None else self._told

    @property
    def so_far(self) -> list[int] | None:
        """The prompt and the answer that the client has."""
        if self._broken or self._prompt is None:
            return None
        return [*self._prompt, *self._answer[: self._told]]

    def _take(self, fields: dict[str, Any], choices: list[Any]) -> None:
        prompt = fields.pop("prompt_token_ids", None)
        for choice in choices:
            prompt = choice.pop("prompt_token_ids", None) or prompt
            self._answer += choice.pop("token_ids", None) or ()
            inside = choice.get("delta") or choice
            if inside.get("content") or inside.get("text") or inside.get("reasoning"):
                self._told = len(self._answer)
        if self._prompt is None:
            self._prompt = prompt

    def _without_ids(self, event: bytes) -> bytes:
        fields = event_fields(event)
        choices = None if fields is None else fields.get("choices")
        if fields is None or not isinstance(choices, list):
            return event
        try:
            self._take(fields, choices)
        except (AttributeError, TypeError):  # a list, where an object should be
            self._broken = True
        return b"data: " + _encode(fields) + b"\n\n"


def body_from_ids(route: Route, fields: dict[str, Any], ids: list[int]) -> dict[str, Any] | None:
    """The completion that goes on behind `ids`, those of the prompt and of the answer so far. `fields`: the request as
    another replica would continue it by text, its lengths reduced. None: it asks for something that only its own route
    knows, or whose state is more than the ids (stop words, of which a part may be held back)."""
    if set(fields) - _SAMPLING - _OF_THE_PROMPT:
        return None
    body = {name: value for name, value in fields.items() if name in _SAMPLING}
    lengths = [fields[name] for name in ("max_tokens", "max_completion_tokens") if fields.get(name)]
    # A chat may be as long as fits; a completion has a default of its own.
    if lengths or route is CHAT:
        body["max_tokens"] = min(lengths) if lengths else None
    return {**body, "prompt": ids, TOKEN_IDS_FIELD: True}
