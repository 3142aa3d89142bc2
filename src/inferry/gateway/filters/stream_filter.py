"""Filters one streamed answer: whole events in, whole events out. What all dialects have in common.

An event in which nothing changes goes on as the bytes that came. A text that must wait is taken out of its event and
goes out in a later event of the same field, all of it before the event that ends the field.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

from inferry.gateway.filters.argument_text import ArgumentText
from inferry.gateway.filters.external_check import Check, CheckWindow
from inferry.gateway.filters.json_walk import UNREADABLE, Blocks, Walk
from inferry.gateway.filters.request_filter import UNREADABLE_RULE
from inferry.gateway.filters.rule import Rule
from inferry.gateway.filters.running_text import RunningText
from inferry.gateway.filters.sse_event import (
    DONE,
    ENDS,
    line_end,
    payload_of,
    split_events,
    with_payload,
)
from inferry.gateway.filters.verdict import Blocked, Verdict, blocked

EVENT_BYTES_MAX = 8 * 1024 * 1024
"""A longer event can't be looked at. The last event of a response repeats the whole answer."""
NOT_LOOKED_AT = frozenset({"id", "name", "call_id", "item_id", "finish_reason", "stop_reason", "status"})
"""Keys of answers that hold no text of the model's."""

TextKey = tuple[Any, ...]
"""Names one running text of an answer; what stands in it is the dialect's business."""


class Kind(Enum):
    FRAME = 0
    """No text: goes out even when an outside verdict ends the stream."""
    TEXT = 1
    END = 2


class _Out(NamedTuple):
    """An event on its way out."""

    event: bytes
    kind: Kind
    closes: tuple[Any, ...] = ()
    """What the client takes for ended when it has this."""


