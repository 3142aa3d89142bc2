"""Outcomes into the store, each once, with the daily sums in the same transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from inferry.core.outcome import Outcome
from inferry.ledger.database import Database
from inferry.ledger.outcome_rows import daily_sums, row_of
from inferry.ledger.outcome_tables import SUMS, added, daily_usage, journal_offsets, outcomes, upsert_into

_PAGE_ROWS = 50
"""Each count of rows up to this is another statement, and the driver keeps them all, with up to a megabyte for a
thousand rows: what loaded 200,000 outcomes had grown by 110 MB."""


class OffsetMoved(Exception):
    """Somebody else loaded from this file in the meantime; nothing was stored."""


class OutcomeStore:
    """What one loader writes. `source` is its folder's id, which tells hosts apart."""

    def __init__(self, database: Database, source: str) -> None:
        self._database = database
        self._source = source

    def offset(self, file_id: str) -> int:
        """How much of a file is in the store."""
        with self._database.read() as connection:
            wanted = select(journal_offsets.c.offset_bytes).where(journal_offsets.c.file_id == file_id)
            return connection.execute(wanted).scalar() or 0

    def store(self, file_id: str, offset: int, next_offset: int, found: Iterable[Outcome]) -> int:
        """Store what stands between two offsets of a file, and the new one, in one transaction; how many were new.

        An id that is there already changes nothing, and neither do its day's sums. Raises OffsetMoved if the store
        is not at `offset`, and LedgerError.
        """
        try:
            with self._database.write() as connection:
                self._move(connection, file_id, offset, next_offset)
                return self._insert(connection, found)
        except IntegrityError:  # another loader made the file's first row between our look and our insert
            raise OffsetMoved(file_id) from None

    def forget(self, file_id: str) -> None:
        """Drop the offset of a file that is deleted. Never before: the file would be read again from its start."""
        with self._database.write() as connection:
            connection.execute(delete(journal_offsets).where(journal_offsets.c.file_id == file_id))

    def known_files(self) -> set[str]:
        """Files of this source that have an offset."""
        with self._database.read() as connection:
            wanted = select(journal_offsets.c.file_id).where(journal_offsets.c.source == self._source)
            return set(connection.execute(wanted).scalars())

    def _move(self, connection: Connection, file_id: str, offset: int, next_offset: int) -> None:
        # First of all: the row's lock makes a second loader of the same file wait, and then see that it is late.
        moved = connection.execute(
            update(journal_offsets)
            .where(journal_offsets.c.file_id == file_id, journal_offsets.c.offset_bytes == offset)
            .values(offset_bytes=next_offset)
        )
        if moved.rowcount == 1:
            return
        if offset != 0:
            raise OffsetMoved(file_id)
        connection.execute(
            insert(journal_offsets).values(file_id=file_id, source=self._source, offset_bytes=next_offset)
        )

    def _insert(self, connection: Connection, found: Iterable[Outcome]) -> int:
        rows: dict[str, dict[str, Any]] = {}
        for outcome in found:
            row = row_of(outcome, self._source)
            rows.setdefault(row["id"], row)
        if not rows:
            return 0
        ordered = [rows[id] for id in sorted(rows)]
        try:
            # The rule, and half the cost: one short statement for all of them.
            with connection.begin_nested():
                _insert_all(connection, ordered)
            new = ordered
        except IntegrityError:
            new = [rows[id] for id in self._insert_unknown(connection, ordered)]
        if new:
            sums = added(upsert_into(self._database, daily_usage), daily_usage, SUMS)
            connection.execute(sums, daily_sums(new))
        return len(new)

    def _insert_unknown(self, connection: Connection, ordered: list[dict[str, Any]]) -> Sequence[str]:
        """Some are there already: insert the others; their ids."""
        statement = (
            upsert_into(self._database, outcomes)
            .on_conflict_do_nothing(index_elements=["id"])
            .returning(outcomes.c.id)
        )
        paged = connection.execution_options(insertmanyvalues_page_size=_PAGE_ROWS)
        return paged.execute(statement, ordered).scalars().all()


def _insert_all(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """By the driver itself: SQLAlchemy's look at each value costs as much as all else here."""
    compiled = insert(outcomes).compile(dialect=connection.dialect)
    order = compiled.positiontup  # None: the driver takes names
    connection.exec_driver_sql(str(compiled), rows if order is None else list(map(itemgetter(*order), rows)))
