"""The journal beside the output: a line per request that is over, in the order in which they ended.

What is written survives `kill -9`. Not fsync: if the machine loses power, the last seconds' requests are sent again.
A last line that was cut is dropped when the journal is opened again; a damaged one before it costs its own request
only. The lock keeps a second run away from the same output.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from inferry.batch.record import Record, Tally
from inferry.core.errors import ConfigError

SUFFIX = ".journal"
_BEGIN = b'{"run":"'


class Header(msgspec.Struct, frozen=True):
    """The first line: what the run is of. A resumed run must be of the same."""

    run: str
    input_sha256: str
    model: str | None
    currency: str | None
    """Of the records' costs; None: the run began without prices."""
    input_end: int = 0
    """So many bytes of the input have that digest."""


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Record).decode
_decode_header = msgspec.json.Decoder(Header).decode


class JournalInUse(ConfigError):
    """Another run writes the same output, or was killed and has requests under way."""


def new_run_id() -> str:
    """12 hexadecimal digits."""
    return os.urandom(6).hex()


def journal_path(output: Path) -> Path:
    """Where the journal of a run into `output` is."""
    return output.with_name(output.name + SUFFIX)


def begun_header(path: Path) -> Header | None:
    """What a journal with records says of its run; None: there is none."""
    try:
        with path.open("rb") as file:
            first, more = file.readline(), file.read(1)
        return _decode_header(first) if more else None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


class Journal:
    """One open journal. For one thread. Raises OSError where the disk fails."""

    def __init__(self, path: Path, wanted: Header, lines: int) -> None:
        """Open it, or begin a new one as `wanted`. `lines`: of the input.

        Raises JournalInUse if another process has it, ConfigError if it can't be opened or is of another run.
        """
        self.path = path
        self.tally = Tally()
        """Of everything in it."""
        self.damaged: list[int] = []
        """Lines of it, from 1, that are no record: the requests of which they were are sent again."""
        self._is_open = False
        """Read to its end, and ours to delete."""
        self._offsets = array("Q", bytes(8 * (lines + 1)))
        """Of each input line's record; 0, where the header stands, means that there is none yet."""
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise ConfigError(f"{path} can't be written: {error.strerror}.") from error
        try:
            self._lock()
            self.header, self._end = self._read_what_is_there(wanted)
            os.ftruncate(self._handle, self._end)
            if self._end == 0:
                self._write(_encode(self.header) + b"\n")
            self._is_open = True
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
        """Let go of it; one without records, whole or damaged, is deleted."""
        if self._is_open and self.tally.over == 0 and not self.damaged:
            self.path.unlink(missing_ok=True)
        if self._handle >= 0:  # closed twice, the number may be another file's
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = -1
        self._is_open = False

    def discard(self) -> None:
        """Delete it: the output holds all."""
        self.path.unlink(missing_ok=True)
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.path.samestat(os.fstat(self._handle), self.path.stat())
        except (BlockingIOError, FileNotFoundError):
            is_there = False
        if not is_there:  # or its owner deleted it between our opening and our lock
            raise JournalInUse(
                f"{self.path} is in use: another 'inferry batch' writes the same output. Wait for it or end it."
            )

    def _read_what_is_there(self, wanted: Header) -> tuple[Header, int]:
        """The header, and where the last whole line ends; 0: nothing is there that counts."""
        with os.fdopen(os.dup(self._handle), "rb") as file:
            first = file.readline()
            is_whole = first.endswith(b"\n")
            if not is_whole and first[: len(_BEGIN)] == _BEGIN[: len(first)]:
                # New, or killed while the header was written: nothing was sent then.
                return wanted, 0
            try:
                header = _decode_header(first)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ConfigError(
                    f"{self.path} is no journal of a batch. Move it away, or choose another output."
                ) from error
            end = self._read_records(file, len(first))
        if self.tally.over == 0 and not self.damaged:  # nothing to go on with, so nothing that must fit
            return wanted, 0
        self._check_same(header, wanted)
        return header, end

    def _read_records(self, file: Iterable[bytes], end: int) -> int:
        for number, text in enumerate(file, 2):
            if not text.endswith(b"\n"):
                break
            record = _record(text)
            if record is None or not 0 < record.line < len(self._offsets):
                self.damaged.append(number)
            else:
                if not self.has(record.line):
                    self.tally.add(record)
                self._offsets[record.line] = end
            end += len(text)
        return end

    def _check_same(self, began: Header, wanted: Header) -> None:
        why = ""
        if began.input_sha256 != wanted.input_sha256:
            why = "is of another input: the file was changed, or is another one"
        elif began.model != wanted.model:
            models = (f"--model {each}" if each else "no --model" for each in (began.model, wanted.model))
            why = "was begun with {}, this is {}".format(*models)
        elif None not in (began.currency, wanted.currency) and began.currency != wanted.currency:
            why = f"counts in {began.currency}, the prices are in {wanted.currency}"
        if why:
            raise ConfigError(
                f"{self.path} {why}. Go on with what it began with, or delete it to send everything anew."
            )

    def _write(self, text: bytes) -> None:
        left = memoryview(text)
        while left:
            written = os.pwrite(self._handle, left, self._end)
            self._end += written
            left = left[written:]


def _record(text: bytes) -> Record | None:
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
