"""The banks of limits keep the same promises: in memory, in Valkey, in Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from inferry.core.clock import SystemClock
from inferry.core.errors import ConfigError, LimitsUnavailable
from inferry.core.leases import NOW, Bucket, Grant, Kind, Return, Times, Wish, period_of
from inferry.gateway.period_starts import filled
from inferry.ledger.redis_limits import Order, RedisBank
from inferry.policy.lease_bank import LeaseBank
from inferry.testing.manual_clock import ManualClock

from .limit_server import LimitServer, server_of

TIMES = Times(window_s=1.0, slot_s=0.05, lease_s=0.1, permit_ttl_s=0.5)
WINDOW = Bucket("key:a:requests_per_minute", Kind.WINDOW, 100)
PERMITS = Bucket("key:a:requests_in_flight", Kind.PERMITS, 10)
DAY = Bucket("key:a:tokens_per_day", Kind.DAY, 1000)
MONTH = Bucket("key:a:cost_per_month", Kind.MONTH, 10**17)


class Bank:
    """What the suite asks of a bank."""

    def __init__(self) -> None:
        self.asked_before: list[tuple[str, int]] = []
        self.before = 0

    async def used_before(self, bucket: Bucket, period: int) -> int:
        self.asked_before.append((bucket.id, period))
        return self.before

    async def exchange(
        self, holder: str, wishes: Sequence[Wish], returns: Sequence[Return] = ()
    ) -> Sequence[Grant]:
        raise NotImplementedError

    async def forget(self, holder: str) -> None:
        raise NotImplementedError

    async def one(self, wish: Wish, *returns: Return, holder: str = "w") -> Grant:
        (grant,) = await self.exchange(holder, [wish], returns)
        return grant


class InMemory(Bank):
    def __init__(self, times: Times) -> None:
        super().__init__()
        self.bank = LeaseBank(times)

    async def exchange(
        self, holder: str, wishes: Sequence[Wish], returns: Sequence[Return] = ()
    ) -> Sequence[Grant]:
        now_s, wall_s = time.monotonic(), time.time()
        for bucket, period in list(self.bank.unknown(wishes, wall_s)):
            self.bank.begin_period(bucket, period, await self.used_before(bucket, period), now_s)
        return self.bank.handle(holder, wishes, returns, now_s, wall_s)

    async def forget(self, holder: str) -> None:
        self.bank.forget(holder)


class InRedis(Bank):
    def __init__(self, server: LimitServer, times: Times) -> None:
        super().__init__()
        self.bank = RedisBank(
            server.url,
            "test",
            "host-1",
            clock=SystemClock(),
            times=times,
            timeout_s=5,
        )

    async def exchange(
        self, holder: str, wishes: Sequence[Wish], returns: Sequence[Return] = ()
    ) -> Sequence[Grant]:
        order = Order(holder, wishes, returns)
        await self.bank.exchange([order])
        if order.unknown:
            unknown = sorted(order.unknown, key=lambda each: each[0].id)
            starts = {
                bucket.id: (period, await self.used_before(bucket, period)) for bucket, period in unknown
            }
            late = Order(holder, [wish for wish in wishes if wish.bucket.id in starts], (), starts)
            await self.bank.exchange([late])
            return filled(wishes, order.grants, starts, late.grants)
        return order.grants

    async def forget(self, holder: str) -> None:
        await self.bank.forget(holder)


@asynccontextmanager
async def bank_of(name: str, folder: Path, times: Times) -> AsyncIterator[Bank]:
    if name == "memory":
        yield InMemory(times)
        return
    server = server_of(name, folder)
    server.start()
    try:
        bank = InRedis(server, times)
        await bank.bank.connect()
        yield bank
        await bank.bank.close()
    finally:
        server.kill()


@pytest.fixture(params=["memory", "valkey", "redis"])
async def bank(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bank]:
    async with bank_of(request.param, tmp_path, TIMES) as made:
        yield made


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> LimitServer:
    return server_of(request.param, tmp_path)


def single(bucket: Bucket, units: int = 1, held: int = 0) -> Wish:
    return Wish(bucket, least=units, most=units, need=units, want=units, held=held)


async def test_a_window_gives_its_limit_and_no_more(bank: Bank) -> None:
    """100 of 100, then a refusal that says when there will be more; then that is so."""
    began_s = time.monotonic()
    grants = [await bank.one(single(WINDOW)) for _ in range(100)]
    assert [grant.units for grant in grants] == [1] * 100
    assert [grant.left for grant in grants] == list(range(99, -1, -1))
    refused = await bank.one(single(WINDOW))
    assert (refused.units, refused.left) == (0, 0)
    assert 0 < refused.retry_s <= TIMES.kept_s
    assert refused.retry_s <= refused.reset_s <= TIMES.kept_s
    await asyncio.sleep(refused.retry_s + 0.01)
    assert (await bank.one(single(WINDOW))).units == 1
    assert time.monotonic() - began_s >= TIMES.window_s + TIMES.lease_s


async def test_leases_are_large_while_there_is_plenty_and_single_near_the_limit(bank: Bank) -> None:
    """Beyond what is needed, at most a tenth of what is left is lent."""
    sizes = [(await bank.one(Wish(WINDOW, 1, 1, 1, 50))).units for _ in range(30)]
    assert sizes[0] == 10
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1


async def test_nothing_is_lent_that_helps_nobody(bank: Bank) -> None:
    """With 3 left and nobody who needs fewer than 5, all 3 stay; who needs 5 single ones gets 3."""
    await bank.one(single(WINDOW, 97))
    grant = await bank.one(Wish(WINDOW, least=5, most=5, need=5, want=5))
    assert (grant.units, grant.left, grant.retry_s > 0) == (0, 3, True)
    assert (await bank.one(Wish(WINDOW, least=1, most=1, need=5, want=5))).units == 3


async def test_what_comes_back_is_there_at_once_and_never_as_credit(bank: Bank) -> None:
    """Returned units can be lent again; returning more than was lent to a slot adds nothing."""
    grant = await bank.one(single(WINDOW, 100))
    assert (await bank.one(single(WINDOW), Return(WINDOW, grant.slot, 40))).left == 39
    assert (await bank.one(Wish(WINDOW), Return(WINDOW, grant.slot - 1, 40))).left == 39
    assert (await bank.one(Wish(WINDOW), Return(WINDOW, grant.slot, 10_000))).left >= 99
    assert (await bank.one(Wish(WINDOW))).left <= 100


async def test_what_was_used_without_a_grant_is_charged_above_the_limit(bank: Bank) -> None:
    """A charge goes to now, also above the limit; nothing is lent until it has slid away."""
    grant = await bank.one(single(WINDOW, 90), Return(WINDOW, NOW, -60))
    assert (grant.units, grant.left) == (0, 40)
    grant = await bank.one(single(WINDOW), Return(WINDOW, NOW, -60))
    assert (grant.units, grant.left) == (0, -20)
    await asyncio.sleep(grant.reset_s + 0.01)
    assert (await bank.one(single(WINDOW))).left == 99


async def test_permits_are_what_their_holders_say(bank: Bank) -> None:
    """`held` is believed: a holder that says less has given back, whatever was lost before."""
    assert (await bank.one(single(PERMITS, 6), holder="a")).left == 4
    assert (await bank.one(single(PERMITS, 5), holder="b")).units == 0
    assert (await bank.one(single(PERMITS, 4), holder="b")).left == 0
    assert (await bank.one(Wish(PERMITS, held=1), holder="a")).left == 5
    assert (await bank.one(Wish(PERMITS, held=0), holder="b")).left == 9


async def test_a_holder_that_is_forgotten_frees_its_permits(bank: Bank) -> None:
    """At once, and others' permits stay."""
    await bank.one(single(PERMITS, 6), holder="a")
    await bank.one(single(PERMITS, 3), holder="b")
    await bank.forget("a")
    assert (await bank.one(Wish(PERMITS, held=3), holder="b")).left == 7


