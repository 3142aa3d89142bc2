"""From the journals of this host into the store: every outcome once, whoever dies when.

    a journal      lines from the stored offset on, with the new offset, in one transaction per piece
    its writer is  gone (the lock is free): the rest, then delete the file, then forget its offset
    a book         whose writer is gone, once all journals are in the store: what was under way, then delete it

A book's lock is looked at before the journals: if it is free, nothing more comes from that process, so the journals
that are read afterwards hold all that it ever wrote. Lines therefore win over what is recovered, by their id.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from inferry.core.errors import ConfigError, LedgerUnavailable
from inferry.ledger import inflight_book, journal
from inferry.ledger.database import Database
from inferry.ledger.journal import Piece, read_piece
from inferry.ledger.locked_file import UNBORN, file_id, hold_if_free, sweep_unborn
from inferry.ledger.outcome_store import OffsetMoved, OutcomeStore

PIECE_BYTES_MAX = 256 * 1024
"""About 500 outcomes in one transaction."""


@dataclass(slots=True)
class LoadReport:
    """What one `load_once` did."""

    busy: bool = False
    """Another process loads this folder now: nothing was done."""
    loaded: int = 0
    """Outcomes that are new in the store, without recovered ones."""
    known: int = 0
    """Outcomes that were there already."""
    recovered: int = 0
    """Requests that a dead gateway process had under way."""
    corrupt: int = 0
    """Lines or slots that can't be read; lines are kept in a .bad file."""
    finished: int = 0
    """Files that were wholly loaded and deleted."""
    failed: int = 0
    """Files that could not be read or deleted; they are tried again."""
    problems: list[str] = field(default_factory=list)
    """For the log or a person: what is corrupt, and why files failed."""


class Loader:
    """Loads one folder. For one thread at a time; other processes that load the same folder are kept out."""

    def __init__(self, database: Database, folder: Path, *, piece_bytes_max: int = PIECE_BYTES_MAX) -> None:
        """The folder is made where it is missing.

        Raises OSError, and ConfigError if it holds another store's journals.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _claim(folder, database.shown)
        self._folder = folder
        self._piece_bytes_max = piece_bytes_max
        self.source = folder_id(folder)
        self._store = OutcomeStore(database, self.source)
        self._offsets: dict[str, int] = {}
        """As the store has them: a journal that has not grown since needs no question to the store."""
        self._swept = False

    def load_once(self) -> LoadReport:
        """Load what there is. Raises LedgerError or ConfigError if store or folder can't be used: call it again later."""
        report = LoadReport()
        try:
            self._load(report)
        except OSError as error:
            raise LedgerUnavailable(
                f"{error.filename or self._folder} can't be used: {error.strerror or error}."
            ) from error
        return report

    def _load(self, report: LoadReport) -> None:
        with _only_loader(self._folder) as alone:
            if not alone:
                report.busy = True
                return
            sweep_unborn(self._folder)
            dead_books = [path for path in _files(self._folder, inflight_book.SUFFIX) if _is_finished(path)]
            for path in _files(self._folder, journal.SUFFIX):
                self._try_file(self._load_journal, path, report)
            if not report.failed:
                for path in dead_books:
                    self._try_file(self._load_book, path, report)
            if not self._swept:
                self._forget_deleted()
                self._swept = True

    def _try_file(self, load: Callable[[Path, LoadReport], None], path: Path, report: LoadReport) -> None:
        try:
            load(path, report)
        except OSError as error:
            report.failed += 1
            report.problems.append(f"{path} can't be loaded: {error.strerror or error}")
        except OffsetMoved:
            report.failed += 1
            self._offsets.pop(file_id(path), None)
            report.problems.append(f"{path}: the store is not where we thought; it is read anew")

    def _load_journal(self, path: Path, report: LoadReport) -> None:
        id = file_id(path)
        with hold_if_free(path) as finished:
            offset = self._offsets.get(id, -1)
            if offset != path.stat().st_size:
                offset = self._store.offset(id) if offset < 0 else offset
                while (piece := self._read(path, offset, finished)).next_offset > offset:
                    self._keep_corrupt(path, offset, piece, report)
                    new = self._store.store(
                        id, offset, piece.next_offset, (outcome for _, outcome in piece.entries)
                    )
                    report.loaded += new
                    report.known += len(piece.entries) - new
                    self._offsets[id] = offset = piece.next_offset
            if finished:
                self._delete(path, report)

    def _load_book(self, path: Path, report: LoadReport) -> None:
        id = file_id(path)
        if self._store.offset(id) == 0:
            found = inflight_book.recover(path)
            report.recovered += self._store.store(id, 0, 1, found.outcomes)
            report.corrupt += found.unreadable
            if found.unreadable:
                report.problems.append(f"{path}: {found.unreadable} request(s) under way can't be read")
        self._delete(path, report)

    def _read(self, path: Path, offset: int, finished: bool) -> Piece:
        return read_piece(path, offset, finished=finished, bytes_max=self._piece_bytes_max)

    def _keep_corrupt(self, path: Path, offset: int, piece: Piece, report: LoadReport) -> None:
        """Before the offset moves past them. Read again after a crash, they go to the same file."""
        if piece.corrupt:
            bad = path.with_suffix(f".{offset}.bad")
            bad.write_bytes(b"\n".join(line.rstrip(b"\n") for _, line in piece.corrupt) + b"\n")
            report.corrupt += len(piece.corrupt)
            report.problems.append(f"{path}: {len(piece.corrupt)} corrupt line(s), kept in {bad}")

    def _delete(self, path: Path, report: LoadReport) -> None:
        path.unlink()
        self._store.forget(file_id(path))
        self._offsets.pop(file_id(path), None)
        report.finished += 1

    def _forget_deleted(self) -> None:
        """Offsets of files that an earlier loader deleted, and then died."""
        here = {file_id(path) for path in _files(self._folder, journal.SUFFIX, inflight_book.SUFFIX)}
        for id in self._store.known_files() - here:
            self._store.forget(id)


