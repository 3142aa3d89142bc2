"""Anthropic's streamed messages: one running text per content block and field.

https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from inferry.gateway.filters.external_check import CheckWindow
from inferry.gateway.filters.json_walk import Members, decode_members, decode_text, encode
from inferry.gateway.filters.rule import Rule
from inferry.gateway.filters.sse_event import make_event
from inferry.gateway.filters.stream_filter import Kind, StreamFilter, TextKey

_TEXTS = ("text", "thinking", "partial_json")
_decode_index = msgspec.json.Decoder(int).decode


class MessagesStream(StreamFilter):
    """`/v1/messages`. A text's key is its block and field."""

    def __init__(self, rules: Sequence[Rule], window: CheckWindow | None = None) -> None:
        super().__init__(rules, window)
        self._open: set[int] = set()
        self._delta_types: dict[TextKey, Raw] = {}
        self._deltas = 0

    def _payload(self, payload: bytes) -> tuple[bytes, bytes]:
        members = decode_members(payload)
        kind = decode_text(members["type"]) if "type" in members else ""
        before = b""
        changed = False
        match kind:
            case "content_block_delta":
                self._deltas += 1
                changed = self._part(members, "delta")
            case "content_block_start":
                self._open.add(_index(members))
                changed = self._part(members, "content_block")
            case "content_block_stop":
                index = _index(members)
                before = self._rests(index)
                if self._blocking is not None:
                    return before, b""  # the ending stops the block
                self._open.discard(index)
                self._closes.append(index)
            case "message_delta" | "message_stop":
                before = self._flush_all()
                if self._blocking is not None:
                    return before, b""
                self._kind = Kind.END
            case "message_start" if "message" in members:
                message = decode_members(members["message"])
                if bytes(message.get("content", b"[]")) != b"[]":
                    walk = self._whole_texts()
                    if (new := walk.value(message["content"], "content")) is not None:
                        members["message"] = Raw(encode({**message, "content": new}))
                        changed = True
                    self._take_over(walk)
        return before, encode(members) if changed else payload

    def _part(self, members: Members, name: str) -> bool:
        """The delta, or the block that begins: texts run on, anything else in it is looked at as a whole."""
        index = _index(members)
        part = decode_members(members[name])
        changed = False
        for field in _TEXTS:
            raw = part.get(field)
            if raw is None or memoryview(raw)[0] != ord('"'):
                continue
            text = decode_text(raw)
            if not text:
                continue
            key = (index, field)
            if name == "delta" and "type" in part:
                self._delta_types[key] = part["type"]
            new = self._feed_text(key, text, field == "partial_json")
            if new != text:
                part[field] = Raw(encode(new))
                changed = True
        others = {field: raw for field, raw in part.items() if field not in _TEXTS}
        if any(memoryview(raw)[0] in b"{[" and bytes(raw) not in (b"{}", b"[]") for raw in others.values()):
            walk = self._whole_texts()
            if walk.members(others):
                part.update(others)
                changed = True
            self._take_over(walk)
        if changed:
            members[name] = Raw(encode(part))
        return changed

    def _rests(self, index: int) -> bytes:
        return b"".join(self._rest_event(key) for key in list(self._texts) if key[0] == index)

    def _flush_all(self) -> bytes:
        return b"".join(self._rest_event(key) for key in list(self._texts))

    def _rest_event(self, key: TextKey) -> bytes:
        index, field = key
        rest = self._rest_of(key)
        if not rest:
            return b""
        kind = self._delta_types.get(key) or Raw(encode(f"{field}_delta"))
        delta = {"type": kind, field: rest}
        return self._made("content_block_delta", index=index, delta=delta)

    def _made(self, kind: str, **fields: Any) -> bytes:
        return make_event(encode({"type": kind, **fields}), self._end, kind.encode())

    def _reopen(self, closed: Any) -> None:
        self._open.add(closed)

    def _ending(self) -> bytes:
        stops = b"".join(self._made("content_block_stop", index=index) for index in sorted(self._open))
        # The engine was stopped before it told its count: one delta is about one token.
        end = self._made(
            "message_delta",
            delta={"stop_reason": "refusal", "stop_sequence": None},
            usage={"output_tokens": self._deltas},
        )
        return stops + end + self._made("message_stop")


def _index(members: Members) -> int:
    return _decode_index(members["index"]) if "index" in members else 0
