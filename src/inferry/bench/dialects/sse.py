"""Server-sent events out of a body that came in pieces, each with the time at which it was complete.

Read after the fact, from the body as a whole: where a piece ended can change nothing but times. As the HTML
standard has it (section 9.2.6): lines end with LF, CRLF or CR; a line that begins with a colon is a comment; one
space after a field's colon is no part of the value; several `data` lines are joined with LF; an event without
data is none; a byte order mark at the beginning is skipped.

One exception: what follows the last empty line counts as an event if HTTP says that the body is whole. Servers
that leave out the very last empty line are taken for what they mean; of a body that was cut, half an event is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_EMPTY_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PLAIN = b"data: "


class Event(NamedTuple):
    """One event. `at_s` is when its last byte was read; `kind` is its `event` field, empty if it has none."""

    at_s: float
    data: bytes
    kind: str = ""


def events(pieces: tuple[tuple[float, bytes], ...], *, whole: bool) -> Iterator[Event]:
    """The events of a body. `whole`: it came to its proper end."""
    if not pieces:
        return
    body = b"".join(piece for _, piece in pieces)
    start = len(_BYTE_ORDER_MARK) if body.startswith(_BYTE_ORDER_MARK) else 0
    index, piece_end = 0, len(pieces[0][1])
    for block_end, end in _empty_lines(body, start):
        while piece_end < end:
            index += 1
            piece_end += len(pieces[index][1])
        if (event := _event(pieces[index][0], body[start:block_end])) is not None:
            yield event
        start = end
    if whole and (event := _event(pieces[-1][0], body[start:])) is not None:
        yield event


def _empty_lines(body: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Where each empty line, with the line end before it, begins and ends."""
    if b"\r" in body:
        for boundary in _EMPTY_LINE.finditer(body, start):
            yield boundary.span()
        return
    at = body.find(b"\n\n", start)
    while at >= 0:  # the same, and quicker: nearly all servers send LF only
        yield at, at + 2
        at = body.find(b"\n\n", at + 2)


def _event(at_s: float, block: bytes) -> Event | None:
    if block.startswith(_PLAIN) and b"\n" not in block and b"\r" not in block:
        return Event(at_s, block[len(_PLAIN) :])
    data: list[bytes] = []
    kind = b""
    for line in _LINE_END.split(block):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value
    return Event(at_s, b"\n".join(data), kind.decode("utf-8", "replace")) if any(data) else None
