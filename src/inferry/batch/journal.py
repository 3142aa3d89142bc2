"""The journal beside the output: a line per request that is over, in the order in which they ended.

What is written survives `kill -9`. Not fsync: if the machine loses power, the last seconds' requests are sent again.
A line that was cut in its middle, and whatever stands behind it, is dropped when the journal is opened again. The
lock keeps a second run away from the same output.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import msgspec

from inferry.batch.record import Record, Tally
from inferry.core.errors import ConfigError

SUFFIX = ".journal"
_RUN_ID_BYTES = 6


class Header(msgspec.Struct, frozen=True):
    """The first line: what the run is of. A resumed run must be of the same."""

    run: str
    input_sha256: str
    model: str | None


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Record).decode
_decode_header = msgspec.json.Decoder(Header).decode


def journal_path(output: Path) -> Path:
    """Where the journal of a run into `output` is."""
    return output.with_name(output.name + SUFFIX)


class Journal:
    """One open journal. For one thread. Raises OSError where the disk fails."""

    def __init__(self, path: Path, *, input_sha256: str, model: str | None, lines: int) -> None:
        """Open it, or begin a new one. `lines`: of the input.

        Raises ConfigError if it can't be opened, another process has it, or it is of another input or model.
        """
        self.path = path
        self.tally = Tally()
        """Of everything in it."""
        self._offsets = array("Q", bytes(8 * (lines + 1)))
        """Of each input line's record; 0, where the header stands, means that there is none yet."""
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise ConfigError(f"{path} can't be written: {error.strerror}.") from error
        try:
            self._lock()
            self.run, self._end = self._read_what_is_there(input_sha256, model)
            os.ftruncate(self._handle, self._end)
            if self._end == 0:
                self._write(_encode(Header(self.run, input_sha256, model)) + b"\n")
        except BaseException:
            self.close()
            raise

    def has(self, line: int) -> bool:
        """Whether the request in that line of the input is over."""
        return self._offsets[line] != 0

    def append(self, record: Record) -> None:
        """Keep a record: when this returns, its request is never sent again."""
        at = self._end
        self._write(_encode(record) + b"\n")
        self._offsets[record.line] = at
        self.tally.add(record)

    def in_input_order(self) -> Iterator[Record]:
        """All records, read from the file one by one."""
        with os.fdopen(os.dup(self._handle), "rb") as file:
            for offset in self._offsets:
                if offset:
                    file.seek(offset)
                    yield _decode(file.readline())

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._handle)

    def discard(self) -> None:
        """Delete it: the output holds all."""
        self.path.unlink(missing_ok=True)
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{self.path} is in use: another 'inferry batch' writes the same output. Wait for it or end it."
            ) from error

    def _read_what_is_there(self, input_sha256: str, model: str | None) -> tuple[str, int]:
        """The run's id, and where the last whole line ends."""
        with os.fdopen(os.dup(self._handle), "rb") as file:
            first = file.readline()
            if not first.endswith(
                b"\n"
            ):  # new, or killed while the header was written: nothing was sent then
                return os.urandom(_RUN_ID_BYTES).hex(), 0
            try:
                header = _decode_header(first)
            except msgspec.MsgspecError as error:
                raise ConfigError(
                    f"{self.path} is no journal of a batch. Move it away, or choose another output."
                ) from error
            self._check_same(header, input_sha256, model)
            end = len(first)
            for text in file:
                try:
                    record = _decode(text)
                except msgspec.MsgspecError:
                    break
                if not text.endswith(b"\n") or not 0 < record.line < len(self._offsets):
                    break
                if not self._offsets[record.line]:
                    self.tally.add(record)
                self._offsets[record.line] = end
                end += len(text)
            return header.run, end

    def _check_same(self, header: Header, input_sha256: str, model: str | None) -> None:
        way_out = f"Go on with what it began with, or delete {self.path} to begin anew."
        if header.input_sha256 != input_sha256:
            raise ConfigError(
                f"{self.path} is of another input: the file was changed, or is another one. {way_out}"
            )
        if header.model != model:
            began, now = (f"--model {each}" if each else "no --model" for each in (header.model, model))
            raise ConfigError(f"{self.path} was begun with {began}, this is {now}. {way_out}")

    def _write(self, text: bytes) -> None:
        left = memoryview(text)
        while left:
            written = os.pwrite(self._handle, left, self._end)
            self._end += written
            left = left[written:]
