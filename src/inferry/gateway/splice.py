"""Makes the events of another replica the rest of a stream that has begun: same id, no second beginning, one usage.

Only streams that were resumed come here; each of their events is parsed and written anew.
"""

from __future__ import annotations

from typing import Any

import msgspec

from inferry.gateway.delivered import CALL, CONTENT, ENVELOPE, Delivered, Part
from inferry.gateway.sse import EventGate, each_event, event_fields
from inferry.gateway.verdict import error_in

_encode = msgspec.json.encode
_PLACE = "index"


class Splice:
    """`feed` every read, then `finish`. What comes back are whole events for the client."""

    def __init__(self, delivered: Delivered) -> None:
        self._delivered = delivered
        self._gate = EventGate()
        self.differs: str | None = None
        """Why this can't be the rest of the answer; nothing comes back from then on."""

    def feed(self, data: bytes) -> bytes:
        return self._rewritten(self._gate.feed(data))

    def finish(self) -> bytes:
        """The answer is complete: what was still held."""
        return self._rewritten(self._gate.finish())

    def _rewritten(self, data: bytes) -> bytes:
        out = [] if self.differs is not None else [self._event(event) for event in each_event(data)]
        return b"" if self.differs is not None else b"".join(out)

    def _event(self, event: bytes) -> bytes:
        if self.differs is not None:
            return b""
        fields = event_fields(event)
        if fields is None or error_in(fields) is not None:  # [DONE], a comment, the end
            return event
        envelope = self._delivered.envelope
        if envelope:
            for name in ENVELOPE:  # of another engine, which may say more than the first one did
                if name not in envelope:
                    fields.pop(name, None)
            fields.update(envelope)
        fields.pop("timings", None)  # of this part only
        usage = fields.get("usage")
        if isinstance(usage, dict):
            self._fix_usage(usage)
        choices = fields.get("choices")
        if isinstance(choices, list) and choices:
            try:
                fields["choices"] = kept = [each for each in choices if self._keeps(each)]
            except (AttributeError, KeyError, TypeError):  # a list, where an object should be
                self.differs = "sent choices of a shape of its own"
                return b""
            if not kept and not usage:
                return b""
        return b"data: " + _encode(fields) + b"\n\n"

    def _keeps(self, choice: dict[str, Any]) -> bool:
        """Whether anything of it is for the client; changes it."""
        raise NotImplementedError

    def _fix_usage(self, usage: dict[str, Any]) -> None:
        """The engine's own count, of this part, made that of the whole."""


class Continued(Splice):
    """The engine was given the text so far, and goes on behind it."""

    def __init__(self, delivered: Delivered, tokens: int, may_repeat: str) -> None:
        """`tokens`: in the text so far. `may_repeat`: what of its end may come again."""
        super().__init__(delivered)
        self._tokens = tokens
        self._may_repeat = may_repeat

    def _keeps(self, choice: dict[str, Any]) -> bool:
        delta = choice.get("delta")
        inside = choice if delta is None else delta
        key = "text" if delta is None else CONTENT
        if choice.get(_PLACE, 0) in self._delivered.roles and delta is not None:
            delta.pop("role", None)
        if self._may_repeat and isinstance(inside.get(key), str) and inside[key]:
            inside[key] = self._without_repeat(inside[key])
        return bool(choice.get("finish_reason")) or any(
            inside.get(each) for each in (inside if delta is not None else (key,))
        )

    def _without_repeat(self, text: str) -> str:
        same = 0
        while same < min(len(text), len(self._may_repeat)) and text[same] == self._may_repeat[same]:
            same += 1
        self._may_repeat = self._may_repeat[same:] if same == len(text) else ""
        return text[same:]

    def _fix_usage(self, usage: dict[str, Any]) -> None:
        shift_usage(usage, self._tokens)


class ContinuedAsCompletion(Continued):
    """A chat, gone on with by a text completion: that takes token ids."""

    def _keeps(self, choice: dict[str, Any]) -> bool:
        text = choice.pop("text", None)
        choice["delta"] = {CONTENT: text} if text else {}
        return super()._keeps(choice)


