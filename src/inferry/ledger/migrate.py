"""Runs the Alembic scripts that ship in this package, inside a transaction that the caller has locked."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from inferry.core.errors import ConfigError

SCRIPTS = Path(__file__).parent / "migrations"


def migrate_to_head(connection: Connection, shown_store: str) -> None:
    """Apply what is missing; nothing is committed here. Raises ConfigError if the store is newer than this program."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    there = set(MigrationContext.configure(connection).get_current_heads())
    if there - known:
        raise ConfigError(
            f"The store {shown_store} was made by a newer Inferry (step {', '.join(sorted(there - known))}): "
            "install that version or a later one here, or point ledger.url at another store."
        )
    if there != set(scripts.get_heads()):
        command.upgrade(config, "head")
