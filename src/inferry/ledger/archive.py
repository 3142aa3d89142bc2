"""One backup as one file: a compressed tar whose first member, the manifest, says what must follow, byte by byte.

Whatever is read is checked while it is read: names that a backup can't have, files too many, too few, too long or with
another checksum end the reading, and nothing is ever written outside of the folder that the reader names. Checksums
tell damage, not forgery: who can write the archive can write its manifest too.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, cast

import msgspec

from inferry.core.clock import utc_text
from inferry.core.errors import ConfigError

MANIFEST = "manifest.json"
DEPLOYMENT_FILE = "inferry.yaml"
STORE = "ledger/ledger.sqlite"
DUMP = "ledger/ledger.pgdump"
JOURNALS = "ledger/journal"
FORMAT = 1
SUFFIXES = (".tar.gz", ".tar.zst")
_MANIFEST_BYTES_MAX = 16 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024
_GZIP_LEVEL = 6
_JOURNAL_NAME = re.compile(r"id|[A-Za-z0-9_-]{1,64}\.[0-9a-f]{32}(\.[0-9]{1,20})?\.(journal|inflight|bad)")
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class Entry(msgspec.Struct, frozen=True):
    """One file of a backup."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds. The names are the format: add fields, never rename them."""

    format: int = FORMAT
    inferry: str
    """The version that made it."""
    made_wall_s: float
    store: Literal["sqlite", "postgresql"]
    schema: str
    """The store's migration step."""
    ledger_url: str | None
    """As the deployment file has it, without user and password; None: the store in INFERRY_HOME."""
    under_way: int
    """Gateway processes that ran: their requests under way had no outcome yet, so they are not in it."""
    files: Mapping[str, Entry]

    @property
    def made(self) -> str:
        """When, for people."""
        return utc_text(self.made_wall_s)

    @property
    def bytes(self) -> int:
        """Of all files, unpacked."""
        return sum(each.bytes for each in self.files.values())


def entries_of(folder: Path) -> dict[str, Entry]:
    """Every file below `folder` with its size and checksum, in the order of their names."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        found[path.relative_to(folder).as_posix()] = Entry(path.stat().st_size, digest.hexdigest())
    return found


def check_archive_name(path: Path) -> None:
    """Raises ConfigError for an ending that says no way to compress, or one that this machine can't."""
    if not path.name.endswith(SUFFIXES):
        raise ConfigError(f"{path}: the name of a backup ends in {' or '.join(SUFFIXES)}")
    if path.name.endswith(".tar.zst"):
        _zstd(path)


def write_archive(path: Path, manifest: Manifest, folder: Path) -> None:
    """The files of `manifest`, which lie in `folder`, as `path`: whole, synced to the disk, and for its owner's eyes.

    Raises ConfigError if `path` exists or can't be written.
    """
    check_archive_name(path)
    if path.exists():
        raise ConfigError(f"{path} exists already: name another file, or delete it")
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as raw:
            with _packing(path, raw) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
                text = msgspec.json.format(msgspec.json.encode(manifest))
                tar.addfile(_member(MANIFEST, len(text), manifest), io.BytesIO(text))
                for name, entry in manifest.files.items():
                    with (folder / name).open("rb") as file:
                        tar.addfile(_member(name, entry.bytes, manifest), file)
            raw.flush()
            os.fsync(raw.fileno())
        os.link(partial, path)  # unlike a rename, it never replaces what came there meanwhile
    except OSError as error:
        raise ConfigError(f"The backup {path} can't be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def read_archive(path: Path, into: Path | None = None) -> Manifest:
    """Check all of a backup and, if told where to, unpack it into that folder; its manifest.

    Raises ConfigError that says what is wrong; what was unpacked until then is for the caller to delete.
    """
    try:
        with path.open("rb", buffering=0) as raw, _unpacked(path, raw) as stream:
            return _read(path, stream, into)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist. Backups are made with 'inferry backup'.") from None
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ConfigError(f"{path} is damaged, or no backup of Inferry: {error}. Use another one.") from error
    except OSError as error:
        raise ConfigError(f"{error.filename or path}: {error.strerror or error}") from error


def _read(path: Path, stream: IO[bytes], into: Path | None) -> Manifest:
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        manifest = _manifest(path, tar)
        if into is not None:
            _check_room(path, manifest, into)
        awaited = dict(manifest.files)
        while (member := tar.next()) is not None:
            entry = awaited.pop(member.name, None)
            if entry is None or not member.isreg():
                raise ConfigError(
                    f"{path}: '{member.name}' is not in its manifest, or no file. Don't use it."
                )
            content = tar.extractfile(member)
            assert content is not None  # of a regular file there is one
            _check_file(path, member.name, entry, content, into)
    if awaited:
        raise ConfigError(f"{path} is damaged: {', '.join(sorted(awaited))} missing. Use another backup.")
    return manifest


def _manifest(path: Path, tar: tarfile.TarFile) -> Manifest:
    member = tar.next()
    content = None if member is None or not member.isreg() else tar.extractfile(member)
    if member is None or content is None or member.name != MANIFEST or member.size > _MANIFEST_BYTES_MAX:
        raise ConfigError(f"{path} is no backup of Inferry: it does not begin with {MANIFEST}")
    try:
        manifest = msgspec.json.decode(content.read(_MANIFEST_BYTES_MAX), type=Manifest)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path} is damaged, or of another Inferry: {MANIFEST}: {error}") from error
    if manifest.format != FORMAT:
        raise ConfigError(
            f"{path} is a backup of format {manifest.format}; this version reads {FORMAT}: install Inferry "
            f"{manifest.inferry} or a later one"
        )
    for name in manifest.files:
        folder, _, journal = name.rpartition("/")
        if name not in (DEPLOYMENT_FILE, STORE, DUMP) and not (
            folder == JOURNALS and _JOURNAL_NAME.fullmatch(journal)
        ):
            raise ConfigError(f"{path}: '{name}' has no place in a backup. Don't use it.")
    return manifest


