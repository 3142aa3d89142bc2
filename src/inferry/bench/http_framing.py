"""Where one HTTP/1.1 response's head and body end, from any split of its bytes; the body itself is not looked at.

Framing as in RFC 9112, strictly: what two readers could understand in two ways is an error here, not a guess.
"""

from __future__ import annotations

import re

HEAD_BYTES_MAX = 64 * 1024
LINE_BYTES_MAX = 4 * 1024
"""Of a chunk's size with its extensions, and of all trailers together."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n]*)?")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_HEX = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?", re.DOTALL)


class BadFraming(ValueError):
    """It is not HTTP, or not so that its end could be told."""


class ResponseReader:
    """One response. Interim ones (1xx) before it are passed over."""

    __slots__ = (
        "_chunked",
        "_data_left",
        "_held",
        "_in_trailers",
        "_line_end_due",
        "_trailer_bytes",
        "complete",
        "content_type",
        "keep_alive",
        "status",
        "surplus",
        "until_close",
    )

    def __init__(self) -> None:
        self.status: int | None = None
        """None: the head is not whole yet."""
        self.content_type = ""
        self.keep_alive = False
        self.until_close = False
        """Nothing but the connection's end says where the body ends."""
        self.complete = False
        self.surplus = False
        """More came than the response: the connection is of no use any more."""
        self._held = b""
        self._chunked = False
        self._data_left = 0
        self._line_end_due = False
        self._in_trailers = False
        self._trailer_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """The body bytes that `data` brings. Raises BadFraming."""
        if self.status is None:
            rest = self._read_head(data)
            if not rest:
                return b""
            data = rest
        if self.complete:
            self.surplus = True
            return b""
        if self._chunked:
            return self._read_chunks(data)
        if self.until_close:
            return data
        if len(data) >= self._data_left:
            self.complete = True
            self.surplus = len(data) > self._data_left
            data = data[: self._data_left]
        self._data_left -= len(data)
        return data

    def connection_ended(self) -> bool:
        """The other side has closed in order: was that the response's end?"""
        if self.until_close:
            self.complete = True
        return self.complete

    # --- the head -------------------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> bytes:
        """What comes after the head; with `status` still None: the head is not whole."""
        data = self._held + data
        while True:
            end = data.find(b"\r\n\r\n")
            if end > HEAD_BYTES_MAX or (end < 0 and len(data) > HEAD_BYTES_MAX):
                raise BadFraming(f"the head of the answer is longer than {HEAD_BYTES_MAX} bytes")
            if end < 0:
                if not data.startswith(b"HTTP/"[: len(data)]):
                    raise BadFraming(f"the answer begins with {data[:20]!r}, which is not HTTP")
                self._held = data
                return b""
            head, data = data[:end], data[end + 4 :]
            if self._take_head(head):
                self._held = b""
                return data

    def _take_head(self, head: bytes) -> bool:
        """False: it was an interim one."""
        first, *lines = head.split(b"\r\n")
        found = _STATUS_LINE.fullmatch(first)
        if found is None:
            raise BadFraming(f"the answer begins with {first[:40]!r}, which is no status line")
        status = int(found[2])
        if status == 101:
            raise BadFraming("the answer switches to another protocol (status 101)")
        if status < 200:
            return False
        fields = _fields(lines)
        self.keep_alive = found[1] == b"1" and b"close" not in _listed(fields, b"connection")
        self.content_type = b", ".join(fields.get(b"content-type", [])).decode("latin-1")
        lengths = _listed(fields, b"content-length")
        codings = _listed(fields, b"transfer-encoding")
        if codings:
            if codings != [b"chunked"]:
                raise BadFraming(f"transfer coding {b', '.join(codings)[:40]!r} is not known")
            if lengths:
                raise BadFraming("the answer has both a length and chunks")
            self._chunked = True
        elif status in (204, 304):
            self.complete = True
        elif lengths:
            if len(set(lengths)) > 1 or not _DIGITS.fullmatch(lengths[0]):
                raise BadFraming(f"content-length {b', '.join(lengths)[:40]!r} is not a length")
            self._data_left = int(lengths[0])
            self.complete = self._data_left == 0
        else:
            self.until_close = True
            self.keep_alive = False
        self.status = status
        return True

    # --- chunks ---------------------------------------------------------------------------------------

    def _read_chunks(self, data: bytes) -> bytes:
        if self._held:
            data = self._held + data
            self._held = b""
        at, size = 0, len(data)
        parts: list[bytes] = []
        while at < size:
            if self._data_left:
                part = data[at : at + self._data_left]
                parts.append(part)
                at += len(part)
                self._data_left -= len(part)
                self._line_end_due = not self._data_left
                continue
            end = data.find(b"\r\n", at)
            if end - at > LINE_BYTES_MAX or (end < 0 and size - at > LINE_BYTES_MAX):
                raise BadFraming("a chunk's size does not end")
            if end < 0:
                if self._line_end_due and data[at:] != b"\r":
                    raise BadFraming("a chunk is longer than its size says")
                self._held = data[at:]
                break
            self._on_line(data[at:end])
            at = end + 2
            if self.complete:
                self.surplus = at < size
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _on_line(self, line: bytes) -> None:
        if self._line_end_due:
            if line:
                raise BadFraming("a chunk is longer than its size says")
            self._line_end_due = False
        elif self._in_trailers:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > LINE_BYTES_MAX:
                raise BadFraming("the trailers do not end")
            self.complete = not line
        else:
            found = _HEX.fullmatch(line)
            if found is None:
                raise BadFraming(f"{line[:20]!r} is not a chunk's size")
            self._data_left = int(found[1], 16)
            self._in_trailers = not self._data_left


def _fields(lines: list[bytes]) -> dict[bytes, list[bytes]]:
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name) or b"\n" in value or b"\r" in value or b"\0" in value:
            raise BadFraming(f"{line[:40]!r} is not a header")
        fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return fields


def _listed(fields: dict[bytes, list[bytes]], name: bytes) -> list[bytes]:
    """The comma-separated values of all fields of a name, in lower case."""
    joined = b",".join(fields.get(name, []))
    return [value.strip(b" \t").lower() for value in joined.split(b",")] if joined else []
