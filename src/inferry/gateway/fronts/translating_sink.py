"""Stands between an exchange and its front: the inner route's answer in, the outer API's answer out.

The exchange knows nothing of it. Events are translated one by one, as they come; an answer that is no stream is
held until it is whole, for its new length stands in the head.
"""

from __future__ import annotations

from inferry.gateway.fronts.answer_pieces import EventReader, error_of
from inferry.gateway.fronts.front import Grumbler, NotAnswered, Writer
from inferry.gateway.sink import ClientSink

_JSON = b"application/json"
_HELD_BYTES_MAX = 256 * 1024 * 1024
"""Of an answer that is no stream: far above any embedding of a batch, far below a machine's memory."""
_TOO_DEEP = NotAnswered(502, "The engine's answer is nested too deeply.")


class TranslatingSink:
    """A ClientSink around another one. `writer` is set when the request is understood; errors come before."""

    def __init__(self, sink: ClientSink, errors: Grumbler) -> None:
        self._sink = sink
        self._errors = errors
        self.writer: Writer | None = None
        self._status = 0
        self._lines = b""
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._events: EventReader | None = None
        """While a stream goes through."""
        self._broken = False
        """The client has read of an error: nothing may follow it."""

    def start(self, status: int, header_lines: bytes, length: int | None) -> None:
        self._status = status
        self._lines, kind = _without_kind(header_lines)
        writer = self.writer
        if writer is None or writer.stream_type is None or status >= 400:
            return
        if kind.startswith(b"text/event-stream"):
            self._events = EventReader()
            self._begin(status, writer.stream_type, None)

    def _begin(self, status: int, kind: bytes, length: int | None) -> None:
        self._sink.start(status, self._lines + b"content-type: " + kind + b"\r\n", length)

    def write(self, data: bytes) -> None:
        if self._events is None:
            self._hold(data)
        elif out := self._translated(data):
            self._sink.write(out)

    def end(self, data: bytes = b"") -> None:
        if self._events is not None:
            self._sink.end(self._translated(data, is_last=True))
            return
        self._hold(data)
        body = b"".join(self._held)
        try:
            if self._status >= 400:
                raise NotAnswered(self._status, error_of(body, self._status)[1])
            if self._held_bytes > _HELD_BYTES_MAX:
                raise NotAnswered(502, "The engine's answer is too long.")
            self._answer(body)
        except NotAnswered as error:
            self._refuse(error)
        except RecursionError:
            self._refuse(_TOO_DEEP)

    def _hold(self, data: bytes) -> None:
        self._held_bytes += len(data)
        if self._held_bytes <= _HELD_BYTES_MAX:
            self._held.append(data)
        else:
            self._held.clear()

    def _answer(self, body: bytes) -> None:
        writer = self.writer
        assert writer is not None
        if writer.stream_type is None:
            answer = writer.whole(body)
            self._begin(self._status, _JSON, len(answer))
            self._sink.end(answer)
        else:  # a stream was asked for, and the engine has said all at once
            pieces = writer.piece(body) + writer.last()
            self._begin(self._status, writer.stream_type, None)
            self._sink.end(pieces)

    def _refuse(self, error: NotAnswered) -> None:
        answer = self._errors.error(error.status, error.message)
        self._begin(error.status, _JSON, len(answer))
        self._sink.end(answer)

    def cut(self) -> None:
        if self._events is not None:
            self._sink.cut()
        else:  # nothing has gone out yet, so that it can still be said
            self._refuse(NotAnswered(502, "The engine's answer broke off."))

    def _translated(self, data: bytes, *, is_last: bool = False) -> bytes:
        events, writer = self._events, self.writer
        assert events is not None
        assert writer is not None
        if self._broken:
            return b""
        out: list[bytes] = []
        try:
            for event in events.feed(data):
                out.append(writer.piece(event))
            if is_last:
                for event in events.finish():
                    out.append(writer.piece(event))
                out.append(writer.last())
        except NotAnswered as error:
            out.append(self._last_words(error))
        except RecursionError:
            out.append(self._last_words(_TOO_DEEP))
        return b"".join(out)

    def _last_words(self, error: NotAnswered) -> bytes:
        self._broken = True
        return self._errors.error_piece(error.status, error.message)


def _without_kind(header_lines: bytes) -> tuple[bytes, bytes]:
    """(the lines without that of the content type, its value). Names are in lower case."""
    kept: list[bytes] = []
    kind = b""
    for line in header_lines.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-type":
            kind = value.strip().lower()
        elif line:
            kept.append(line + b"\r\n")
    return b"".join(kept), kind
