"""Says lines on a terminal, a file or a pipe, and never lets the one who says them wait or fail."""

from __future__ import annotations

import os
import queue
import select
import threading
from types import TracebackType

LINES_MAX = 256
"""To keep for a reader that is slow; what comes on top of them is dropped."""
FLUSH_S = 1.0
"""For the last lines at the end. A terminal takes them at once; a pipe that nobody reads never does."""


class Speaker:
    """Lines go through a bounded queue to a thread of its own: `inferry up | less` may stop reading for an
    hour, and the event loop, from which replicas' news come, goes on.

    A reader that has gone, or a full disk, ends the talk without a word: what runs matters more than what is
    said about it. Use it as a context; leaving it waits for what is still to be said, up to FLUSH_S.
    """

    def __init__(self, fd: int | None) -> None:
        """`fd` is not closed; None: nobody listens. Written to directly, since a thread that is stuck in a
        buffered stream would hold that stream's lock, and the interpreter could not end."""
        self._fd = fd
        self._lines: queue.Queue[str | None] = queue.Queue(LINES_MAX)
        self._thread = threading.Thread(target=self._write_lines, name="inferry-speaker", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """Print `text` and a line end, soon. Never blocks, raises nothing."""
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            return

    def __enter__(self) -> Speaker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        try:
            self._lines.put(None, timeout=FLUSH_S)
        except queue.Full:
            return  # the thread is stuck; it is a daemon
        self._thread.join(FLUSH_S)

    def _write_lines(self) -> None:
        while (text := self._lines.get()) is not None:
            if self._fd is not None and not _write(self._fd, f"{text}\n".encode(errors="replace")):
                self._fd = None  # what still comes is taken and dropped, so that the end needs no waiting


def _write(fd: int, left: bytes) -> bool:
    """Whether all of it could be written."""
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            # Another program has set the pipe that we share to non-blocking.
            select.select([], [fd], [])
        except OSError:
            return False
    return True
