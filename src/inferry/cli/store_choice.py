"""Which store a command means, and that it knows what the journals on this machine know."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.cli.config import DEFAULT_FILE
from inferry.core.config_file import load_file
from inferry.core.errors import ConfigError, LedgerError
from inferry.core.gateway_settings import Ledger
from inferry.core.home import inferry_home

if TYPE_CHECKING:
    from inferry.ledger.database import Database
    from inferry.ledger.loader import LoadReport

# inferry.ledger is imported inside: `inferry --help` needs no database.

File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="The deployment file whose store is meant. Left out: inferry.yaml if there is one, else the store in "
        "INFERRY_HOME.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@contextmanager
def opened_store(file: Path | None) -> Iterator[tuple[Database, Ledger]]:
    """The prepared store that is meant, and the settings beside it."""
    from inferry.ledger.database import default_url, open_database

    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    settings = Ledger() if file is None else load_file(file, os.environ).config.ledger
    database = open_database(settings.url or default_url(inferry_home(os.environ)))
    try:
        database.migrate()
        yield database, settings
    finally:
        database.close()


def load_journals(database: Database) -> LoadReport:
    """Load what this machine's gateways wrote. An Inferry that runs and loads at this moment is not disturbed.

    Raises ConfigError if the folder can't be used or holds another store's journals, and LedgerError.
    """
    from inferry.ledger.loader import Loader

    folder = inferry_home(os.environ) / "ledger" / "journal"
    try:
        return Loader(database, folder).load_once()
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: {error.strerror or error}.") from error


def load_journals_if_possible(database: Database) -> None:
    """The same, for commands that have something to show without it; says what stands in the way."""
    try:
        say_problems(load_journals(database))
    except (ConfigError, LedgerError) as error:
        typer.echo(f"warning: what gateways wrote lately is not in these figures. {error.message}", err=True)


def say_problems(report: LoadReport) -> None:
    """What went wrong while journals were loaded, on stderr."""
    for problem in report.problems:
        typer.echo(f"warning: {problem}", err=True)
