"""Lets a stream of server-sent events through in whole events, and takes out the usage event if it is ours.

Chunks that end where an event ends (nearly all do) pass untouched and uninspected, but for one search for
the usage event's mark. A chunk that ends inside an event is held back from its last boundary on until the
rest comes: the client could do nothing with half an event, and the gateway can then always add an event of
its own, an error for instance, between two whole ones.
"""

from __future__ import annotations

import re

# An empty line, whichever line ends are mixed: `\r\n\r\n` ends with the second of these.
_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
_BOUNDARY = re.compile(rb"\n\n|\n\r\n|\r\r")
HELD_BYTES_MAX = 256 * 1024
"""An event that is longer than this is passed on in pieces."""

# What an engine sends at the end when it was asked for usage: an event without choices.
_USAGE_MARKS = (b'"choices":[]', b'"choices": []')
_USAGE = re.compile(rb'"usage":\s*\{')


class EventGate:
    """State of one stream. `feed` and `finish` return what may go to the client, maybe nothing."""

    __slots__ = ("_drop_usage", "_held")

    def __init__(self, drop_usage: bool) -> None:
        self._drop_usage = drop_usage
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        if self._held:
            data = self._held + data
            self._held = b""
        if not data.endswith(_ENDS):
            data = self._hold_partial(data)
        # The rarest mark first: nearly every event has choices, and no other has usage.
        if self._drop_usage and b'"usage"' in data and any(mark in data for mark in _USAGE_MARKS):
            return _without_usage(data)
        return data

    def finish(self) -> bytes:
        """What is still held at the end of the stream."""
        held, self._held = self._held, b""
        return held

    def discard(self) -> None:
        """The stream broke off: half an event is of no use to anybody."""
        self._held = b""

    def _hold_partial(self, data: bytes) -> bytes:
        end = max(at + len(mark) if (at := data.rfind(mark)) >= 0 else 0 for mark in _ENDS)
        if len(data) - end > HELD_BYTES_MAX:
            return data
        self._held = data[end:]
        return data[:end]


def _without_usage(data: bytes) -> bytes:
    kept: list[bytes] = []
    start = 0
    for boundary in _BOUNDARY.finditer(data):
        event = data[start : boundary.end()]
        start = boundary.end()
        is_usage = (
            any(mark in event for mark in _USAGE_MARKS) and _USAGE.search(event) and b'"delta"' not in event
        )
        # Empty lines before an event may have come in either chunk: they stay, however the stream was cut.
        kept.append(event[: len(event) - len(event.lstrip(b"\r\n"))] if is_usage else event)
    kept.append(data[start:])
    return b"".join(kept)
