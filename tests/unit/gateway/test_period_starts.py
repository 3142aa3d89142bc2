"""The ledger is away or slow: budgets of the calendar are not known, and nothing else notices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from inferry.core.errors import ConfigError, InferryError, LedgerUnavailable
from inferry.core.leases import Bucket, Grant, Kind, Return, Times, Wish
from inferry.gateway import period_starts
from inferry.gateway.limit_bank import LimitBank, MemoryLimitBank
from inferry.gateway.shared_limit_bank import SharedLimitBank
from inferry.ledger.redis_limits import Order, RedisBank
from inferry.policy.lease_bank import LeaseBank
from inferry.testing.manual_clock import ManualClock

DAY = Bucket("key:a:tokens_per_day", Kind.DAY, 100)
WINDOW = Bucket("key:a:requests_per_minute", Kind.WINDOW, 100)
PERMITS = Bucket("key:a:requests_in_flight", Kind.PERMITS, 5)


def one_of(bucket: Bucket, held: int = 0) -> Wish:
    return Wish(bucket, 1, 1, 1, 1, held)


class Ledger:
    """What was used, or why nobody knows."""

    def __init__(self) -> None:
        self.error: InferryError | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = 0

    async def used_before(self, bucket: Bucket, period: int) -> int:
        self.asked += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return 40


class RedisHere(RedisBank):
    """The shared bank's rules without a server."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__("redis://h", "test", "h", clock=clock)
        self.bank = LeaseBank(Times())
        self.clock = clock

    def now_s(self) -> float:
        return self.clock.wall_s()

    async def connect(self) -> None:
        self.hosts = ["h"]

    async def exchange(self, orders: Sequence[Order]) -> None:
        now_s = self.now_s()
        for order in orders:
            for bucket, period in list(self.bank.unknown(order.wishes, now_s)):
                if order.starts.get(bucket.id, (-1, 0))[0] == period:
                    self.bank.begin_period(bucket, period, order.starts[bucket.id][1], now_s)
            order.unknown = set(self.bank.unknown(order.wishes, now_s))
            missing = {bucket.id for bucket, _ in order.unknown}
            known = [wish for wish in order.wishes if wish.bucket.id not in missing]
            grants = self.bank.handle(order.holder, known, order.returns, now_s, now_s)
            order.grants = period_starts.with_gaps(order.wishes, missing, grants)

    async def forget(self, holder: str) -> None:
        self.bank.forget(holder)


@contextmanager
def running(bank: LimitBank) -> Iterator[None]:
    task = asyncio.ensure_future(bank.run())
    try:
        yield
    finally:
        task.cancel()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture(params=["memory", "shared", "alone"])
async def bank(request: pytest.FixtureRequest, ledger: Ledger) -> LimitBank:
    """The bank of one host, the one over Redis, and that one while Redis is gone."""
    clock = ManualClock(now_s=1000.0)
    if request.param == "memory":
        return MemoryLimitBank(clock, ledger.used_before)
    shared = SharedLimitBank(RedisHere(clock), "h", "share", clock=clock, used_before=ledger.used_before)
    shared.is_gone = request.param == "alone" or None
    return shared


@contextmanager
def served(bank: LimitBank) -> Iterator[None]:
    if isinstance(bank, SharedLimitBank) and not bank.is_gone:
        with running(bank):
            yield
    else:
        yield


@pytest.mark.parametrize("error", [LedgerUnavailable("gone"), ConfigError("no such table")])
async def test_a_ledger_that_is_away_ends_nothing(
    bank: LimitBank, ledger: Ledger, error: InferryError
) -> None:
    """Only the calendar's wish is unavailable; when the ledger is back, the budget begins with what it has."""
    wishes = [one_of(WINDOW), one_of(DAY), one_of(PERMITS)]
    ledger.error = error
    with served(bank):
        first = await bank.serve("g", wishes, [])
        assert [(grant.units, grant.unavailable) for grant in first] == [(1, False), (0, True), (1, False)]
        ledger.error = None
        again = await bank.serve("g", wishes, [])
    assert [grant.unavailable for grant in again] == [False, False, False]
    assert [grant.bucket_id for grant in again] == [wish.bucket.id for wish in wishes]
    assert again[1].left == 100 - 40 - 1


async def test_a_slow_ledger_holds_up_nobody_else(bank: LimitBank, ledger: Ledger) -> None:
    """While one message waits for its look-up, others are answered; it is answered when the ledger is."""
    ledger.answers.clear()
    async with asyncio.TaskGroup() as group:
        with served(bank):
            slow = group.create_task(bank.serve("g", [one_of(DAY)], []))
            while not ledger.asked:
                await asyncio.sleep(0)
            assert [grant.units for grant in await bank.serve("h", [one_of(WINDOW)], [])] == [1]
            assert not slow.done()
            ledger.answers.set()
            (grant,) = await slow
    assert (grant.units, grant.left) == (1, 59)


async def test_a_silent_ledger_is_not_waited_for(
    bank: LimitBank, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a bound, the budget is not known."""
    monkeypatch.setattr(period_starts, "LOOK_UP_MAX_S", 0.01)
    ledger.answers.clear()
    with served(bank):
        (grant,) = await bank.serve("g", [one_of(DAY)], [])
    assert grant == Grant(DAY.id, unavailable=True)


async def test_messages_of_one_holder_keep_their_order(ledger: Ledger) -> None:
    """What a message says of its permits counts from when it came, not from when its look-up was over."""
    bank = MemoryLimitBank(ManualClock(now_s=1000.0), ledger.used_before)
    ledger.answers.clear()
    async with asyncio.TaskGroup() as group:
        older = group.create_task(bank.serve("g", [Wish(PERMITS, held=1), one_of(DAY)], []))
        while not ledger.asked:
            await asyncio.sleep(0)
        await bank.serve("g", [Wish(PERMITS, held=4)], [])
        ledger.answers.set()
        await older
    (grant,) = await bank.serve("other", [Wish(PERMITS, 1, 5, 5, 5)], [])
    assert (grant.units, grant.left) == (1, 0)


async def test_units_come_back_before_the_look_up_is_over(ledger: Ledger) -> None:
    """A return beside a wish that must wait is taken once, and at once."""
    bank = MemoryLimitBank(ManualClock(now_s=1000.0), ledger.used_before)
    (lent,) = await bank.serve("g", [Wish(WINDOW, 100, 100, 100, 100)], [])
    ledger.error = LedgerUnavailable("gone")
    await bank.serve("g", [one_of(DAY)], [Return(WINDOW, lent.slot, 30)])
    (grant,) = await bank.serve("g", [one_of(WINDOW)], [])
    assert grant.left == 29
