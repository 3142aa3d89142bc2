"""The journal: one line of JSON per outcome, in the file before the answer ends. What is written survives kill -9.

Not fsync: a line that the kernel has survives the process, and losing power costs at most the last seconds.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from inferry.core.outcome import Outcome
from inferry.ledger.locked_file import create_locked

log = structlog.get_logger()

SUFFIX = "journal"
FILE_BYTES_MAX = 64 * 1024 * 1024
"""Then the next file: about 150,000 outcomes."""
WAITING_BYTES_MAX = 8 * 1024 * 1024
"""Lines that the disk does not take are kept in memory up to this, about 20,000 of them."""
LINE_BYTES_MAX = 4096
"""Beyond it, clients' texts in an outcome are cut to TEXT_CHARS_MAX: nobody shall fill a disk with names."""
TEXT_CHARS_MAX = 200
CLOSED = -1
"""No file has this handle."""


class JournalWriter:
    """Appends outcomes to files in `folder`, one process each. For one thread; never raises where a disk fails."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        file_bytes_max: int = FILE_BYTES_MAX,
        waiting_bytes_max: int = WAITING_BYTES_MAX,
    ) -> None:
        """Makes the first file; raises OSError where that is not possible. `name` is for people."""
        self._folder = folder
        self._name = name
        self._file_bytes_max = file_bytes_max
        self._waiting_bytes_max = waiting_bytes_max
        self._encode = msgspec.json.Encoder().encode
        self._waiting: deque[bytes] = deque()
        """Whole lines, but for the first: that may be the rest of a line whose beginning is in the file."""
        self._waiting_bytes = 0
        self._failing = False
        self.failures = 0
        """Writes that the disk refused, or took only in part."""
        self.lost = 0
        """Outcomes that are nowhere: the memory for waiting lines was full, or they could not be encoded."""
        self._handle, self.path = create_locked(folder, name, SUFFIX, os.O_APPEND)
        self._size = 0

    @property
    def waiting(self) -> int:
        """Lines that are only in memory yet."""
        return len(self._waiting)

    def append(self, outcome: Outcome) -> bool:
        """Write one line. True: it is in the file; False: it waits in memory for the next append, or is lost.

        After False, leave the request's slot in the InflightBook open until `waiting` is 0 again; if `lost` has
        grown, for good.
        """
        if self._handle == CLOSED:
            self.lost += 1
            return False
        try:
            line = self._encode(outcome) + b"\n"
            if len(line) > LINE_BYTES_MAX:
                line = self._encode(_shortened(outcome)) + b"\n"
        except (msgspec.MsgspecError, UnicodeError, OverflowError) as error:
            self.lost += 1
            log.error("journal_outcome_lost", id=outcome.id, error=str(error))
            return False
        if self._waiting and not self.flush():
            self._keep(line)
            return False
        try:
            written = os.write(self._handle, line)
        except OSError as error:
            self._keep(line)
            self._on_failure(error.strerror or str(error))
            return False
        self._size += written
        if written != len(line):
            self._keep(line[written:])
            self._on_failure("only a part was written")
            return False
        if self._size >= self._file_bytes_max:
            self._rotate()
        return True

    def flush(self) -> bool:
        """Try to write what waits; whether nothing waits any more."""
        while self._waiting:
            line = self._waiting[0]
            try:
                written = os.write(self._handle, line)
            except OSError as error:
                self._on_failure(error.strerror or str(error))
                return False
            self._size += written
            self._waiting_bytes -= written
            if written == len(line):
                self._waiting.popleft()
            else:
                self._waiting[0] = line[written:]
        if self._failing:
            self._failing = False
            log.info("journal_writes_again", path=str(self.path), lost=self.lost)
        return True

    def close(self) -> None:
        """Write what waits, and let the loader finish the file. What is appended later is lost."""
        if self._handle == CLOSED:
            return
        if not self.flush():
            self.lost += len(self._waiting)
            log.error("journal_closed_with_waiting_lines", path=str(self.path), lost=len(self._waiting))
            self._waiting.clear()
            self._waiting_bytes = 0
        os.close(self._handle)
        self._handle = CLOSED  # the number may be another file's soon

    def _keep(self, line: bytes) -> None:
        if self._waiting and self._waiting_bytes + len(line) > self._waiting_bytes_max:
            self.lost += 1
            return
        self._waiting.append(line)
        self._waiting_bytes += len(line)

    def _on_failure(self, why: str) -> None:
        self.failures += 1
        if not self._failing:  # once for each time that the disk goes away
            self._failing = True
            log.error("journal_write_failed", path=str(self.path), error=why, waiting=len(self._waiting))

    def _rotate(self) -> None:
        try:
            handle, path = create_locked(self._folder, self._name, SUFFIX, os.O_APPEND)
        except OSError as error:  # then this file grows on
            self._size = 0
            log.warning("journal_not_rotated", path=str(self.path), error=error.strerror)
            return
        os.close(self._handle)
        self._handle, self.path, self._size = handle, path, 0


def _shortened(outcome: Outcome) -> Outcome:
    return msgspec.structs.replace(
        outcome,
        request_id=outcome.request_id[:TEXT_CHARS_MAX],
        model=None if outcome.model is None else outcome.model[:TEXT_CHARS_MAX],
    )


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of whole lines of a journal."""

    entries: list[tuple[int, Outcome]]
    """Each with the place of its line's first byte."""
    corrupt: list[tuple[int, bytes]]
    """Lines that are not an outcome, as they stand there."""
    next_offset: int
    """Where to read on."""


_decode = msgspec.json.Decoder(Outcome).decode


def read_piece(path: Path, offset: int, *, finished: bool, bytes_max: int = 1024 * 1024) -> Piece:
    """The lines from `offset` on, about `bytes_max` of them; `next_offset` stays where it was at the end.

    A last line without its end is left for later or, where the writer is gone (`finished`), reported as corrupt.
    """
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(bytes_max)
        while (whole := data.rfind(b"\n") + 1) == 0 and (more := file.read(bytes_max)):
            data += more
        if finished and data and not file.read(1):
            whole = len(data)
    entries: list[tuple[int, Outcome]] = []
    corrupt: list[tuple[int, bytes]] = []
    at = offset
    for line in data[:whole].splitlines(keepends=True):
        try:
            entries.append((at, _decode(line)))
        except (msgspec.MsgspecError, UnicodeError):
            if line.strip(b"\r\n"):
                corrupt.append((at, line))
        at += len(line)
    return Piece(entries, corrupt, at)
