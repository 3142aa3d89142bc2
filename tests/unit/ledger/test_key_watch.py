"""Following the store's keys, with a clock of the test's own pace: each poll is awaited, none is slept for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from inferry.core.api_key import ApiKey
from inferry.core.errors import LedgerUnavailable
from inferry.ledger.database import Database
from inferry.ledger.key_watch import watch_keys
from inferry.ledger.keys import KeyStore
from inferry.testing.manual_clock import ManualClock

KEYS = [ApiKey(id=f"key_{i}", prefix=f"inf-{i}", digest=bytes(32), tenant="t", name=str(i)) for i in range(3)]


class Source:
    """A store in memory that counts how it is asked, and can be away."""

    def __init__(self) -> None:
        self.number = 1
        self.keys = KEYS[:1]
        self.away = False
        self.asked = 0
        self.read = 0
        self.before_read: Callable[[], None] = lambda: None

    def version(self) -> int:
        self.asked += 1
        if self.away:
            raise LedgerUnavailable("The store is away.")
        return self.number

    def all(self) -> list[ApiKey]:
        self.read += 1
        self.before_read()
        return list(self.keys)

    def change(self, keys: list[ApiKey]) -> None:
        self.keys = keys
        self.number += 1


@pytest.fixture
def source() -> Source:
    return Source()


@asynccontextmanager
async def watching(source: Source) -> AsyncIterator[list[list[str]]]:
    """What the watcher told, as ids."""
    told: list[list[str]] = []
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(
            watch_keys(source, lambda keys: told.append([key.id for key in keys]), poll_s=0.001)
        )
        yield told
        task.cancel()


async def polls(source: Source, count: int = 3) -> None:
    """Until the store was asked so often again: whatever a poll does is done by then."""
    until = source.asked + count
    while source.asked < until:
        await asyncio.sleep(0.001)


async def test_keys_are_told_at_the_start_and_after_changes(source: Source) -> None:
    """And not in between: an unchanged store costs one small question a poll."""
    async with watching(source) as told:
        await polls(source)
        assert told == [["key_0"]]
        source.change(KEYS[:2])
        await polls(source)
        assert told == [["key_0"], ["key_0", "key_1"]]
    assert source.read == 2


async def test_an_empty_store_is_told_too(source: Source) -> None:
    """No keys is an answer: who waits for the first keys must not wait for ever."""
    source.change([])
    async with watching(source) as told:
        await polls(source)
    assert told == [[]]


async def test_a_change_between_the_two_questions_is_not_lost(source: Source) -> None:
    """A key that is revoked after the version was read and before the keys were is gone with the next poll."""

    def slip_in() -> None:
        source.before_read = lambda: None
        source.change(KEYS[:2])

    source.before_read = slip_in
    async with watching(source) as told:
        await polls(source)
    assert told[-1] == ["key_0", "key_1"]
    assert source.read == 2


async def test_while_the_store_is_away_the_last_keys_stay(source: Source) -> None:
    """Nothing is told, one line is logged for the whole time, one when it is back; changes of that time are seen."""
    with capture_logs() as logged:
        async with watching(source) as told:
            await polls(source)
            source.away = True
            await polls(source, 5)
            assert told == [["key_0"]]
            source.change([])
            source.away = False
            await polls(source)
            assert told == [["key_0"], []]
    assert [(entry["event"], entry["log_level"]) for entry in logged] == [
        ("key_store_away", "warning"),
        ("key_store_back", "info"),
    ]
    assert logged[0]["error"] == "The store is away."


async def test_a_store_that_is_away_at_the_start(source: Source) -> None:
    """The first keys come when it does."""
    source.away = True
    with capture_logs():
        async with watching(source) as told:
            await polls(source)
            assert told == []
            source.away = False
            await polls(source)
            assert told == [["key_0"]]


async def test_a_restored_store_is_read_again(source: Source) -> None:
    """A counter that went back, as after a restore, is a change as well."""
    source.number = 9
    async with watching(source) as told:
        await polls(source)
        source.keys, source.number = [], 4
        await polls(source)
    assert told == [["key_0"], []]


async def test_a_real_store_is_followed(database: Database) -> None:
    """A key that another connection revokes is told, over SQLite and PostgreSQL alike."""
    store = KeyStore(database, ManualClock())
    key = (await asyncio.to_thread(store.create, "acme")).key
    told: asyncio.Queue[list[ApiKey]] = asyncio.Queue()
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch_keys(store, told.put_nowait, poll_s=0.01))
        assert await told.get() == [key]
        await asyncio.to_thread(store.set_disabled, key.id, True)
        assert [one.disabled for one in await told.get()] == [True]
        task.cancel()
