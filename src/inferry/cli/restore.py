"""`inferry restore`: a backup brought back, into a home that has nothing to lose."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from inferry.core.errors import ConfigError
from inferry.core.home import inferry_home


def restore(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="Made by `inferry backup`.")],
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="HOME",
            help="The new INFERRY_HOME. Left out: the one in force.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Bring deployment file, keys and ledger back from a backup. Nothing is ever written over."""
    from inferry.admin.run_record import running
    from inferry.ledger.archive import DEPLOYMENT_FILE
    from inferry.ledger.restore import dump_in
    from inferry.ledger.restore import restore as bring_back

    home = inferry_home(os.environ) if to is None else to.expanduser().resolve()
    if records := running(home):
        raise ConfigError(
            f"{home} is in use by {records[0].url} (pid {records[0].pid}): name a new folder with --to, or stop that "
            "with 'inferry down' and move the folder away"
        )
    manifest = bring_back(archive, home)
    typer.echo(f"{home} is as it was at {manifest.made}.")
    if manifest.store == "postgresql":
        typer.echo(
            "Keys and ledger were in PostgreSQL. Bring them back into a new, empty database, and then start:\n"
            f"  pg_restore --no-owner --exit-on-error --dbname=DATABASE {dump_in(home)}"
        )
    elif manifest.ledger_url is not None:
        typer.echo(
            f"The deployment file names the store {manifest.ledger_url}; it is in {home / 'ledger'} now. Take "
            "ledger.url out of the file, or move the store there."
        )
    if DEPLOYMENT_FILE in manifest.files:
        typer.echo(f"Start it with: INFERRY_HOME={home} inferry up {home / DEPLOYMENT_FILE}")
    else:
        typer.echo(
            f"Start it with: INFERRY_HOME={home} inferry up FILE (the backup holds no deployment file)"
        )
