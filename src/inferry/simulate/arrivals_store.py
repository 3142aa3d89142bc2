"""Outcomes that the store has: most of yesterday's, since journals are deleted when they are in it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select

from inferry.core.outcome import Ending, Outcome
from inferry.ledger.database import Database, open_database
from inferry.ledger.outcome_tables import outcomes

_FILE_HEAD = b"SQLite format 3\0"


def is_store(path: Path) -> bool:
    """Whether a file is a store of SQLite's. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_FILE_HEAD)) == _FILE_HEAD


def stored_in_file(path: Path, begin_wall_s: float, end_wall_s: float) -> Iterator[Outcome]:
    """Raises LedgerError, ConfigError where it is no store of ours."""
    database = open_database(f"sqlite:///{path.resolve()}")
    try:
        yield from stored(database, begin_wall_s, end_wall_s)
    finally:
        database.close()


def stored(database: Database, begin_wall_s: float = 0.0, end_wall_s: float = math.inf) -> Iterator[Outcome]:
    """What came in a span of time, in order of arrival; as much of each as a replay needs. Raises LedgerError."""
    rows = outcomes.c
    wanted = (
        select(
            rows.id,
            rows.route,
            rows.ending,
            rows.status,
            rows.received_wall_s,
            rows.duration_s,
            rows.deployment,
            rows.tenant,
            rows.prompt_tokens,
            rows.cached_tokens,
            rows.completion_tokens,
        )
        .where(rows.received_wall_s >= begin_wall_s)
        .order_by(rows.received_wall_s, rows.id)
        .execution_options(yield_per=10_000)
    )
    if end_wall_s < math.inf:
        wanted = wanted.where(rows.received_wall_s < end_wall_s)
    with database.read() as connection:
        for row in connection.execute(wanted):
            yield Outcome(
                id=row.id,
                request_id="",
                route=row.route,
                ending=Ending(row.ending),
                status=row.status,
                received_wall_s=row.received_wall_s,
                duration_s=row.duration_s,
                deployment=row.deployment,
                tenant=row.tenant,
                prompt_tokens=row.prompt_tokens,
                cached_tokens=row.cached_tokens,
                completion_tokens=row.completion_tokens,
            )
