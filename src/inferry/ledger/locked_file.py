"""Files that only one process writes, and of which everybody can tell whether that process still lives.

The writer holds a flock for as long as it has the file open. The kernel takes it away when the process ends, however
that comes about, so a free lock means: nothing will be added any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

UNBORN = ".new-"
"""Begins the names of files that are not locked yet; nobody may take those for finished ones."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def create_locked(folder: Path, name: str, suffix: str, flags: int = 0) -> tuple[int, Path]:
    """A new file `NAME.32HEX.SUFFIX`, open (with these `os.O_*` flags too) and locked; for the caller to close.

    Born under another name and renamed once the lock is held: whoever sees the file sees the lock. Raises OSError.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"'{name}' can't be part of a file's name: use letters, digits, _ and - (64 at most)"
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        path = folder / f"{name}.{secrets.token_hex(16)}.{suffix}"
        unborn = folder / f"{UNBORN}{path.name}"
        handle = os.open(unborn, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | flags, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unborn.rename(path)
        except (BlockingIOError, FileNotFoundError):  # swept away by `sweep_unborn`, just then
            os.close(handle)
        except BaseException:
            os.close(handle)
            raise
        else:
            return handle, path


@contextlib.contextmanager
def hold_if_free(path: Path) -> Iterator[bool]:
    """Whether nobody writes this file any more; it is held inside the block, so that two don't finish it at once.

    False as well if there is no such file.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def sweep_unborn(folder: Path) -> None:
    """Delete files whose maker died between creating and locking them; nothing was ever written there."""
    for path in folder.glob(f"{UNBORN}*"):
        with hold_if_free(path) as free:
            if free:
                path.unlink(missing_ok=True)


def file_id(path: Path) -> str:
    """The 32 hex digits in the name: unique over all hosts."""
    return path.name.split(".")[-2]
