"""The store: SQLite in a file, or PostgreSQL. For threads and command lines; never for the event loop's thread."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DisconnectionError, NoSuchModuleError

from inferry.core.errors import ConfigError, LedgerUnavailable
from inferry.core.shown_url import shown_url
from inferry.ledger.store_errors import map_store_errors

BUSY_TIMEOUT_S = 10.0
"""How long a statement waits for another writer. Ours take milliseconds; a backup may take seconds."""
MIGRATE_WAIT_MAX_S = 60.0
CONNECT_TIMEOUT_S = 5
LOCK_POLL_S = 0.05
ADVISORY_LOCK = 0x696E6665727279  # "inferry": any number that nobody else takes
_SQLITE = "sqlite:///"
_BEGIN = "inferry_begin"
"""An option of our connections to SQLite: how a transaction begins there; None: there is none."""

Kind = Literal["sqlite", "postgresql"]


def default_url(home: Path) -> str:
    """The store of an INFERRY_HOME: `sqlite:///HOME/ledger/ledger.sqlite`."""
    return _SQLITE + quote(str(home / "ledger" / "ledger.sqlite"))


def open_database(url: str) -> Database:
    """The store at `sqlite:///PATH` or `postgresql://USER@HOST/DB`; connects with the first statement only.

    Call `migrate` before anything else. Raises ConfigError for a URL or a driver that can't work.
    """
    if url.startswith("sqlite:"):
        return _open_sqlite(url)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigError(f"ledger.url: '{shown_url(url)}' is not a URL.") from error
    if parsed.get_backend_name() == "postgresql":
        return _open_postgresql(parsed)
    raise ConfigError(
        f"ledger.url: '{shown_url(url)}' is neither sqlite:///PATH nor postgresql://USER@HOST/DB."
    )


class Database:
    """One store. Safe to use from several threads; each `read` or `write` is one transaction.

    Errors inside `read`, `write` and `migrate` come out as ConfigError (the operator must act), LedgerUnavailable
    (it may pass) or LedgerError; only sqlalchemy.exc.IntegrityError passes unchanged.
    """

    def __init__(self, engine: Engine, kind: Kind, shown: str, file: Path | None) -> None:
        self._engine = engine
        self.kind: Kind = kind
        self.shown = shown
        """For messages: without user, password and query."""
        self._file = file

    def __repr__(self) -> str:
        return f"Database({self.shown!r})"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction to look. On SQLite it sees one state of the store; on PostgreSQL each statement does."""
        with map_store_errors(self.shown), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end, or takes everything back on an error.

        On SQLite it is the only writer from its beginning: a transaction that reads first and then wants to write
        would fail at once if another one wrote in between.
        """
        with (
            map_store_errors(self.shown),
            self._engine.connect().execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}) as connection,
            connection.begin(),
        ):
            yield connection

    def migrate(self) -> None:
        """Bring the tables to this program's version. Several processes may do so at once; one does it."""
        # Alembic is slow to import, and only this needs it.
        from inferry.ledger.migrate import migrate_to_head

        if self._file is not None:
            _make_private(self._file)
        with map_store_errors(self.shown), self._migration_lock():
            if self.kind == "sqlite":
                # Stays in the file. Here, because two connections that switch at once fail without waiting.
                with self._engine.connect().execution_options(**{_BEGIN: None}) as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            with self.write() as connection:
                if self.kind == "postgresql":
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{MIGRATE_WAIT_MAX_S:.0f}s'")
                    connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": ADVISORY_LOCK})
                migrate_to_head(connection, self.shown)

    def close(self) -> None:
        """Close all connections. The Database can be used again."""
        self._engine.dispose()

    def _migration_lock(self) -> AbstractContextManager[None]:
        return nullcontext() if self._file is None else _file_lock(self._file, self.shown)


def _open_sqlite(url: str) -> Database:
    path = url.removeprefix(_SQLITE)
    if path in (url, "", ":memory:") or "?" in path:
        raise ConfigError(
            "ledger.url: SQLite needs a file, and nothing behind it: sqlite:///PATH (four slashes for a path "
            "from the root)."
        )
    file = Path(unquote(path)).expanduser().absolute()
    engine = create_engine(
        # mode=rw: a file that vanished is an error, not a reason to make an empty one that others can read.
        URL.create(
            "sqlite+pysqlite", database=f"file:{quote(str(file))}", query={"mode": "rw", "uri": "true"}
        ),
        connect_args={"timeout": BUSY_TIMEOUT_S},
        hide_parameters=True,
    )

    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves; the driver's own way would not cover DDL
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        record.info["file"] = _identity(file)

    def check(_connection: object, record: Any, _proxy: object) -> None:
        # A restored backup is another file: who kept the old one open would not see a key revoked in the new one.
        if record.info["file"] != _identity(file):
            raise DisconnectionError

    event.listen(engine, "connect", prepare)
    event.listen(engine, "checkout", check)
    event.listen(engine, "begin", _begin_sqlite)
    return Database(engine, "sqlite", str(file), file)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _begin_sqlite(connection: Connection) -> None:
    begin = connection.get_execution_options().get(_BEGIN, "BEGIN")
    if begin is not None:
        connection.exec_driver_sql(begin)


def _open_postgresql(url: URL) -> Database:
    if (password := url.query.get("password")) is not None:
        # The driver takes it there too, but SQLAlchemy hides only the one that stands before the host.
        url = url.difference_update_query(["password"]).set(password=str(password))
    shown = shown_url(url.render_as_string(hide_password=True))
    wanted = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": "inferry",
        # A server that vanished without a word is noticed after 10 s, not after the system's two hours.
        "keepalives_idle": 10,
        "tcp_user_timeout": 10_000,
    }
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            connect_args={name: value for name, value in wanted.items() if name not in url.query},
            pool_pre_ping=True,
            hide_parameters=True,
        )
    except (ModuleNotFoundError, ImportError, NoSuchModuleError) as error:
        raise ConfigError(
            f"The store {shown} needs PostgreSQL's driver: pip install 'inferry[postgres]'"
        ) from error
    event.listen(engine, "connect", _prepare_postgresql)
    return Database(engine, "postgresql", shown, None)


def _prepare_postgresql(connection: Any, _record: object) -> None:
    connection.execute(f"SET lock_timeout = '{BUSY_TIMEOUT_S:.0f}s'")
    connection.commit()


def _make_private(file: Path) -> None:
    """Create file and folder so that only their owner can read them. Existing ones keep the mode they were given."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))  # its WAL gets the same mode from SQLite
    except OSError as error:
        raise ConfigError(f"The store {file} can't be opened: {error.strerror}.") from error


@contextmanager
def _file_lock(file: Path, shown: str) -> Iterator[None]:
    """One process at a time; the kernel frees the lock of one that dies."""
    pause = threading.Event()
    try:
        lock = file.with_name(file.name + ".lock").open("ab")
    except OSError as error:
        raise LedgerUnavailable(f"The store {shown} can't be prepared: {error.strerror}.") from error
    with lock as handle:
        for _ in range(int(MIGRATE_WAIT_MAX_S / LOCK_POLL_S)):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pause.wait(LOCK_POLL_S)
        else:
            raise LedgerUnavailable(f"The store {shown} can't be used now: another process prepares it.")
        yield
