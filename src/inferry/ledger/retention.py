"""Lets single outcomes go when they are old. Daily sums stay for ever."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select, update

from inferry.ledger.database import Database
from inferry.ledger.outcome_rows import DAY_S
from inferry.ledger.outcome_tables import engine_lives, outcomes, retention

BATCH = 1000
"""Rows in one transaction: milliseconds, so that the loader never waits long."""


def horizon_wall_s(now_wall_s: float, keep_days: int) -> float:
    """Before what to prune."""
    return now_wall_s - keep_days * DAY_S


def kept_since_wall_s(connection: Connection) -> float:
    """From when on all outcomes are in the store."""
    return float(connection.execute(select(retention.c.kept_since_wall_s)).scalar_one())


def prune(database: Database, before_wall_s: float, *, batch: int = BATCH) -> int:
    """Delete outcomes received before, and engines last looked at before, in small transactions; how many outcomes.

    An id is counted once as long as its outcome is here; a journal that is restored later than that is new.
    Raises LedgerError.
    """
    with database.write() as connection:  # first: whoever asks meanwhile must not trust what is about to go
        connection.execute(
            update(retention)
            .where(retention.c.kept_since_wall_s < before_wall_s)
            .values(kept_since_wall_s=before_wall_s)
        )
    old = select(outcomes.c.id).where(outcomes.c.received_wall_s < before_wall_s).limit(batch)
    deleted = 0
    while True:
        with database.write() as connection:
            count = connection.execute(delete(outcomes).where(outcomes.c.id.in_(old))).rowcount
        deleted += count
        if count < batch:
            break
    with database.write() as connection:
        connection.execute(delete(engine_lives).where(engine_lives.c.last_wall_s < before_wall_s))
    return deleted