def _files(folder: Path, *suffixes: str) -> list[Path]:
    return sorted(
        path
        for suffix in suffixes
        for path in folder.glob(f"*.*.{suffix}")
        if not path.name.startswith(UNBORN)
    )


def folder_id(folder: Path) -> str:
    """32 hex digits that name this folder and no other, on any host; made once. Raises OSError."""
    path = folder / "id"
    while True:
        with contextlib.suppress(FileNotFoundError):
            return path.read_text(encoding="ascii").strip()
        temporary = folder / f".id.{secrets.token_hex(8)}"
        temporary.write_text(f"{secrets.token_hex(16)}\n", encoding="ascii")
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(temporary, path)
        temporary.unlink()


def _claim(folder: Path, shown_store: str) -> None:
    """Two instances with different stores must not load each other's journals."""
    path = folder / "store"
    former = path.read_text(encoding="utf-8") if path.exists() else shown_store
    if former != shown_store and _files(folder, journal.SUFFIX, inflight_book.SUFFIX):
        raise ConfigError(
            f"{folder} holds journals for the store {former}, not {shown_store}. If an Inferry with that store runs "
            "here, give this one another INFERRY_HOME. Otherwise load them with 'inferry ledger load --file' and the "
            f"file that names that store; or delete {path}, and they are loaded into this one."
        )
    if former != shown_store or not path.exists():
        temporary = folder / f".store.{secrets.token_hex(8)}"
        temporary.write_text(shown_store, encoding="utf-8")
        temporary.replace(path)


def _is_finished(path: Path) -> bool:
    with hold_if_free(path) as free:
        return free


@contextlib.contextmanager
def _only_loader(folder: Path) -> Iterator[bool]:
    """Whether no other process loads; kept so inside the block."""
    lock = folder / "loader.lock"
    lock.touch(mode=0o600)
    with hold_if_free(lock) as alone:
        yield alone
