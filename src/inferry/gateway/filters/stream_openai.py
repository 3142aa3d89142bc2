"""Streamed chat and text completions: one running text per choice and field of its delta."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from inferry.gateway.filters.external_check import CheckWindow
from inferry.gateway.filters.json_walk import (
    Members,
    decode_items,
    decode_members,
    decode_text,
    drop_spelled,
    encode,
)
from inferry.gateway.filters.rule import Rule
from inferry.gateway.filters.sse_event import DONE, make_event
from inferry.gateway.filters.stream_filter import Kind, StreamFilter, TextKey

_NO_TEXT = frozenset({"role", "id", "type", "name"})
_decode_index = msgspec.json.Decoder(int).decode


class ChoicesStream(StreamFilter):
    """`/v1/chat/completions` and `/v1/completions`.

    A text's key is its choice, then the way to it: (0, "text"), (0, "delta", "tool_calls", 1, "function",
    "arguments").
    """

    def __init__(self, rules: Sequence[Rule], window: CheckWindow | None = None) -> None:
        super().__init__(rules, window)
        self._head: Members = {}
        """Of the last event: what stands around its choices."""
        self._open: dict[int, bool] = {}
        """Choices that have not finished, and whether they have a delta (chat) or a text (completions)."""

    def _payload(self, payload: bytes) -> tuple[bytes, bytes]:
        members = decode_members(payload)
        listed = members.get("choices")
        if listed is None or memoryview(listed)[0] != ord("["):
            return b"", payload
        items = decode_items(listed)
        if not items:
            return b"", payload
        self._head = members
        before: list[bytes] = []
        changed = False
        for at, item in enumerate(items):
            choice = decode_members(item)
            if self._choice(choice, before):
                items[at] = Raw(encode(choice))
                changed = True
        if not changed:
            return b"".join(before), payload
        return b"".join(before), encode({**members, "choices": items})

    def _choice(self, choice: Members, before: list[bytes]) -> bool:
        """Replace its texts in place; whether anything changed. `before`: gets events with what else it held."""
        index = _decode_index(choice["index"]) if "index" in choice else 0
        final = bytes(choice.get("finish_reason", b"null")) != b"null"
        self._open[index] = "text" not in choice
        own: set[TextKey] = set()
        changed = self._container(choice, (index,), final, own)
        if final:
            if self._kind is Kind.FRAME:
                self._kind = Kind.END
            for path in [each for each in self._texts if each[0] == index and each not in own]:
                before.append(self._event_with(path, self._rest_of(path)))
            for path in own:
                self._rest_of(path)
            if self._blocking is None:
                self._closes.append((index, self._open.pop(index)))
            else:
                choice["finish_reason"] = Raw(b"null")
                changed = True
        if changed:
            drop_spelled(choice)
        return changed

    def _container(self, members: Members, path: TextKey, final: bool, own: set[TextKey]) -> bool:
        changed = False
        for name, raw in members.items():
            first = memoryview(raw)[0]
            if first == ord('"'):
                if name in _NO_TEXT or name == "finish_reason" or (len(path) == 1 and name != "text"):
                    continue
                text = decode_text(raw)
                at = (*path, name)
                own.add(at)
                new = self._feed_text(at, text, name == "arguments", final)
                if new != text:
                    members[name] = Raw(encode(new))
                    changed = True
            elif first == ord("{") and (len(path) > 1 or name in ("delta", "message")):
                inner = decode_members(raw)
                if self._container(inner, (*path, name), final, own):
                    members[name] = Raw(encode(inner))
                    changed = True
            elif first == ord("[") and len(path) > 1 and self._list(members, name, raw, path, final, own):
                changed = True
        return changed

    def _list(
        self, members: Members, name: str, raw: Raw, path: TextKey, final: bool, own: set[TextKey]
    ) -> bool:
        items = decode_items(raw)
        changed = False
        for position, item in enumerate(items):
            if memoryview(item)[0] != ord("{"):
                continue
            inner = decode_members(item)
            index = _decode_index(inner["index"]) if "index" in inner else position
            if self._container(inner, (*path, name, index), final, own):
                items[position] = Raw(encode(inner))
                changed = True
        if changed:
            members[name] = Raw(encode(items))
        return changed

    def _flush_all(self) -> bytes:
        return b"".join(self._event_with(path, self._rest_of(path)) for path in list(self._texts))

    def _event_with(self, path: TextKey, text: str) -> bytes:
        """An event that holds nothing but `text`; none if there is none."""
        if not text:
            return b""
        value: Any = text
        for step in reversed(path[1:]):
            value = [{"index": step, **value}] if isinstance(step, int) else {step: value}
        return self._made({"index": path[0], **value, "finish_reason": None})

    def _made(self, choice: dict[str, Any]) -> bytes:
        head = {name: raw for name, raw in self._head.items() if name not in ("choices", "usage")}
        return make_event(encode({**head, "choices": [choice]}), self._end)

    def _reopen(self, closed: Any) -> None:
        index, chat = closed
        self._open[index] = chat

    def _ending(self) -> bytes:
        events = [
            self._made(
                {
                    "index": index,
                    **({"delta": {}} if chat else {"text": ""}),
                    "finish_reason": "content_filter",
                }
            )
            for index, chat in self._open.items()
        ]
        return b"".join(events) + make_event(DONE, self._end)
