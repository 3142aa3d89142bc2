"""OpenAI's streamed responses: one running text per `*.delta` event's item and part.

The events that repeat a text as a whole (`*.done`, the item, the response) are looked at as wholes. Events are numbered:
when one is added, the later ones move up.

https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from inferry.gateway.filters.external_check import CheckWindow
from inferry.gateway.filters.json_walk import Members, decode_members, decode_text, drop_spelled, encode
from inferry.gateway.filters.rule import Rule
from inferry.gateway.filters.sse_event import make_event
from inferry.gateway.filters.stream_filter import Kind, StreamFilter, TextKey

_PLACE = ("item_id", "output_index", "content_index", "summary_index")
_ENDS = ("response.completed", "response.incomplete", "response.failed")
_BEGINNINGS = ("response.created", "response.queued", "response.in_progress")
_decode_number = msgspec.json.Decoder(int).decode


class ResponsesStream(StreamFilter):
    """`/v1/responses`. A text's key is the type of its events without `.delta`, then where it belongs."""

    def __init__(self, rules: Sequence[Rule], window: CheckWindow | None = None) -> None:
        super().__init__(rules, window)
        self._response: Members = {}
        self._places: dict[TextKey, Members] = {}
        self._next_number = 0
        self._added = 0

    def _payload(self, payload: bytes) -> tuple[bytes, bytes]:
        members = decode_members(payload)
        kind = decode_text(members["type"]) if "type" in members else ""
        number = _decode_number(members["sequence_number"]) if "sequence_number" in members else None
        self._next_number = (self._next_number if number is None else number) + self._added
        before, changed = self._of_kind(kind, members)
        if self._blocking is not None and kind.endswith((".done", *_ENDS)):
            return before, b""
        if self._added and number is not None:
            members["sequence_number"] = Raw(encode(number + self._added))
            changed = True
        self._next_number += 1
        return before, encode(members) if changed else payload

    def _of_kind(self, kind: str, members: Members) -> tuple[bytes, bool]:
        """(events to send before, whether `members` were changed)."""
        if kind.endswith(".delta") and memoryview(members.get("delta", Raw(b"0")))[0] == ord('"'):
            return b"", self._delta(kind.removesuffix(".delta"), members)
        if kind in _BEGINNINGS and "response" in members:
            self._response = decode_members(members["response"])
            return b"", False
        if kind in _ENDS and "response" in members:
            before = self._flush_all()
            self._kind = Kind.END
            return before, self._blocking is None and self._whole_response(members)
        before = b""
        if kind.endswith(".done"):
            before = self._rests(kind.removesuffix(".done"), members)
            if self._blocking is not None:
                return before, False
        walk = self._whole_texts()
        kept_kind = Kind.TEXT if kind.endswith(".done") else Kind.FRAME
        changed = walk.members(members)
        self._take_over(walk)
        self._kind = kept_kind
        return before, changed

    def _delta(self, stem: str, members: Members) -> bool:
        key: TextKey = (stem, *(bytes(members.get(name, b"")) for name in _PLACE))
        if key not in self._places:
            self._places[key] = {name: members[name] for name in _PLACE if name in members}
        text = decode_text(members["delta"])
        new = self._feed_text(key, text, stem.endswith("_arguments"))
        if new == text:
            return False
        members["delta"] = Raw(encode(new))
        drop_spelled(members)
        return True

    def _whole_response(self, members: Members) -> bool:
        response = decode_members(members["response"])
        if "output" not in response:
            return False
        walk = self._whole_texts()
        new = walk.value(response["output"], "output")
        self._take_over(walk)
        self._kind = Kind.END
        if new is None:
            return False
        members["response"] = Raw(encode({**response, "output": new}))
        return True

    def _rests(self, stem: str, members: Members) -> bytes:
        """Of the text that this event ends; of all texts of the item if it ends that."""
        if stem == "response.output_item":
            index = bytes(members.get("output_index", b""))
            keys = [key for key in self._texts if key[2] == index]
        else:
            place = tuple(bytes(members.get(name, b"")) for name in _PLACE)
            keys = [key for key in self._texts if key == (stem, *place)]
        return b"".join(self._rest_event(key) for key in keys)

    def _flush_all(self) -> bytes:
        return b"".join(self._rest_event(key) for key in list(self._texts))

    def _rest_event(self, key: TextKey) -> bytes:
        rest = self._rest_of(key)
        if not rest:
            return b""
        more: dict[str, Any] = {"logprobs": []} if key[0] == "response.output_text" else {}
        event = self._made(f"{key[0]}.delta", **self._places[key], delta=rest, **more)
        self._added += 1
        return event

    def _made(self, kind: str, **fields: Any) -> bytes:
        body = {"type": kind, "sequence_number": self._next_number, **fields}
        self._next_number += 1
        return make_event(encode(body), self._end, kind.encode())

    def _reopen(self, closed: Any) -> None:
        pass  # the ending is the same, whatever has ended before

    def _ending(self) -> bytes:
        response: dict[str, Any] = {
            **self._response,
            "status": "incomplete",
            "incomplete_details": {"reason": "content_filter"},
            "output": [],
        }
        return self._made("response.incomplete", response=response)
