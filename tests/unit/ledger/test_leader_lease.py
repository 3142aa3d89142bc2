"""The leader's row in real stores: one statement takes it, whoever else tries; a process that was killed is followed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from inferry.cli.leadership import NOBODY, Leadership
from inferry.core.leader_row import LeaderRow, LeaderWrite
from inferry.ledger.database import Database, open_database
from inferry.ledger.leader_lease import LeaderLease
from inferry.ledger.tables import metadata
from inferry.policy.leader import LEASE_S, LOOK_S, TRUST_S
from inferry.testing.manual_clock import ManualClock

from .conftest import Kind, NewUrl

LEAD_UNTIL_KILLED = """
import sys, threading
from inferry.cli.leadership import Leadership
from inferry.core.clock import SystemClock
from inferry.ledger.database import open_database
from inferry.ledger.leader_lease import LeaderLease
store = open_database(sys.argv[1])
one = Leadership(LeaderLease(store, "house"), store.close, "house", SystemClock(), "killed")
one.look()
print(one.leader() == "", flush=True)
threading.Event().wait(60)
"""


def test_the_migration_makes_what_the_table_says(database: Database) -> None:
    """The script and leader_lease.py agree."""

    def is_ours(_object: object, name: str | None, kind: str, *_: object) -> bool:
        return kind != "table" or name == "leaders"

    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": is_ours})
        assert compare_metadata(context, metadata) == []


def test_of_many_at_once_one_takes_it(database: Database) -> None:
    """Eight threads want the same row at the same moment, when there is none and when there is one: one gets it, and
    the row is that one's. Other fleets' rows are other rows."""
    lease = LeaderLease(database, "house")
    expected: LeaderRow | None = None
    for term in (1, 2):
        took = all_at_once(lease, expected, term)
        assert took.count(True) == 1
        expected = lease.read()
        assert expected == LeaderRow(f"p{took.index(True)}", term, 0)
    assert LeaderLease(database, "other").read() is None


def move(file: Path, to: Path) -> None:
    """A store that goes away, or comes back."""
    file.rename(to)


def all_at_once(lease: LeaderLease, expected: LeaderRow | None, term: int) -> list[bool]:
    """Which of eight threads took the row."""
    barrier = threading.Barrier(8)

    def take(number: int) -> bool:
        barrier.wait()
        return lease.write(LeaderWrite(expected, LeaderRow(f"p{number}", term, 0)))

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(take, range(8)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_process_that_was_killed_is_followed(kind: Kind, new_url: NewUrl) -> None:
    """kill -9 of the leader: another one on the same store sees its row stand still, does not lead before that one would
    have stopped by itself, and leads within the lease and a look."""
    url = new_url(kind)
    store = open_database(url)
    store.migrate()
    process = subprocess.Popen([sys.executable, "-c", LEAD_UNTIL_KILLED, url], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True\n"
    finally:
        process.kill()
        process.communicate()
    clock = ManualClock()
    second = Leadership(LeaderLease(store, "house"), store.close, "house", clock, "second")
    second.look()
    assert second.leader() == "killed"
    waited_s = 0.0
    while second.leader():
        waited_s += LOOK_S
        clock.advance(LOOK_S)
        second.look()
    assert TRUST_S < waited_s <= LEASE_S + LOOK_S
    store.close()


async def test_nobody_decides_without_the_store(sqlite_database: Database) -> None:
    """A leader that can't say so any more stops by its own clock, and says why; who ends gives the row back."""
    clock = ManualClock()
    first = Leadership(LeaderLease(sqlite_database, "house"), sqlite_database.close, "house", clock, "first")
    first.look()
    assert first.leader() == ""
    file, away = Path(sqlite_database.shown), Path(f"{sqlite_database.shown}.away")
    move(file, away)
    running = asyncio.create_task(first.run())
    async with asyncio.timeout(5):
        while clock.now_s() <= TRUST_S:
            await asyncio.sleep(0.01)
            clock.advance(1)
        while first.leader() != NOBODY:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    move(away, file)
    first.look()
    assert first.leader() == ""
    await first.resign()
    again = open_database(f"sqlite:///{file}")
    second = Leadership(LeaderLease(again, "house"), again.close, "house", clock, "second")
    second.look()
    assert second.leader() == ""
    await second.resign()


async def test_a_fault_of_ours_ends_neither_leadership_nor_serving(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that breaks in a way that nobody thought of: nobody leads meanwhile, and the next look comes."""
    one = Leadership(LeaderLease(database, "house"), database.close, "house", ManualClock(), "me")
    looked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def broken() -> None:
        loop.call_soon_threadsafe(looked.set)
        raise RuntimeError("no store has ever said that")

    monkeypatch.setattr(one, "look", broken)
    running = asyncio.create_task(one.run())
    await asyncio.wait_for(looked.wait(), 10)
    await asyncio.sleep(0.05)
    assert not running.done()
    assert one.leader() == NOBODY
    running.cancel()
    await asyncio.wait([running])
