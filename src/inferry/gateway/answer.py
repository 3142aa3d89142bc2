"""An engine's answer on its way through: whole events, without the gateway's own questions, and counted.

Chunks are not parsed on the way; what they add up to is read from the first and the last ones at the end.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

from inferry.core.errors import EngineBroke, InferryError
from inferry.core.outcome import UsageFrom
from inferry.core.request import InferenceRequest
from inferry.gateway.delivered import Delivered
from inferry.gateway.progress import TokenEvents
from inferry.gateway.sse import EventGate, each_event, ends_with_done, is_json, without_usage
from inferry.gateway.usage import TAIL_BYTES_MAX, Usage, finish_reason, read_completion, read_usage
from inferry.gateway.verdict import judge_reason, may_hold_error, read_error

Counts: TypeAlias = "memoryview[int] | list[int]"
_LAST_READS = 8
"""A reason may be followed by SGLang's extra event, usage, [DONE], and keep-alive comments between them."""
_STREAM_END_BYTES_MAX = 4 * 1024 * 1024
"""OpenAI's responses end with an event that holds all of their text once more, and says at its beginning why."""
# A first event that only says who speaks: it has the mark of a token, and none.
_NO_TOKEN = (b'"content":""', b'"content":null', b'"content": ""', b'"content": null')
_JSON_END = b"}\n\n"
_REASON, _SPACED_REASON = b'"finish_reason":"', b'"finish_reason": "'
_KEPT_BYTES_MAX = 64 * 1024
"""Of a stream's events, before they are compressed: some 300 tokens. That takes a third of a microsecond a token."""
_PACKED_BYTES_MAX = 8 * 1024 * 1024
"""Far above any answer's; a stream that is longer can't be resumed."""


