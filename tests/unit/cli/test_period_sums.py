"""What the ledger has of a period: one look-up for all who ask, whatever comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from structlog.testing import capture_logs

from inferry.cli.period_sums import KEPT_S, PeriodSums
from inferry.core.errors import LedgerUnavailable
from inferry.core.leases import Kind
from inferry.ledger.usage import Spent
from inferry.testing.manual_clock import ManualClock


class Store:
    """Answers when it may; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Kind, int]] = []
        self.may_answer = asyncio.Event()
        self.is_away = False
        self.clock = ManualClock()
        self.sums = PeriodSums(self.clock, self.look_up)

    async def look_up(self, kind: Kind, period: int) -> Mapping[tuple[str, str], Spent]:
        self.asked.append((kind, period))
        await self.may_answer.wait()
        if self.is_away:
            raise LedgerUnavailable("gone")
        return {("key", "a"): Spent(period, 0)}


async def test_one_look_up_serves_all_who_ask() -> None:
    """Twenty budgets that begin together cost one look-up; a second later it is made again."""
    store = Store()
    store.may_answer.set()
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(store.sums.of(Kind.DAY, 5)) for _ in range(20)]
    assert {task.result()["key", "a"].tokens for task in asking} == {5}
    await store.sums.of(Kind.MONTH, 7)
    assert store.asked == [(Kind.DAY, 5), (Kind.MONTH, 7)]
    store.clock.advance(KEPT_S)
    await store.sums.of(Kind.DAY, 5)
    assert store.asked[2:] == [(Kind.DAY, 5)]


async def test_a_failure_is_remembered_for_a_second() -> None:
    """A store that is away is not asked by each request, and logged once; when it is back, so are the sums."""
    store = Store()
    store.may_answer.set()
    store.is_away = True
    with capture_logs() as logged:
        for _ in range(5):
            with pytest.raises(LedgerUnavailable):
                await store.sums.of(Kind.DAY, 5)
        assert len(store.asked) == 1
        store.clock.advance(KEPT_S)
        with pytest.raises(LedgerUnavailable):
            await store.sums.of(Kind.DAY, 5)
    assert [(entry["event"], entry["error"]) for entry in logged] == [("budgets_unknown", "gone")]
    store.is_away = False
    store.clock.advance(KEPT_S)
    assert (await store.sums.of(Kind.DAY, 5))["key", "a"].tokens == 5


async def test_who_gives_up_leaves_the_look_up_to_others() -> None:
    """A slow store is asked once at a time, and its late answer is of use."""
    store = Store()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await store.sums.of(Kind.DAY, 5)
    store.clock.advance(60.0)
    store.may_answer.set()
    assert (await store.sums.of(Kind.DAY, 5))["key", "a"].tokens == 5
    assert len(store.asked) == 1


async def test_the_end_ends_look_ups() -> None:
    """Closing waits for nobody's store."""
    store = Store()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await store.sums.of(Kind.DAY, 5)
    await store.sums.close()
    assert len(asyncio.all_tasks()) == 1
