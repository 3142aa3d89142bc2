"""What the disk says: hashes, room, and its errors in words for an operator."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from inferry.core.errors import ModelFetchFailed
from inferry.models.progress import Progress

CHUNK_BYTES = 1024 * 1024
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def size_text(size_bytes: int) -> str:
    """`98.3 MB`: decimal units, as download pages and disk makers count."""
    size = float(size_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def disk_full_text(folder: Path) -> str:
    """What to say when `folder`'s disk has no room left."""
    return (
        f"The disk that holds {folder} is full. Make room ('inferry models list' and 'inferry models rm' show "
        "and delete models), or set INFERRY_HOME to a folder on a larger disk; then pull again."
    )


def require_room(folder: Path, needed_bytes: int) -> None:
    """Raises ModelFetchFailed when `folder`'s disk can't take so much more: better now than at 97 %."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise ModelFetchFailed(
            f"{size_text(needed_bytes)} are to be fetched, but only {size_text(free_bytes)} are free. "
            f"{disk_full_text(folder)}"
        )


@contextmanager
def map_disk_errors(folder: Path) -> Iterator[None]:
    """Turns what the operating system raises about `folder` into ModelFetchFailed with the way out."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ModelFetchFailed(disk_full_text(folder)) from error
        place = error.filename or folder
        if error.errno in _FORBIDDEN:
            raise ModelFetchFailed(
                f"{place} may not be written ({os.strerror(error.errno)}). Correct its permissions, or set "
                "INFERRY_HOME to a folder that you own."
            ) from error
        reason = error.strerror or str(error) or type(error).__name__
        raise ModelFetchFailed(
            f"The disk failed at {place}: {reason}. Correct that and pull again."
        ) from error


def hash_file(path: Path, progress: Progress) -> str:
    """The file's sha256 in hex; reads all of it and advances `progress` by each piece."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while piece := source.read(CHUNK_BYTES):
            digest.update(piece)
            progress.advance(len(piece))
    return digest.hexdigest()


def leads_out(name: str) -> bool:
    """Whether a relative name from outside would leave the folder that it is put into."""
    path = PurePosixPath(name)
    return not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name


def sync_to_disk(path: Path) -> None:
    """Returns when the file's (or folder's) content would survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