class Answer:
    """One attempt's answer. `feed` every read, then `finish` or `discard`."""

    __slots__ = (
        "_completion", "_counts", "_drop_usage", "_events", "_first", "_gate", "_is_broken", "_kept", "_kept_bytes",
        "_last", "_packed", "_packed_reads", "_reason", "_without", "done", "is_stream", "slot", "worth_a_look",
    )  # fmt: skip

    def __init__(
        self,
        request: InferenceRequest,
        is_stream: bool,
        drop_usage: bool,
        counts: Counts,
        slot: int,
        resumable: bool = False,
    ) -> None:
        """`counts[slot]` is kept at the number of tokens relayed, for whoever must account for it if we die.
        `resumable`: all of a stream is kept, in few bytes, for `delivered`."""
        self.is_stream = is_stream
        self.done = False
        """The engine has said [DONE]."""
        self.worth_a_look = False
        """Ask for its `failure` now: its last events are its end, or its first ones an error."""
        self._last: deque[bytes] = deque(maxlen=_LAST_READS)
        """Of an answer that is no stream."""
        self._completion: tuple[Usage, str] | None = None
        """Of a whole one in a single read: its usage and why it ended."""
        self._reason: str | None = None
        self._gate: EventGate | None = None
        if is_stream:
            self._gate = EventGate()
            self._drop_usage = drop_usage
            self._events = TokenEvents(request.route)
            self._first = b""
            self._counts = counts
            self.slot = slot
            self._without = 0
            self._kept: list[bytes] = []
            """Whole events, as they went on: what another replica must know to go on."""
            self._kept_bytes = 0
            self._packed: list[bytes] | None = [] if resumable else None
            """Those before, compressed."""
            self._packed_reads = 0
            self._is_broken = False

    def feed(self, data: bytes) -> bytes:
        """One read, not empty; returns what may go on, maybe nothing."""
        gate = self._gate
        if gate is None:
            self._last.append(data)
            return data
        if gate.holds or not data.endswith(_JSON_END):  # else it is whole: so is nearly every read
            data = gate.feed(data)
            if not data:
                return data
            if ends_with_done(data):
                self.done = self.worth_a_look = True
        self._kept_bytes += len(data)
        if self._kept_bytes > _KEPT_BYTES_MAX:
            self._pack(len(data))
        self._kept.append(data)
        if self._packed is not None and not is_json(data):
            self._is_broken = self.worth_a_look = True
        if _REASON in data or _SPACED_REASON in data:
            self.worth_a_look = True
        marks = self._events.count(data)
        if not self._first:
            self._first = data
            self._without = int(any(mark in data for mark in _NO_TOKEN))
            self.worth_a_look = self.worth_a_look or may_hold_error(data)
        if marks > self._without:
            self._counts[self.slot] = marks - self._without
        return without_usage(data) if self._drop_usage and b'"usage"' in data else data

    def finish(self) -> bytes:
        """The answer is complete: what was still held."""
        if self._gate is not None:
            held = self._gate.finish()
            if held:
                self._kept.append(held)
            return held
        if len(self._last) == 1:
            self._completion = read_completion(self._last[0])
        return b""

    def discard(self) -> None:
        """The stream broke off: half an event is of no use to anybody."""
        if self._gate is not None:
            self._gate.discard()

    def failure(self, over: bool, reason_needed: bool) -> InferryError | None:
        """Why this is no whole answer, though its engine ended it; of one that is not `over`, whether the engine has
        reported an error. `reason_needed`: a stream must say why it ends."""
        self.worth_a_look = False
        if self.is_stream:
            if self._is_broken:
                return EngineBroke("it sent an event that is no JSON")
            error = read_error(b"".join(self._tail())[-TAIL_BYTES_MAX:])
            if error is not None:
                return error
            if not over:  # a reason that says that it was given up must not reach the client
                return judge_reason(finish_reason(self._kept[-1:]), reason_needed=False)
        return judge_reason(self.finish_reason(), reason_needed=reason_needed and self.is_stream)

    def _tail(self) -> Sequence[bytes]:
        return self._kept[-_LAST_READS:] if self.is_stream else self._last

    # --- where another replica goes on ----------------------------------------------------------------

    @property
    def reads(self) -> int:
        """So many have gone on. See `take_back`."""
        return self._packed_reads + len(self._kept) if self.is_stream else 0

    def take_back(self, reads: int) -> bytes:
        """What has been kept since there were `reads`: its replica failed with it, and the client does not have it."""
        at = reads - self._packed_reads
        taken = self._kept[at:]
        del self._kept[at:]
        for data in taken:
            self._kept_bytes -= len(data)
            self._events.take_back(data)
        return b"".join(taken)

    def delivered(self) -> Delivered | None:
        """What the client has; None where it was not kept."""
        if self._packed is None:
            return None
        found = Delivered()
        found.take(b"".join([*map(zlib.decompress, self._packed), *self._kept]))
        return found

    def tokens_delivered(self) -> int:
        """As exact as can be told from the events."""
        return self._events.tokens(self._tail())

    def next_leg(self, slot: int) -> None:
        """Another replica goes on; what it sends is made to fit before it comes here."""
        assert self._gate is not None
        self._gate.discard()
        self.done = self.worth_a_look = self._is_broken = False
        self._reason = None
        self.slot = slot

    def _pack(self, coming_bytes: int) -> None:
        """Of a long stream, all but the last reads: events are alike, and take a fortieth of the room then."""
        old = self._kept[:-_LAST_READS]
        del self._kept[:-_LAST_READS]
        self._packed_reads += len(old)
        self._kept_bytes = coming_bytes + sum(map(len, self._kept))
        if self._packed is None:
            return
        self._packed.append(zlib.compress(b"".join(old), 1))
        if sum(map(len, self._packed)) > _PACKED_BYTES_MAX:
            self._packed = None

    @property
    def tokens_so_far(self) -> int:
        return max(0, self._events.marks - self._without) if self.is_stream else 0

    # --- at the end -----------------------------------------------------------------------------------

    def usage(self, complete: bool, prompt_estimate: int) -> tuple[Usage, UsageFrom]:
        """The engine's own count, of a `complete` answer that has one; else what was relayed, and nothing for
        nothing."""
        found = self._completion[0] if self._completion is not None else read_usage(self._tail())
        if self.is_stream and (found is None or found.prompt_tokens is None):
            # Anthropic's streams say it in their first event.
            first = self._usage_at_first()
            if first is not None:
                found = found or Usage()
                found.prompt_tokens, found.cached_tokens = first.prompt_tokens, first.cached_tokens
        if complete and found is not None and (found.completion_tokens is not None or not self.is_stream):
            return found, UsageFrom.ENGINE
        if not self.is_stream:
            return Usage(), UsageFrom.NONE
        known = found or Usage()
        tokens = self._events.tokens(self._tail())
        if not tokens:  # as for a client that left before the answer began, or a crash then
            return Usage(), UsageFrom.NONE
        prompt = prompt_estimate if known.prompt_tokens is None else known.prompt_tokens
        return Usage(prompt, tokens, known.cached_tokens), UsageFrom.COUNTED

    def _usage_at_first(self) -> Usage | None:
        """Of the first event that tells a prompt's; the whole answer may have come in that one read."""
        for event in each_event(self._first):
            usage = read_usage([event])
            if usage is not None and usage.prompt_tokens is not None:
                return usage
        return None

    def prompt_tokens(self) -> int | None:
        """As the engine counted them, if its answer has said so by now."""
        found = read_usage(self._tail())
        return None if found is None else found.prompt_tokens

    def finish_reason(self) -> str | None:
        """In its dialect's word; None: it has not said."""
        if self._reason is None:
            if self._completion is not None:
                self._reason = self._completion[1]
            else:
                bytes_max = _STREAM_END_BYTES_MAX if self.is_stream else TAIL_BYTES_MAX
                self._reason = finish_reason(self._tail(), bytes_max)
        return self._reason