async def test_permits_that_nobody_confirms_end(bank: Bank) -> None:
    """After permit_ttl_s without a word from their holder; one that speaks keeps its own."""
    await bank.one(single(PERMITS, 6), holder="silent")
    for _ in range(4):
        await asyncio.sleep(TIMES.permit_ttl_s / 3)
        grant = await bank.one(Wish(PERMITS, held=3), holder="speaks")
    assert grant.left == 7


async def test_a_period_begins_with_what_the_ledger_has(bank: Bank) -> None:
    """The ledger is asked once per bucket and period, and its sum counts."""
    bank.before = 300
    grant = await bank.one(single(DAY, 100))
    assert (grant.units, grant.left) == (100, 600)
    assert (await bank.one(single(DAY, 700))).units == 0
    assert (await bank.one(single(DAY, 1), Return(DAY, grant.slot, 50))).left == 649
    assert (await bank.one(single(DAY, 1), Return(DAY, NOW, -1000))).left == -351
    assert bank.asked_before == [(DAY.id, grant.slot)]
    assert 0 < grant.reset_s <= 86400


async def test_periods_are_utc_days_and_months(bank: Bank) -> None:
    """A grant's slot is the period of the wall clock; money up to 100 million keeps its billionths."""
    bank.before = 10**17 - 12_345
    day, month = await bank.exchange("w", [single(DAY), single(MONTH, 345)])
    assert (day.slot, month.slot) == (period_of(Kind.DAY, time.time()), period_of(Kind.MONTH, time.time()))
    assert month.units == 345
    assert abs(month.left - 12_000) <= 16


