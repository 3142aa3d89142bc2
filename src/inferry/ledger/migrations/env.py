"""Alembic's entry: runs the scripts on the connection that `Database.migrate` opened and locked."""

from __future__ import annotations

from alembic import context

from inferry.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite can't alter a column in place; Alembic then builds the table anew.
    render_as_batch=True,
)
# No begin_transaction: the caller's transaction spans all steps, so that a store is migrated wholly or not at all.
context.run_migrations()
