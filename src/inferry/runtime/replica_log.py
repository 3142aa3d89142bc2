"""What a replica prints: a rotating file, and its last lines in memory. Never stands in the engine's way."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

FILE_BYTES_MAX = 10 * 1024 * 1024
FILES_MAX = 3
TAIL_LINES_MAX = 200
LINE_CHARS_MAX = 2000
"""Of a line in memory; the file gets all of it."""


class ReplicaLog:
    """Appends bytes as they come, and rotates at line ends: `x.log`, then `x.log.1`, `x.log.2`.

    A file exceeds its cap by one write at most.

    A file that can't be written (full disk, folder gone) costs lines and nothing else: they are counted, and
    the count is written down as soon as writing works again. Thread-safe.
    """

    def __init__(
        self,
        path: Path,
        *,
        file_bytes_max: int = FILE_BYTES_MAX,
        files_max: int = FILES_MAX,
        tail_lines_max: int = TAIL_LINES_MAX,
    ) -> None:
        assert files_max >= 1
        self.path = path
        self._lost_bytes = 0
        self._file_bytes_max = file_bytes_max
        self._files_max = files_max
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._file_bytes = 0
        self._at_line_end = True
        self._tail: deque[str] = deque(maxlen=tail_lines_max)
        self._partial = b""

    def write(self, chunk: bytes) -> None:
        """Keep `chunk`, which may begin and end in the middle of a line. Raises nothing."""
        with self._lock:
            self._remember(chunk)
            self._store(chunk)

    def tail(self, lines_max: int | None = None) -> Sequence[str]:
        """The last lines, oldest first, with an unfinished one at the end."""
        with self._lock:
            lines = list(self._tail)
            if self._partial:
                lines.append(_as_text(self._partial))
        return lines if lines_max is None else lines[-lines_max:]

    def close(self) -> None:
        with self._lock:
            self._drop_file()

    def _remember(self, chunk: bytes) -> None:
        *lines, partial = (self._partial + chunk).split(b"\n")
        # Only the lines that can stay are worth decoding: a flood costs no more than its last lines.
        for line in lines[-(self._tail.maxlen or 0) :]:
            self._tail.append(_as_text(line))
        # Progress bars end in "\r" and never in "\n": without a bound they would grow forever.
        self._partial = partial[-4 * LINE_CHARS_MAX :]

    def _store(self, chunk: bytes) -> None:
        stored = 0
        try:
            self._open()
            if self._file_bytes >= self._file_bytes_max:
                # Full: end it behind a line, unless the line is longer than what came now.
                if not self._at_line_end:
                    stored = chunk.find(b"\n") + 1
                    self._append(chunk[:stored])
                self._rotate()
                self._open()
            if self._lost_bytes:
                self._append(b"\n[inferry: %d bytes of output were lost here]\n" % self._lost_bytes)
                self._lost_bytes = 0
            self._append(chunk[stored:])
        except OSError:
            self._drop_file()
            self._lost_bytes += len(chunk) - stored

    def _open(self) -> None:
        if self._fd is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Engines may print what users wrote: for the owner's eyes only.
            self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._file_bytes = os.fstat(self._fd).st_size

    def _append(self, part: bytes) -> None:
        assert self._fd is not None
        while part:
            written = os.write(self._fd, part)
            self._file_bytes += written
            self._at_line_end = part[written - 1 : written] == b"\n"
            part = part[written:]

    def _rotate(self) -> None:
        self._drop_file()
        for number in range(self._files_max - 1, 0, -1):
            newer = self.path if number == 1 else self.path.with_name(f"{self.path.name}.{number - 1}")
            if newer.exists():
                newer.replace(self.path.with_name(f"{self.path.name}.{number}"))
        if self._files_max == 1:
            self.path.unlink()

    def _drop_file(self) -> None:
        if self._fd is not None:
            # What close() could still report, write() has reported.
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = None


def _as_text(line: bytes) -> str:
    text = line.decode(errors="replace").rstrip("\r")
    # A progress bar rewrites its line: show the last state.
    text = text.rpartition("\r")[2]
    return text if len(text) <= LINE_CHARS_MAX else text[:LINE_CHARS_MAX] + "…"
