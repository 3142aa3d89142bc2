"""The migrations make exactly the tables that the code uses."""

from __future__ import annotations

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from inferry.ledger.database import Database
from inferry.ledger.outcome_tables import outcomes


def test_migrations_and_tables_agree(database: Database) -> None:
    """Comparing a migrated store with all tables in the code finds nothing to add, drop or change."""
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences: list[Any] = compare_metadata(context, outcomes.metadata)
    assert differences == []