async def test_returns_for_another_period_are_nothing(bank: Bank) -> None:
    """What was lent yesterday comes back to nobody."""
    grant = await bank.one(single(DAY, 100))
    assert (await bank.one(Wish(DAY), Return(DAY, grant.slot - 1, 100))).left == 900


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["valkey", "redis"])
async def test_redis_gives_exactly_what_memory_gives(name: str, seed: int, tmp_path: Path) -> None:
    """One seeded sequence of wishes and returns, side by side: the same units and the same rest, each time."""
    random = Random(seed)
    wide = Times(window_s=1000.0)
    memory = InMemory(wide)
    async with bank_of(name, tmp_path, wide) as redis:
        lent: list[tuple[Bucket, int, int, int]] = []
        held: dict[str, int] = {}
        for _ in range(300):
            bucket = random.choice([WINDOW, PERMITS, DAY])
            holder = random.choice("abc")
            least = random.randint(1, 4)
            need = random.choice([0, least, least * 2])
            wish = Wish(
                bucket, least, least, need, need + random.randint(0, 20),
                held=random.randint(0, held.get(holder, 0)) if bucket is PERMITS else 0,
            )  # fmt: skip
            returned, returned_there = [], []
            if lent and random.random() < 0.6:
                whose, slot, slot_there, units = lent.pop(random.randrange(len(lent)))
                back = random.randint(-2, units)
                returned = [Return(whose, slot if back > 0 else NOW, back)]
                returned_there = [Return(whose, slot_there if back > 0 else NOW, back)]
            here = await memory.one(wish, *returned, holder=holder)
            there = await redis.one(wish, *returned_there, holder=holder)
            assert (here.units, here.left) == (there.units, there.left)
            assert (here.retry_s > 0) == (there.retry_s > 0)
            if bucket is PERMITS:
                held[holder] = wish.held + here.units
            elif here.units:
                lent.append((bucket, here.slot, there.slot, here.units))


# --- Redis alone --------------------------------------------------------------------------------------