class Replayed(Splice):
    """The engine was asked the same once more: what is there already is passed over, as long as it is the same."""

    def __init__(self, delivered: Delivered) -> None:
        super().__init__(delivered)
        self._left = dict(delivered.parts)

    def _keeps(self, choice: dict[str, Any]) -> bool:
        index = choice.get(_PLACE, 0)
        delta = choice.get("delta")
        is_new = False
        if isinstance(delta, dict):
            if index in self._delivered.roles:
                delta.pop("role", None)
            calls = [call for call in delta.get("tool_calls") or () if self._keeps_call(index, call)]
            if delta.get("tool_calls"):
                delta["tool_calls"] = calls
                if not calls:
                    del delta["tool_calls"]
                is_new = bool(calls)
            for kind in [kind for kind in delta if isinstance(delta[kind], str) and kind != "role"]:
                before = len(delta[kind])
                delta[kind] = self._rest_of(Part(index, kind), delta[kind])
                self._cut_logprobs(choice, before - len(delta[kind]))
                is_new = is_new or bool(delta[kind])
        elif isinstance(choice.get("text"), str):
            choice["text"] = self._rest_of(Part(index, CONTENT), choice["text"])
            is_new = bool(choice["text"])
        if choice.get("finish_reason"):
            if any(text for part, text in self._left.items() if part.choice == index):
                self.differs = "ended sooner"
            return index not in self._delivered.finished
        return is_new or (delta is not None and "role" in delta)

    def _keeps_call(self, index: int, call: dict[str, Any]) -> bool:
        part = Part(index, CALL, call.get(_PLACE, 0))
        function = call.get("function") or {}
        if part not in self._left:
            self._rest_of(part, "")
            return True
        # Its name and id went out when it began; ids are made anew each time, and the first one stays.
        call.pop("id", None)
        function.pop("name", None)
        call.pop("type", None)
        rest = self._rest_of(part, function.get("arguments") or "")
        function["arguments"] = rest
        return bool(rest)

    def _rest_of(self, part: Part, text: str) -> str:
        """What of `text` the client does not have."""
        if not text and part.kind != CALL:
            return text
        left = self._left.get(part, "")
        if not left:
            if any(
                rest for other, rest in self._left.items() if other.choice == part.choice and other != part
            ):
                self.differs = "went another way"
            return text
        if left.startswith(text):
            self._left[part] = left[len(text) :]
            return ""
        if text.startswith(left):
            self._left[part] = ""
            return text[len(left) :]
        self.differs = "said something else"
        return ""

    def _cut_logprobs(self, choice: dict[str, Any], characters: int) -> None:
        """Those of the tokens that are passed over."""
        entries = (choice.get("logprobs") or {}).get(CONTENT)
        if not characters or not isinstance(entries, list):
            return
        while entries and characters > 0:
            characters -= len(entries.pop(0).get("token", ""))


class Counted(Splice):
    """Everything had been said but the end: the engine was only asked for the prompt's count."""

    def __init__(
        self, delivered: Delivered, tokens: int, unseen_tokens: int, finish_reason: str | None
    ) -> None:
        """`unseen_tokens`: of the answer, besides `tokens`, without a text. `finish_reason`: the reason that the client
        has not heard; None: it has."""
        super().__init__(delivered)
        self._tokens = tokens
        self._all_tokens = tokens + unseen_tokens
        self._finish_reason = finish_reason

    def _keeps(self, choice: dict[str, Any]) -> bool:
        if self._finish_reason is None:
            return False
        choice["finish_reason"], self._finish_reason = self._finish_reason, None
        if "delta" in choice:
            choice["delta"] = {}
        else:
            choice["text"] = ""
        choice.pop("stop_reason", None)
        return True

    def _fix_usage(self, usage: dict[str, Any]) -> None:
        shift_usage(usage, self._tokens)
        usage["completion_tokens"] = self._all_tokens
        usage["total_tokens"] = usage.get("prompt_tokens", 0) + self._all_tokens


def shift_usage(usage: dict[str, Any], tokens: int) -> None:
    """`tokens` of the prompt are in truth the beginning of the answer. What the cache knew of them goes with them."""
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(completion, int):
        return
    usage["prompt_tokens"] = max(0, prompt - tokens)
    usage["completion_tokens"] = completion + tokens
    usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    details = usage.get("prompt_tokens_details")
    if isinstance(details, dict) and isinstance(details.get("cached_tokens"), int):
        details["cached_tokens"] = min(details["cached_tokens"], usage["prompt_tokens"])
