"""Takes server-sent events apart and puts them together again.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

import re
from collections.abc import Iterator

ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
_BOUNDARY = re.compile(rb"\n\n|\n\r\n|\r\r")
_LINE_END = re.compile(rb"\r\n|\n|\r")
DONE = b"[DONE]"


def split_events(data: bytes) -> Iterator[bytes]:
    """Each event with the empty line that ends it; the last one may have none."""
    if data.find(b"\n\n") == len(data) - 2 and b"\r" not in data:
        yield data  # nearly every read holds one event
        return
    start = 0
    for boundary in _BOUNDARY.finditer(data):
        yield data[start : boundary.end()]
        start = boundary.end()
    if start < len(data):
        yield data[start:]


def payload_of(event: bytes) -> bytes:
    """Its data; empty for comments and the like."""
    if (
        event.startswith(b"data: ")
        and event.endswith(b"\n\n")
        and b"\n" not in event[:-2]
        and b"\r" not in event
    ):
        return event[6:-2]
    lines = [line for line in _LINE_END.split(event) if line.startswith(b"data")]
    parts = [line[5:].removeprefix(b" ") for line in lines if line[4:5] == b":"]
    return b"\n".join(parts)


def with_payload(event: bytes, payload: bytes) -> bytes:
    """The same event with other data: its name, id and line ends stay."""
    if event.startswith(b"data: ") and event.count(b"\n") == 2 and b"\r" not in event:
        return b"data: " + payload + b"\n\n"
    end = line_end(event)
    kept = [line for line in _LINE_END.split(event) if line and not line.startswith(b"data")]
    return b"".join(line + end for line in kept) + b"data: " + payload + end + end


def line_end(event: bytes) -> bytes:
    return b"\r\n" if b"\r\n" in event else b"\n"


def make_event(payload: bytes, end: bytes, name: bytes = b"") -> bytes:
    head = b"event: " + name + end if name else b""
    return head + b"data: " + payload + end + end
