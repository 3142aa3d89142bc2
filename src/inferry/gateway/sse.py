"""Lets a stream of server-sent events through in whole events, and takes out those that no client shall see.

Chunks that end where an event ends (nearly all do) pass untouched. A chunk that ends inside an event is held
back from its last boundary on until the rest comes: the client could do nothing with half an event, and the
gateway can then always add an event of its own, an error for instance, between two whole ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

# An empty line, whichever line ends are mixed: `\r\n\r\n` ends with the second of these.
_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
_BOUNDARY = re.compile(rb"\n\n|\n\r\n|\r\r")
_LINE_END = re.compile(rb"\r\n|\n|\r")
DONE = b"data: [DONE]\n\n"
_DONE_ENDS = (b"[DONE]\n\n", b"[DONE]\r\n\r\n", b"[DONE]\r\r")
HELD_BYTES_MAX = 256 * 1024
"""An event that is longer than this is passed on in pieces."""

# What an engine sends at the end when it was asked for usage: an event without choices.
_USAGE_MARKS = (b'"choices":[]', b'"choices": []')
_USAGE = re.compile(rb'"usage":\s*\{')


class EventGate:
    """State of one stream: cuts it where events end."""

    __slots__ = ("holds",)

    def __init__(self) -> None:
        self.holds = b""
        """The beginning of an event."""

    def feed(self, data: bytes) -> bytes:
        """The events that are whole with `data`, maybe none."""
        if self.holds:
            data = self.holds + data
            self.holds = b""
        if not data.endswith(_ENDS):
            data = self._hold_partial(data)
        return data

    def finish(self) -> bytes:
        """What is still held at the end of the stream."""
        held, self.holds = self.holds, b""
        return held

    def discard(self) -> None:
        """The stream broke off: half an event is of no use to anybody."""
        self.holds = b""

    def _hold_partial(self, data: bytes) -> bytes:
        end = max(at + len(mark) if (at := data.rfind(mark)) >= 0 else 0 for mark in _ENDS)
        if len(data) - end > HELD_BYTES_MAX:
            return data
        self.holds = data[end:]
        return data[:end]


def without_usage(data: bytes) -> bytes:
    """Whole events, but for the one with the usage that only the gateway asked for."""
    if not any(mark in data for mark in _USAGE_MARKS):
        return data
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


def ends_with_done(data: bytes) -> bool:
    """Whether the last of these whole events is OpenAI's end of a stream."""
    return data.endswith(_DONE_ENDS)


def without_done(data: bytes) -> bytes:
    """Events as they came, but for a `[DONE]` at their end."""
    stripped = data.rstrip(b"\r\n")
    if not stripped.endswith(b"[DONE]"):
        return data
    boundaries = [each.end() for each in _BOUNDARY.finditer(stripped)]
    return data[: boundaries[-1]] if boundaries else b""


def split_events(data: bytes) -> tuple[list[bytes], bytes]:
    """The events that end in `data`, the first maybe without its beginning; and the half event behind them."""
    *events, rest = _BOUNDARY.split(data)
    return events, rest


def each_event(data: bytes) -> Iterator[bytes]:
    """The whole events in `data`, each with its end."""
    start = 0
    for boundary in _BOUNDARY.finditer(data):
        yield data[start : boundary.end()]
        start = boundary.end()


class _Object(msgspec.Struct):
    """Any JSON object, skimmed: nothing is built of it."""


_skim = msgspec.json.Decoder(_Object).decode
_JSON_BEGINS = b"data: {"
_DATA = len(b"data: ")


def is_json(data: bytes) -> bool:
    """Whether all of these whole events that begin as JSON objects are some. A third of a microsecond for one event,
    which nearly every read is."""
    try:
        _skim(data[_DATA:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return all(map(_is_json, each_event(data)))
    return True


def _is_json(event: bytes) -> bool:
    if not event.startswith(_JSON_BEGINS):
        return True
    try:
        _skim(event[_DATA:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def event_fields(event: bytes) -> dict[str, Any] | None:
    """The JSON object of an event; None if there is none, or only a part of it."""
    lines = (line[5:] for line in _LINE_END.split(event) if line.startswith(b"data:"))
    try:
        fields = msgspec.json.decode(b"\n".join(lines))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None