class StreamFilter(ABC):
    """Feed what EventGate lets through; send what comes back. Then look at `blocked` and `checks`."""

    def __init__(self, rules: Sequence[Rule], window: CheckWindow | None = None) -> None:
        self._rules = rules
        self._window = window
        self._fails_closed = window is not None or any(rule.action != "flag" for rule in rules)
        self._texts: dict[TextKey, RunningText] = {}
        self._partial = b""
        self._end = b"\n"
        self._kind = Kind.FRAME
        self._blocking: Rule | None = None
        self._closes: list[Any] = []
        self._released: list[str] = []
        self._walk_flags: set[str] = set()
        self._masked: set[str] = set()
        self._held_frames: list[_Out] = []
        self._asked: list[_Out] = []
        self.blocked: Blocked | None = None
        """Set: what feed, finish or resolve has just returned ends the stream in its dialect's way. Send that, end
        the answer, abort the upstream. Every later call returns b""."""
        self.checks: Sequence[Check] = ()
        """Not empty: ask these, and give their joined verdict to `resolve`. Go on feeding meanwhile."""
        self.held_bytes = 0
        """Bytes that wait for an outside verdict: pause the upstream while they are many."""

    @property
    def flags(self) -> frozenset[str]:
        """Flag rules that found something so far."""
        return frozenset(self._walk_flags.union(*(text.flags for text in self._texts.values())))

    @property
    def masked(self) -> frozenset[str]:
        """Mask rules that replaced something so far."""
        return frozenset(self._masked.union(*(text.masked_by for text in self._texts.values())))

    @property
    def held_chars(self) -> int:
        """Of the text that waits longest."""
        return max((text.held_chars for text in self._texts.values()), default=0)

    # --- called by the exchange -----------------------------------------------------------------------

    def feed(self, data: bytes) -> bytes:
        """What may go on of whole events; pieces of one that is too long for EventGate are put together here."""
        if self.blocked is not None:
            return b""
        if self._partial:
            data = self._partial + data
            self._partial = b""
        if not data.endswith(ENDS):
            last = max(data.rfind(mark) + len(mark) if mark in data else 0 for mark in ENDS)
            self._partial = data[last:]
            data = data[:last]
        out = self._events(data)
        if len(self._partial) > EVENT_BYTES_MAX and self.blocked is None:
            if self._fails_closed:
                self._block(UNREADABLE_RULE, "an event of it is too long to be looked at")
            else:
                out.append(_Out(self._partial, Kind.TEXT))
            self._partial = b""
        return self._through_window(out)

    def finish(self) -> bytes:
        """The upstream's answer is complete. If `checks` is not empty after this, the answer ends when `resolve` has
        emptied it."""
        if self.blocked is not None:
            return b""
        out = self._events(self._partial)
        self._partial = b""
        if self.blocked is None:
            out.append(_Out(self._flush_all(), Kind.TEXT))
            self._stopped()
        if self._window is not None:
            self._window.closing = True
        return self._through_window(out)

    def discard(self) -> None:
        """The stream broke off: what is held is dropped."""
        self._partial = b""
        self._texts.clear()
        self._held_frames.clear()
        self._asked.clear()
        self.checks = ()
        self.held_bytes = 0

    def resolve(self, verdict: Verdict) -> bytes:
        """The answer to `checks`; what may go on now. `checks` may hold the next ones then."""
        self.checks = ()
        if self.blocked is not None:
            return b""
        self._walk_flags |= verdict.flags
        if isinstance(verdict, Blocked):
            self._block(verdict.rule, "")
            return self._through_window([])
        asked, self._asked = self._asked, []
        passed = b"".join(each.event for each in asked)
        self.held_bytes -= len(passed)
        return passed + self._through_window([])

    # --- dialects -------------------------------------------------------------------------------------

    @abstractmethod
    def _payload(self, payload: bytes) -> tuple[bytes, bytes]:
        """(events to send before, the payload as it goes on: the same object if nothing changed)."""

    @abstractmethod
    def _flush_all(self) -> bytes:
        """Events with all that is held."""

    @abstractmethod
    def _ending(self) -> bytes:
        """Events that end the answer because a filter stopped it."""

    @abstractmethod
    def _reopen(self, closed: Any) -> None:
        """The client never got the event that had closed this (put into `_closes` then)."""

    # --- for dialects ---------------------------------------------------------------------------------

    def _feed_text(self, key: TextKey, text: str, is_arguments: bool, final: bool = False) -> str:
        running = self._texts.get(key)
        if running is None:
            running = ArgumentText(self._rules) if is_arguments else RunningText(self._rules)
            self._texts[key] = running
        self._kind = Kind.TEXT
        return self._fed(running, text, final)

    def _rest_of(self, key: TextKey) -> str:
        """What is still held of a text that has ended; it is forgotten."""
        running = self._texts[key]
        rest = self._fed(running, "", True)
        self._walk_flags |= running.flags
        self._masked |= running.masked_by
        del self._texts[key]
        if rest:
            self._kind = Kind.TEXT  # whatever event it goes out with
        return rest

    def _fed(self, running: RunningText, text: str, final: bool) -> str:
        out = running.feed(text, final)
        if running.blocked_by is not None and self._blocking is None:
            self._blocking = running.blocked_by
        if self._window is not None:
            self._released.append(out)
        return out

    def _whole_texts(self) -> Walk:
        """For the parts of an event that repeat a text as a whole."""
        self._kind = Kind.TEXT
        return Walk(self._rules, leave=NOT_LOOKED_AT)

    def _take_over(self, walk: Walk) -> None:
        self._walk_flags |= walk.flags
        self._masked |= walk.masked_by

    # --- events ---------------------------------------------------------------------------------------

    def _events(self, data: bytes) -> list[_Out]:
        out: list[_Out] = []
        for event in split_events(data):
            self._kind = Kind.FRAME
            self._closes.clear()
            out.append(_Out(self._event(event), self._kind, tuple(self._closes)))
            if self.blocked is not None:
                break
        return out

    def _event(self, event: bytes) -> bytes:
        payload = payload_of(event)
        if not payload:
            return event
        self._end = line_end(event)
        if payload == DONE:
            self._kind = Kind.END
            held = self._flush_all()
            return held + (b"" if self._stopped() else event)
        try:
            before, changed = self._payload(payload)
        except Blocks as ended:
            self._block(ended.rule.name, "")
            return b""
        except UNREADABLE:
            if not self._fails_closed:
                return event
            self._block(UNREADABLE_RULE, "an event of it is not valid JSON")
            return b""
        self._stopped()
        return before + (event if changed is payload else with_payload(event, changed) if changed else b"")

    def _stopped(self) -> bool:
        """Whether a rule has just found what it blocks."""
        if self._blocking is not None:
            self._block(self._blocking.name, "")
        return self._blocking is not None

    def _block(self, rule: str, because: str) -> None:
        found = blocked(rule, "answer", because)
        self.blocked = Blocked(rule, found.error, self.flags)
        self.checks = ()

    def _through_window(self, out: list[_Out]) -> bytes:
        window = self._window
        if self.blocked is not None:
            return self._last_words(out)
        if window is None:
            return b"".join(each.event for each in out)
        self._held_frames += out
        self.held_bytes += sum(len(each.event) for each in out)
        window.add("".join(self._released))
        self._released.clear()
        if self.checks:
            return b""
        self.checks = window.next_checks()
        if not self.checks and not window.waiting:
            return self._let_go()
        if self.checks:
            self._asked, self._held_frames = self._held_frames, []
        return b""

    def _last_words(self, out: list[_Out]) -> bytes:
        """What may still go out of a blocked answer, and its end. Of what waits for a verdict, which nobody will
        give, only the frame."""
        if self._window is not None:
            waiting = [*self._asked, *self._held_frames, *out]
            self._asked, self._held_frames, self.held_bytes = [], [], 0
            out = [each for each in waiting if each.kind is Kind.FRAME]
            for each in waiting:
                if each.kind is not Kind.FRAME:
                    for closed in each.closes:
                        self._reopen(closed)
        return b"".join(each.event for each in out) + self._ending()

    def _let_go(self) -> bytes:
        passed = b"".join(each.event for each in self._held_frames)
        self._held_frames = []
        self.held_bytes -= len(passed)
        return passed
