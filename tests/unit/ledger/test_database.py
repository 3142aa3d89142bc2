"""The store: migrated once by many, private, and its failures in words that say who must act."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import exc, insert, make_url, select, text, update

from inferry.core.errors import ConfigError, InferryError, LedgerError, LedgerUnavailable
from inferry.ledger import database as database_module
from inferry.ledger.database import Database, default_url, open_database
from inferry.ledger.store_errors import map_store_errors
from inferry.ledger.tables import key_changes, keys, metadata

from .conftest import NewUrl

MIGRATE = (
    "import sys; from inferry.ledger.database import open_database; open_database(sys.argv[1]).migrate()"
)


def file_of(database: Database) -> Path:
    return Path(database.shown)


# --- migrations ---------------------------------------------------------------------------------------


def test_migrations_make_what_the_tables_say(database: Database) -> None:
    """The scripts and tables.py agree: Alembic finds nothing to add, drop or alter among the keys' tables."""
    ours = {keys.name, key_changes.name}

    def is_ours(_object: object, name: str | None, kind: str, *_: object) -> bool:
        return kind != "table" or name in ours

    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": is_ours})
        assert compare_metadata(context, metadata) == []


def test_migrating_again_changes_nothing(database: Database) -> None:
    """A store that is up to date stays as it is, with what is in it."""
    with database.write() as connection:
        connection.execute(update(key_changes).values(version=7))
    database.migrate()
    with database.read() as connection:
        assert connection.execute(select(key_changes.c.version)).scalars().all() == [7]


def test_two_processes_migrate_at_once(empty_url: str) -> None:
    """Processes that start together all find a prepared store, wherever they were started; its first row is there once."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATE, empty_url], stderr=subprocess.PIPE, text=True, cwd=os.sep
        )
        for _ in range(2)
    ]
    assert [(child.communicate()[1], child.returncode) for child in children] == [("", 0)] * 2
    database = open_database(empty_url)
    with database.read() as connection:
        assert connection.execute(select(key_changes)).all() == [(1, 0)]
    database.close()


def test_threads_migrate_at_once(empty_url: str) -> None:
    """The same holds within one process."""
    failures: list[Exception] = []

    def migrate() -> None:
        database = open_database(empty_url)
        try:
            database.migrate()
        except InferryError as error:
            failures.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_store_from_the_future_is_left_alone(database: Database) -> None:
    """A store that a newer Inferry prepared is refused, and the message says what to do."""
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999_later'"))
    with pytest.raises(
        ConfigError, match=r"made by a newer Inferry \(step 9999_later\).*install that version"
    ):
        database.migrate()


def test_a_failed_migration_leaves_nothing(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store is migrated wholly or not at all: what ran before a failure is taken back, tables among it."""
    from alembic import command

    upgrade = command.upgrade

    def upgrade_and_fail(config: object, target: str) -> None:
        upgrade(config, target)  # type: ignore[arg-type]
        raise exc.OperationalError("statement", {}, sqlite3.OperationalError("database or disk is full"))

    database = open_database(empty_url)
    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", upgrade_and_fail)
        with pytest.raises(LedgerUnavailable, match="its disk is full"):
            database.migrate()
    with pytest.raises(ConfigError, match="not prepared"), database.read() as connection:
        connection.execute(select(key_changes))
    database.migrate()
    with database.read() as connection:
        assert connection.execute(select(key_changes.c.version)).scalar_one() == 0
    database.close()


