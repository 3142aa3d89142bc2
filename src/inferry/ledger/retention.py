"""Lets single outcomes go when they are old. Daily sums stay for ever."""

from __future__ import annotations

from sqlalchemy import delete, select

from inferry.ledger.database import Database
from inferry.ledger.outcome_rows import DAY_S
from inferry.ledger.outcome_tables import engine_lives, outcomes

BATCH = 1000
"""Rows in one transaction: milliseconds, so that the loader never waits long."""


def kept_since_wall_s(now_wall_s: float, keep_days: int) -> float:
    """The moment from which all outcomes are kept."""
    return now_wall_s - keep_days * DAY_S


def prune(database: Database, before_wall_s: float, *, batch: int = BATCH) -> int:
    """Delete outcomes received before, and engines last looked at before, in small transactions; how many outcomes.

    An id is counted once as long as its outcome is here; a journal that is restored later than that is new.
    Raises LedgerError.
    """
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
