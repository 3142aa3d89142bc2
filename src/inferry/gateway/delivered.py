"""What a client has of a stream that broke off: read from the very events that it was sent, when they are needed.

A choice's answer is made of parts that only grow: its content, its reasoning, the arguments of its first tool call.
Chat chunks and text completions are understood; anything else makes a stream `odd`, and nothing is continued that
is not understood.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from inferry.gateway.sse import event_fields, split_events

CONTENT = "content"
CALL = "call"
_TEXTS = (CONTENT, "reasoning_content", "reasoning", "refusal")
ENVELOPE = ("id", "created", "model", "system_fingerprint", "object", "service_tier")
"""What may stand in each event beside its choices."""
_KNOWN_IN_DELTA = {*_TEXTS, "role", "tool_calls", "function_call", "audio"}


class Part(NamedTuple):
    """One growing text of an answer."""

    choice: int
    kind: str
    """`content` (a completion's `text` too), `reasoning_content`, ..., or `call`."""
    call: int = 0
    """Which of the choice's tool calls."""


class Delivered:
    """Sums up events. `take` whole ones, in their order."""

    def __init__(self) -> None:
        self.envelope: dict[str, Any] = {}
        """What all events of a stream have in common: id, created, model, ..."""
        self.roles: set[int] = set()
        """Choices whose first event, which says who speaks, is there."""
        self.finished: dict[int, str] = {}
        """By choice, why it ended."""
        self.told: dict[str, Any] | None = None
        """The engine's last word on usage."""
        self.is_over = False
        """[DONE] has been sent."""
        self.odd: str | None = None
        """Why it is not understood."""
        self._parts: dict[Part, list[str]] = {}

    def take(self, events: bytes) -> None:
        whole, rest = split_events(events)
        if rest.strip():
            self.odd = "an event was longer than the gateway holds"
        for event in whole:
            if b"data:" in event:
                self._take(event)

    def _take(self, event: bytes) -> None:
        fields = event_fields(event)
        if fields is None:
            if b"[DONE]" in event:
                self.is_over = True
            else:
                self.odd = "an event is no JSON object"
            return
        if not self.envelope:
            self.envelope = {key: fields[key] for key in ENVELOPE if key in fields}
        if isinstance(fields.get("usage"), dict):
            self.told = fields["usage"]
        choices = fields.get("choices")
        if not isinstance(choices, list):
            self.odd = "an event has no choices"
            return
        try:
            for choice in choices:
                self._take_choice(choice)
        except (AttributeError, KeyError, TypeError):  # a list, where an object should be
            self.odd = "an event has choices of a shape of its own"

    def _take_choice(self, choice: dict[str, Any]) -> None:
        index = choice.get("index", 0)
        for part, text in pieces(choice):
            self._parts.setdefault(part, []).append(text)
        delta = choice.get("delta")
        if isinstance(delta, dict):
            if "role" in delta:
                self.roles.add(index)
            if any(
                delta[key] for key in delta if key in ("function_call", "audio") or key not in _KNOWN_IN_DELTA
            ):
                self.odd = f"it holds {', '.join(sorted(set(delta) - set(_TEXTS) - {'role'}))}"
        if choice.get("finish_reason"):
            self.finished[index] = choice["finish_reason"]

    @property
    def is_told(self) -> bool:
        """Everything is, but [DONE]."""
        return bool(self.finished) and self.told is not None

    def text(self, part: Part) -> str:
        return "".join(self._parts.get(part, ()))

    @property
    def parts(self) -> dict[Part, str]:
        """Those that hold something, or have begun as tool calls do: with a name and no arguments yet."""
        found = {part: self.text(part) for part in self._parts}
        return {part: text for part, text in found.items() if text or part.kind == CALL}


def pieces(choice: dict[str, Any]) -> list[tuple[Part, str]]:
    """What one event adds to the parts of a choice."""
    index = choice.get("index", 0)
    found: list[tuple[Part, str]] = []
    if isinstance(choice.get("text"), str):
        found.append((Part(index, CONTENT), choice["text"]))
    delta = choice.get("delta")
    if isinstance(delta, dict):
        found += [(Part(index, kind), delta[kind]) for kind in _TEXTS if isinstance(delta.get(kind), str)]
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            found.append((Part(index, CALL, call.get("index", 0)), function.get("arguments") or ""))
    return found