def test_who_prepares_for_too_long_is_not_waited_for_for_ever(
    new_url: NewUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for another process's migration has an end."""
    import fcntl

    monkeypatch.setattr(database_module, "MIGRATE_WAIT_MAX_S", 0.1)
    database = open_database(new_url("sqlite"))
    file_of(database).parent.mkdir()
    with Path(f"{database.shown}.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(LedgerUnavailable, match="another process prepares it"):
            database.migrate()
    database.migrate()
    database.close()


# --- transactions -------------------------------------------------------------------------------------


def test_a_failed_write_is_taken_back(database: Database) -> None:
    """An error inside `write` undoes all of it."""
    with pytest.raises(KeyError), database.write() as connection:
        connection.execute(update(key_changes).values(version=5))
        raise KeyError
    with database.read() as connection:
        assert connection.execute(select(key_changes.c.version)).scalar_one() == 0


def test_writers_of_sqlite_wait_for_each_other(sqlite_database: Database) -> None:
    """Read, then write: two threads that count up lose no count and meet no 'locked'."""

    def count_up() -> None:
        for _ in range(20):
            with sqlite_database.write() as connection:
                seen = connection.execute(select(key_changes.c.version)).scalar_one()
                connection.execute(update(key_changes).values(version=seen + 1))

    threads = [threading.Thread(target=count_up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with sqlite_database.read() as connection:
        assert connection.execute(select(key_changes.c.version)).scalar_one() == 60


def test_sqlite_is_set_up_for_many_readers(sqlite_database: Database) -> None:
    """WAL, NORMAL, foreign keys and a busy timeout are in force on each connection."""
    with sqlite_database.read() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1, "busy_timeout": 10_000}


def test_a_restored_file_is_noticed(sqlite_database: Database) -> None:
    """A backup that takes the file's place is what is read from then on, by who had the old one open too."""
    file = file_of(sqlite_database)
    backup = file.with_name("backup")
    with sqlite3.connect(file) as source, sqlite3.connect(backup) as copy:
        source.backup(copy)
    source.close()
    copy.close()
    with sqlite_database.write() as connection:
        connection.execute(update(key_changes).values(version=5))
    for left in file.parent.glob("ledger.sqlite-*"):  # as SQLite's manual says for a restore
        left.unlink()
    backup.replace(file)
    with sqlite_database.read() as connection:
        assert connection.execute(select(key_changes.c.version)).scalar_one() == 0


def test_a_vanished_file_is_an_error(sqlite_database: Database) -> None:
    """And not made anew: an empty store would be one without keys to refuse."""
    file_of(sqlite_database).unlink()
    with pytest.raises(ConfigError, match="can't be opened"), sqlite_database.read():
        pass
    assert not file_of(sqlite_database).exists()


@pytest.mark.parametrize("name", ["a b", "50%", "a?b#c", "ü", "%20"])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    """What means something in a URL is part of the path of a home all the same."""
    database = open_database(default_url(tmp_path / name))
    database.migrate()
    database.close()
    assert (tmp_path / name / "ledger" / "ledger.sqlite").stat().st_size > 0


def test_only_the_owner_can_read_the_file(sqlite_database: Database) -> None:
    """0700 for the folder, 0600 for the file and its WAL, whatever the umask says."""
    with sqlite_database.write() as connection:
        connection.execute(update(key_changes).values(version=1))
        folder = file_of(sqlite_database).parent
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.sqlite*")}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes.pop("ledger.sqlite.lock") is not None
    assert modes == {"ledger.sqlite": 0o600, "ledger.sqlite-wal": 0o600, "ledger.sqlite-shm": 0o600}


# --- addresses ----------------------------------------------------------------------------------------


def test_the_default_store_is_in_the_home() -> None:
    """Without ledger.url there is one store per INFERRY_HOME."""
    url = default_url(Path("/srv/inferry"))
    assert url == "sqlite:////srv/inferry/ledger/ledger.sqlite"
    assert open_database(url).shown == "/srv/inferry/ledger/ledger.sqlite"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ledger.sqlite", "is not a URL"),
        ("mysql://u:geheim@h/db", "neither sqlite:///PATH nor postgresql"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:////srv/x.sqlite?mode=ro", "needs a file, and nothing behind it"),
        ("postgresql://u:geheim@h:port/db", "is not a URL"),
    ],
)
def test_a_url_that_cannot_work(url: str, words: str) -> None:
    """It is refused when it is read, and its password is not in the message."""
    with pytest.raises(ConfigError, match=words) as caught:
        open_database(url)
    assert "geheim" not in caught.value.message


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg, the message says what to install."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'inferry\[postgres\]'"):
        open_database("postgresql://u:geheim@h/db")


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
def test_a_password_is_never_shown(scheme: str) -> None:
    """Neither in `shown` nor in repr, wherever in the URL it stands."""
    pytest.importorskip("psycopg", reason="needs the 'postgres' extra")
    database = open_database(f"{scheme}://u:geheim@h/db?password=geheim2")
    assert "geheim" not in f"{database!r} {database.shown} {vars(database)}"


# --- failures -----------------------------------------------------------------------------------------


def test_a_server_that_is_not_there(free_port: int) -> None:
    """Nobody listens: it may pass, and the message names the server and no password."""
    pytest.importorskip("psycopg", reason="needs the 'postgres' extra")
    database = open_database(f"postgresql://u:geheim@127.0.0.1:{free_port}/db")
    with pytest.raises(LedgerUnavailable, match=f"127.0.0.1:{free_port}/db can't be reached") as caught:
        database.migrate()
    assert "geheim" not in caught.value.message
    assert caught.value.retryable


def test_a_database_that_is_not_there(postgresql_url: str) -> None:
    """The server answers, but has no such database: the operator must make it."""
    url = make_url(postgresql_url).set(database="nowhere").render_as_string(hide_password=False)
    database = open_database(url)
    with pytest.raises(ConfigError, match="is not there; create it first"):
        database.migrate()


def test_a_standby_is_read_only(new_url: NewUrl) -> None:
    """A PostgreSQL that takes no writes says so in our words."""
    database = open_database(new_url("postgresql"))
    database.migrate()
    with pytest.raises(LedgerUnavailable, match="read-only"), database.write() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        connection.execute(update(key_changes).values(version=1))
    database.close()


def test_a_row_that_another_holds(new_url: NewUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a lock has an end on PostgreSQL too."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 1.0)
    url = new_url("postgresql")
    holder, waiter = open_database(url), open_database(url)
    holder.migrate()
    with holder.write() as holding:
        holding.execute(update(key_changes).values(version=1))
        with pytest.raises(LedgerUnavailable, match="locked"), waiter.write() as connection:
            connection.execute(update(key_changes).values(version=2))
    holder.close()
    waiter.close()


def test_a_locked_file(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program that holds the file for longer than we wait is named as the reason."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.05)
    impatient = open_database(f"sqlite:///{sqlite_database.shown}")
    with sqlite_database.write(), pytest.raises(LedgerUnavailable, match="locked"), impatient.write():
        pass
    impatient.close()


def test_a_full_disk(sqlite_database: Database) -> None:
    """A store that can't grow says that the disk is full; what it has can be read."""
    with pytest.raises(LedgerUnavailable, match="disk is full"), sqlite_database.write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1")
        connection.exec_driver_sql("CREATE TABLE growing (x BLOB)")
        connection.exec_driver_sql("INSERT INTO growing VALUES (zeroblob(1000000))")
    with sqlite_database.read() as connection:
        assert connection.execute(select(key_changes.c.version)).scalar_one() == 0


def test_a_read_only_file(sqlite_database: Database) -> None:
    """A store that can't be written says so."""
    with pytest.raises(LedgerUnavailable, match="read-only"), sqlite_database.write() as connection:
        connection.exec_driver_sql("PRAGMA query_only=1")
        connection.execute(update(key_changes).values(version=1))
    sqlite_database.close()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """A file of another kind is not overwritten, and named as what it is."""
    other = tmp_path / "notes.txt"
    other.write_text("shopping list\n" * 100)
    database = open_database(f"sqlite:///{other}")
    with pytest.raises(ConfigError, match="something else than a SQLite database"):
        database.migrate()
    assert other.read_text() == "shopping list\n" * 100
    database.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A path through a file is an error of the operator, with the system's reason."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="can't be opened: "):
        open_database(f"sqlite:///{tmp_path}/file/ledger.sqlite").migrate()


def test_a_store_that_was_never_prepared(empty_url: str) -> None:
    """Reading before migrating says that the store is not prepared."""
    database = open_database(empty_url)
    if database.kind == "sqlite":
        file_of(database).parent.mkdir()
        file_of(database).touch()
    with pytest.raises(ConfigError, match="not prepared"), database.read() as connection:
        connection.execute(select(key_changes))
    database.close()


_WHILE_DECLARING = (exc.CompileError, exc.CircularDependencyError, exc.NoReferenceError)


def errors_of_sqlalchemy() -> Iterator[exc.SQLAlchemyError]:
    """One of each class that SQLAlchemy can raise at run time."""
    for kind in vars(exc).values():
        if not isinstance(kind, type) or not issubclass(kind, exc.SQLAlchemyError):
            continue
        if issubclass(kind, exc.DBAPIError):
            yield kind("SELECT geheim", {"x": "geheim"}, sqlite3.Error("geheim"))
        elif issubclass(kind, exc.StatementError):
            yield kind("m", "SELECT geheim", {"x": "geheim"}, ValueError("geheim"))
        elif not issubclass(kind, _WHILE_DECLARING):
            yield kind("geheim")


@pytest.mark.parametrize("foreign", list(errors_of_sqlalchemy()), ids=lambda error: type(error).__name__)
def test_every_error_of_the_library_is_mapped(foreign: exc.SQLAlchemyError) -> None:
    """Each comes out as ours, with its cause, and without what it quotes; only IntegrityError passes."""
    with pytest.raises((InferryError, exc.IntegrityError)) as caught, map_store_errors("the store"):
        raise foreign
    if isinstance(foreign, exc.IntegrityError):
        assert caught.value is foreign
    else:
        assert isinstance(caught.value, ConfigError | LedgerError)
        assert caught.value.__cause__ is foreign
        assert "geheim" not in str(caught.value)


def test_migrations_are_quiet(sqlite_database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged at the levels that our log file keeps by itself for other libraries."""
    with caplog.at_level(logging.WARNING):
        sqlite_database.migrate()
    assert caplog.records == []


def test_values_stay_out_of_messages(sqlite_database: Database) -> None:
    """What a failing statement was given is in no error's text, the cause included."""
    row = {"id": 1, "version": "geheim-value"}
    with (
        pytest.raises(exc.IntegrityError) as caught,
        sqlite_database.write() as connection,
    ):
        connection.execute(insert(key_changes).values(**row))
    assert "geheim-value" not in str(caught.value)


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
