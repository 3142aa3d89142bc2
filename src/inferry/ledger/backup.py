"""Keys and ledger copied while Inferry runs, so that store and journals in the copy fit together to the byte.

    1  keep the loader out       from here on, nothing moves from journals into the store
    2  copy books of dead gateways, then the journals, up to their last whole line
    3  fix a snapshot of the store, let the loader go on
    4  write the snapshot out, however long that takes

An outcome that a client could know of before 1 is in a journal's copy, or in the snapshot, or in both with the offset
that says so. In any other order it could be in neither: loaded after the store was copied, and its journal deleted
before that was.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from inferry.core.errors import ConfigError, LedgerUnavailable
from inferry.core.shown_url import shown_url
from inferry.ledger import inflight_book, journal
from inferry.ledger.archive import DUMP, JOURNALS, STORE
from inferry.ledger.database import BUSY_TIMEOUT_S, CONNECT_TIMEOUT_S, open_database
from inferry.ledger.locked_file import UNBORN, hold_if_free

LOADER_WAIT_MAX_S = 60.0
_POLL_S = 0.02
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class CopiedLedger:
    """What was copied."""

    kind: Literal["sqlite", "postgresql"]
    schema: str
    """The store's migration step."""
    living: int
    """Gateway processes that ran meanwhile."""


def copy_ledger(url: str, journals: Path, into: Path) -> CopiedLedger:
    """The store at `url` and the folder `journals`, copied below `into`, in an archive's layout.

    Raises ConfigError where there is no such store or a program is missing, and LedgerUnavailable.
    """
    snapshot = _sqlite_snapshot if url.startswith("sqlite:") else _postgresql_snapshot
    with ExitStack() as fixed:
        with _loader_kept_out(journals):
            living = _copy_journals(journals, into / JOURNALS)
            kind, schema, write = fixed.enter_context(snapshot(url))
        (into / STORE).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(into)
    return CopiedLedger(kind, schema, living)


@contextmanager
def _loader_kept_out(journals: Path) -> Iterator[None]:
    """An Inferry that runs finds the folder busy meanwhile, and comes again half a second later."""
    if not journals.is_dir():
        yield
        return
    lock = journals / "loader.lock"
    lock.touch(mode=0o600)
    pause = threading.Event()
    for _ in range(int(LOADER_WAIT_MAX_S / _POLL_S)):
        with hold_if_free(lock) as alone:
            if alone:
                yield
                return
        pause.wait(_POLL_S)
    raise LedgerUnavailable(f"The journals in {journals} are being loaded all the time: try again later.")


def _copy_journals(journals: Path, into: Path) -> int:
    """How many gateway processes live. Books first, as the loader looks at them: lines win over what is recovered."""
    into.mkdir(mode=0o700, parents=True)
    if not journals.is_dir():
        return 0
    living = 0
    for suffix in (inflight_book.SUFFIX, journal.SUFFIX, "bad"):
        for path in sorted(journals.glob(f"*.*.{suffix}")):
            if path.name.startswith(UNBORN):
                continue
            with hold_if_free(path) as dead:
                if dead or suffix == "bad":
                    shutil.copyfile(path, into / path.name)
                elif suffix == journal.SUFFIX:
                    _copy_whole_lines(path, into / path.name)
                else:
                    living += 1  # its requests under way have no outcome yet
    if (journals / "id").exists():
        shutil.copyfile(journals / "id", into / "id")
    return living


def _copy_whole_lines(path: Path, to: Path) -> None:
    """Of a journal that grows: what is written now, without a line whose end is not there yet."""
    copied = whole = 0
    with path.open("rb") as source, to.open("wb") as target:
        left = os.fstat(source.fileno()).st_size
        while left > 0 and (chunk := source.read(min(left, _CHUNK_BYTES))):
            target.write(chunk)
            if (at := chunk.rfind(b"\n")) >= 0:
                whole = copied + at + 1
            copied += len(chunk)
            left -= len(chunk)
        target.truncate(whole)


_Snapshot = tuple[Literal["sqlite", "postgresql"], str, Callable[[Path], None]]


@contextmanager
def _sqlite_snapshot(url: str) -> Iterator[_Snapshot]:
    """A read transaction: in WAL mode others write on, and the copy shows the moment at which it began."""
    database = open_database(url)
    file = Path(database.shown)
    database.close()
    if not file.exists():
        raise ConfigError(
            f"There is no store at {file}, so there is nothing to back up: is INFERRY_HOME the one of 'inferry up', "
            "and did that ever run?"
        )
    try:
        source = sqlite3.connect(
            f"file:{quote(str(file))}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
        )
        try:
            source.execute("BEGIN")
            [schema] = source.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
            yield "sqlite", str(schema), lambda into: _write_sqlite(source, into / STORE)
        finally:
            source.close()
    except sqlite3.Error as error:
        raise LedgerUnavailable(f"The store {file} can't be copied: {error}.") from error


def _write_sqlite(source: sqlite3.Connection, to: Path) -> None:
    os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    target = sqlite3.connect(to, isolation_level=None)
    try:
        source.backup(target)  # all pages at once: of the snapshot that this connection has
        target.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it
    finally:
        target.close()


@contextmanager
def _postgresql_snapshot(url: str) -> Iterator[_Snapshot]:
    """An exported snapshot, which pg_dump then reads: what is stored afterwards is not in it."""
    parsed = make_url(url)
    if (password := parsed.query.get("password")) is not None:
        parsed = parsed.difference_update_query(["password"]).set(password=str(password))
    shown = shown_url(parsed.render_as_string(hide_password=True))
    program = shutil.which("pg_dump")
    if program is None:
        raise ConfigError(
            f"The store {shown} is copied by pg_dump, which is not on this machine. Install PostgreSQL's client "
            "(postgresql-client), or copy the store where it runs:\n"
            f"  pg_dump --format=custom --file=ledger.pgdump {parsed.database or 'DATABASE'}"
        )
    engine = create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        connect_args={} if "connect_timeout" in parsed.query else {"connect_timeout": CONNECT_TIMEOUT_S},
        isolation_level="REPEATABLE READ",
        hide_parameters=True,
    )
    try:
        with engine.connect() as connection:
            snapshot = connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
            schema = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            plain = parsed.set(drivername="postgresql", password=None)
            command = [
                program,
                "--format=custom",
                "--no-owner",
                "--no-privileges",
                f"--snapshot={snapshot}",
                f"--dbname={plain.render_as_string(hide_password=False)}",
            ]
            secret = {"PGPASSWORD": str(parsed.password)} if parsed.password else {}
            yield (
                "postgresql",
                str(schema or ""),
                lambda into: _write_dump([*command, f"--file={into / DUMP}"], secret, shown),
            )
    except SQLAlchemyError as error:
        raise LedgerUnavailable(
            f"The store {shown} can't be copied: {str(error).splitlines()[0]}."
        ) from error
    finally:
        engine.dispose()


def _write_dump(command: list[str], secret: dict[str, str], shown: str) -> None:
    done = subprocess.run(command, env={**os.environ, **secret}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ConfigError(f"The store {shown} can't be copied by pg_dump: {done.stderr.strip()}")