def _check_room(path: Path, manifest: Manifest, into: Path) -> None:
    free_bytes = shutil.disk_usage(into).free
    if manifest.bytes > free_bytes:
        raise ConfigError(f"{path} needs {manifest.bytes:,} bytes; {into} has {free_bytes:,} left")


def _check_file(path: Path, name: str, entry: Entry, content: IO[bytes], into: Path | None) -> None:
    """Read at most what the manifest allows, and compare; the bytes go `into` the folder, if there is one."""
    target = Path(os.devnull) if into is None else into / name
    if into is not None:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), entry.bytes
    handle = os.open(
        target, os.O_WRONLY | os.O_CLOEXEC | (0 if into is None else os.O_CREAT | os.O_EXCL), 0o600
    )
    with os.fdopen(handle, "wb") as file:
        while left >= 0 and (chunk := content.read(_CHUNK_BYTES)):
            left -= len(chunk)
            digest.update(chunk)
            if chunk.count(0) == len(chunk):
                file.seek(len(chunk), os.SEEK_CUR)  # books of requests under way are mostly holes
            else:
                file.write(chunk)
        if into is not None:
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
    if left != 0 or digest.hexdigest() != entry.sha256:
        raise ConfigError(f"{path} is damaged: {name} is not what it was. Use another backup.")


def _member(name: str, size: int, manifest: Manifest) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, int(manifest.made_wall_s)
    return member


@contextmanager
def _packing(path: Path, raw: IO[bytes]) -> Iterator[IO[bytes]]:
    if path.name.endswith(".tar.gz"):
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=_GZIP_LEVEL, mtime=0) as packed:
            yield cast(IO[bytes], packed)
        return
    process = subprocess.Popen(
        [_zstd(path), "-q", "-c"], stdin=subprocess.PIPE, stdout=raw, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        yield process.stdin
        process.stdin.close()
        said = process.stderr.read().decode(errors="replace").strip()
        if process.wait() != 0:
            raise OSError(None, f"zstd: {said}")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@contextmanager
def _unpacked(path: Path, raw: IO[bytes]) -> Iterator[IO[bytes]]:
    """By what the file is, not by its name."""
    magic = raw.read(4)
    raw.seek(0)
    if magic != _ZSTD_MAGIC:
        with gzip.GzipFile(fileobj=raw, mode="rb") as stream:
            yield cast(IO[bytes], stream)
        return
    process = subprocess.Popen(
        [_zstd(path), "-q", "-d", "-c"], stdin=raw, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        yield process.stdout
        if process.stdout.read(1) == b"" and process.wait() != 0:
            raise EOFError("zstd can't unpack it")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _zstd(path: Path) -> str:
    program = shutil.which("zstd")
    if program is None:
        raise ConfigError(f"{path} needs the program zstd: install it, or write a .tar.gz")
    return program
