"""`INFERRY_HOME/learned/launches.jsonl`: each launch, predicted and measured, one JSON object a line.

A line is one write to a file opened for appending, so that several instances may write at once and a kill leaves at
most one cut line, at the end, which reading passes over. When the file is full, its newer half is kept.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from inferry.core.errors import ConfigError
from inferry.planner.learning import Launch

FOLDER, NAME = "learned", "launches.jsonl"
BYTES_MAX = 1024 * 1024
"""Some 2,000 launches."""
LOCK_TRIES, LOCK_PAUSE_S = 40, 0.05
"""Others hold the lock for some ms; one that hangs must not take this one with it."""


def append_launch(home: Path, launch: Launch, bytes_max: int = BYTES_MAX) -> None:
    """Raises OSError. May block for a few ms; up to 2 s where another process holds the lock, then BlockingIOError."""
    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock"):
        path = folder / NAME
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            # Behind a line that a kill has cut, a new one begins.
            cut = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            os.write(fd, (b"\n" if cut else b"") + msgspec.json.encode(launch) + b"\n")
            is_full = os.fstat(fd).st_size > bytes_max
        finally:
            os.close(fd)
        if is_full:
            _keep_newer_half(path)


def read_launches(home: Path) -> list[Launch]:
    """All of them, oldest first; damaged lines are passed over. Raises ConfigError where the file can't be read."""
    path = home / FOLDER / NAME
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from error
    decoder = msgspec.json.Decoder(Launch)
    launches = []
    for line in lines:
        try:
            launches.append(decoder.decode(line))
        except msgspec.MsgspecError:
            continue
    return launches


def forget_launches(home: Path) -> int:
    """How many there were. Raises ConfigError where they can't be removed."""
    path = home / FOLDER / NAME
    if not path.parent.exists():
        return 0
    try:
        with _locked(path.parent / "lock"):
            count = len(read_launches(home))
            path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: can't be removed: {error.strerror or error}") from error
    return count


def _keep_newer_half(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)  # left by one that was killed here
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(b"".join(lines[len(lines) // 2 :]))
    beside.replace(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Held by one process at a time; the kernel lets go of it when its holder dies. Raises BlockingIOError."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as handle:
        for tries_left in reversed(range(LOCK_TRIES)):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not tries_left:
                    raise
                threading.Event().wait(LOCK_PAUSE_S)
        yield