async def test_every_key_ends_by_itself(server: LimitServer) -> None:
    """Nothing stays in Redis for ever: each key has a time to live."""
    import redis.asyncio

    server.start()
    bank = InRedis(server, TIMES)
    try:
        await bank.bank.connect()
        assert 0 < await bank.bank.gathering_s(5) <= 5
        await bank.exchange("w", [single(each) for each in (WINDOW, PERMITS, DAY, MONTH)])
        client = redis.asyncio.Redis.from_url(server.url)
        keys = await client.keys("*")
        lives_ms = [await client.pttl(key) for key in keys]
        await client.aclose()
        assert len(keys) == 6
        assert all(0 < life_ms <= 86_400_000 for life_ms in lives_ms)
    finally:
        await bank.bank.close()
        server.kill()


async def test_a_batch_of_many_holders_is_one_command(server: LimitServer) -> None:
    """Whatever waits goes in one round trip."""
    server.start()
    bank = InRedis(server, TIMES)
    try:
        await bank.bank.connect()
        import redis.asyncio

        client = redis.asyncio.Redis.from_url(server.url)
        before = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
        orders = [Order(f"w{number}", [single(WINDOW), single(PERMITS)]) for number in range(20)]
        await bank.bank.exchange(orders)
        after = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
        await client.aclose()
        assert after - before == 1
        assert [sum(order.grants[place].units for order in orders) for place in (0, 1)] == [20, 10]
    finally:
        await bank.bank.close()
        server.kill()


async def test_hosts_are_seen_by_each_other(server: LimitServer) -> None:
    """Each host that has spoken lately is on the list."""
    server.start()
    banks = []
    try:
        for number in (2, 1, 3):
            bank = InRedis(server, TIMES)
            bank.bank._host = f"h{number}"
            await bank.bank.connect()
            banks.append(bank)
        await banks[0].bank.exchange([])
        assert banks[0].bank.hosts == ["h1", "h2", "h3"]
    finally:
        for bank in banks:
            await bank.bank.close()
        server.kill()


async def test_a_server_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    """No server: LimitsUnavailable, with the address and without its password."""
    bank = RedisBank("redis://:sesame@127.0.0.1:9/0", "test", "h", clock=SystemClock())
    with pytest.raises(LimitsUnavailable, match=r"127\.0\.0\.1:9") as raised:
        await bank.connect()
    assert "sesame" not in str(raised.value)


async def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the `redis` extra the message has the line that installs it."""
    import sys

    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    bank = RedisBank("redis://h", "test", "h", clock=SystemClock())
    with pytest.raises(ConfigError, match=r"pip install 'inferry\[redis\]'"):
        await bank.connect()


def test_an_answer_that_is_read_late_does_not_set_the_clock_back() -> None:
    """The bank's time is at most a round trip behind Redis', never ahead of it, and follows a step of its clock."""
    clock = ManualClock()
    bank = RedisBank("redis://h", "test", "h", clock=clock)
    began_s = clock.now_s()

    def exchange(redis_ahead_s: float, there_s: float, back_s: float) -> float:
        """How far the bank's time is behind, after a round trip of so long."""
        asked_s = clock.now_s()
        clock.advance(there_s)
        told_s = clock.now_s() + redis_ahead_s
        clock.advance(back_s)
        bank._learn_time(told_s, asked_s, clock.now_s())
        return clock.now_s() + redis_ahead_s - bank.now_s()

    assert exchange(1e9, 0.001, 0.2) == pytest.approx(0.2, abs=1e-5)
    assert exchange(1e9, 0.1, 0.002) == pytest.approx(0.002, abs=1e-5)
    assert exchange(1e9, 0.001, 0.25) == pytest.approx(0.002, abs=1e-4)
    assert exchange(1e9 + 60, 0.001, 0.003) == pytest.approx(0.003, abs=1e-5)
    assert exchange(1e9 - 60, 0.001, 0.004) == pytest.approx(0.004, abs=1e-5)
    assert clock.now_s() > began_s
