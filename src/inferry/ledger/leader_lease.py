"""The row in the store that says who decides for a fleet: see policy/leader.py."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, String, Table, insert, select, update
from sqlalchemy.exc import IntegrityError

from inferry.core.leader_row import LeaderRow, LeaderWrite
from inferry.ledger.database import Database
from inferry.ledger.tables import metadata

leaders = Table(
    "leaders",
    metadata,
    Column("fleet", String(64), primary_key=True),
    Column("holder", String(200), nullable=False),
    Column("term", BigInteger, nullable=False),
    Column("beat", BigInteger, nullable=False),
)


class LeaderLease:
    """Of one fleet. For threads; raises LedgerError."""

    def __init__(self, database: Database, fleet: str) -> None:
        self._database = database
        self._fleet = fleet

    def read(self) -> LeaderRow | None:
        """None: nobody ever led this fleet."""
        wanted = select(leaders.c.holder, leaders.c.term, leaders.c.beat).where(
            leaders.c.fleet == self._fleet
        )
        with self._database.read() as connection:
            found = connection.execute(wanted).one_or_none()
        return None if found is None else LeaderRow(found.holder, found.term, found.beat)

    def write(self, write: LeaderWrite) -> bool:
        """Whether it went through. One statement that compares and sets: of several at once, one does."""
        row, expected = write.row, write.expected
        values = {"holder": row.holder, "term": row.term, "beat": row.beat}
        if expected is None:
            try:
                with self._database.write() as connection:
                    connection.execute(insert(leaders).values(fleet=self._fleet, **values))
            except IntegrityError:  # another one was first
                return False
            return True
        swap = update(leaders).where(
            leaders.c.fleet == self._fleet,
            leaders.c.holder == expected.holder,
            leaders.c.term == expected.term,
            leaders.c.beat == expected.beat,
        )
        with self._database.write() as connection:
            return connection.execute(swap.values(**values)).rowcount == 1
