"""Leases over virtual time: the bound in every window, the share that gets through, and that all comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inferry.core.leases import Bucket, Kind, Measure, Times, bucket_id
from inferry.policy.lease_shelf import ClaimState

from .lease_world import Process, World, worst_window

TIMES = Times()


def rpm(limit: int, owner: str = "a") -> Bucket:
    return Bucket(bucket_id("key", owner, Measure.REQUESTS_PER_MINUTE), Kind.WINDOW, limit)


def tpm(limit: int) -> Bucket:
    return Bucket(bucket_id("tenant", "a", Measure.TOKENS_PER_MINUTE), Kind.WINDOW, limit)


def in_flight(limit: int) -> Bucket:
    return Bucket(bucket_id("key", "a", Measure.REQUESTS_IN_FLIGHT), Kind.PERMITS, limit)


def arrivals(world: World, rate: float, until_s: float, ask: Callable[[], None]) -> None:
    """Random arrivals, on average `rate` a second."""

    def arrive() -> None:
        ask()
        if world.now_s < until_s:
            world.after(world.random.expovariate(rate), arrive)

    world.after(0.0, arrive)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limit", [1, 7, 60, 1000])
def test_no_window_holds_more_than_the_limit(seed: int, limit: int) -> None:
    """Six processes, crashes, restarts, slow and lost messages: every 60 s hold at most the limit."""
    world = World(seed, TIMES, loss=0.05, slow=0.02)
    bucket = rpm(limit)
    for number in range(6):
        world.start(f"p{number}")

    def ask() -> None:
        world.random.choice(world.processes).ask([bucket], [1], 0.1)

    def crash() -> None:
        place = world.random.randrange(6)
        world.processes[place].crash()
        world.processes[place] = Process(world, f"p{place}-{world.now_s:.3f}")
        world.after(world.random.uniform(1, 10), crash)

    arrivals(world, max(2.0, limit / 10), world.now_s + 200, ask)
    world.after(5, crash)
    world.run(200)
    worst = world.worst_window(bucket)
    assert 0 < worst <= limit
    assert world.counts[ClaimState.TAKEN] >= limit


@pytest.mark.parametrize(("limit", "rate"), [(1, 5.0), (10, 20.0), (60, 50.0), (600, 100.0), (6000, 300.0)])
@pytest.mark.parametrize("processes", [1, 2, 8])
def test_nine_tenths_of_the_limit_get_through(limit: int, rate: float, processes: int) -> None:
    """Clients that hammer get at least 90 % of the limit per minute, over any number of processes."""
    world = World(limit, TIMES)
    bucket = rpm(limit)
    for number in range(processes):
        world.start(f"p{number}")
    arrivals(
        world, rate, world.now_s + 615, lambda: world.random.choice(world.processes).ask([bucket], [1], 0.1)
    )
    world.run(615)
    per_minute = world.counts[ClaimState.TAKEN] / (615 / 60)
    assert per_minute >= 0.9 * limit
    assert world.worst_window(bucket) <= limit


@pytest.mark.parametrize("seed", range(4))
def test_tokens_are_reserved_and_given_back(seed: int) -> None:
    """Reservations of any 60 s stay within the limit, and what is settled below them can be used by others."""
    world = World(seed, TIMES, loss=0.02)
    bucket = tpm(100_000)
    for number in range(4):
        world.start(f"p{number}")

    def ask() -> None:
        tokens = world.random.randint(500, 4000)
        world.random.choice(world.processes).ask([bucket], [tokens], 0.5, unused=400)

    arrivals(world, 20.0, world.now_s + 300, ask)
    world.run(300)
    settled = [(when_s, max(0, units - 400)) for when_s, units in world.admitted[bucket.id]]
    assert world.worst_window(bucket) > 100_000, "more was reserved than used"
    assert worst_window(settled, TIMES.window_s) <= 100_000
    assert sum(units for _, units in settled) / 5 >= 0.9 * 100_000


@pytest.mark.parametrize("seed", range(6))
def test_permits_are_never_more_than_the_limit(seed: int) -> None:
    """Requests under way at the same time, over processes that crash and messages that are lost: at most 10."""
    world = World(seed, TIMES, loss=0.03)
    bucket = in_flight(10)
    for number in range(4):
        world.start(f"p{number}")
    seen: list[int] = []

    def ask() -> None:
        world.random.choice(world.processes).ask([bucket], [1], world.random.uniform(0.05, 2))
        seen.append(world.running(bucket))

    def crash() -> None:
        place = world.random.randrange(4)
        world.processes[place].crash()
        world.processes[place] = Process(world, f"p{place}-{world.now_s:.3f}")

    arrivals(world, 30.0, world.now_s + 120, ask)
    for when_s in (20, 45, 70):
        world.after(when_s, crash)
    world.run(120)
    assert max(seen) <= 10
    assert sum(seen) / len(seen) > 6


def test_a_crashed_process_blocks_nobody_for_long() -> None:
    """Its permits are free at once, its units of the minute a window and a lease later."""
    world = World(1, TIMES)
    window, permits = rpm(5), in_flight(5)
    first, second = world.start("first"), world.start("second")
    for _ in range(5):
        first.ask([window, permits], [1, 1], 1000.0)
    world.run(1)
    second.ask([permits], [1], 0.1)
    world.run(1)
    assert world.counts[ClaimState.REFUSED] == 1
    first.crash()
    world.run(0.2)
    second.ask([permits], [1], 0.1)
    world.run(1)
    assert world.counts[ClaimState.TAKEN] == 6
    world.run(TIMES.kept_s)
    for _ in range(5):
        second.ask([window], [1], 0.1)
    world.run(1)
    assert world.counts[ClaimState.TAKEN] == 11


def test_permits_of_a_silent_process_end() -> None:
    """A process that hangs, its link still open, loses its permits after their time."""
    world = World(1, TIMES)
    permits = in_flight(2)
    first, second = world.start("first"), world.start("second")
    first.ask([permits], [1], 1000.0)
    first.ask([permits], [1], 1000.0)
    world.run(0.5)
    first.alive = False
    world.run(TIMES.permit_ttl_s + 0.5)
    second.ask([permits], [1], 0.1)
    world.run(0.5)
    assert world.counts[ClaimState.TAKEN] == 3


def test_a_process_that_is_cut_off_uses_no_permit_that_others_may_have() -> None:
    """Its permits have ended at the bank by then, so a request that ends there makes no room for the next."""
    world = World(1, TIMES)
    permits = in_flight(2)
    cut_off, other = world.start("cut off"), world.start("other")
    for _ in range(2):
        cut_off.ask([permits], [1], TIMES.permit_ttl_s + 5)
    world.run(0.5)
    cut_off.is_cut_off = True
    world.run(TIMES.permit_ttl_s + 1)
    for _ in range(2):
        other.ask([permits], [1], 1000.0)
    world.run(TIMES.permit_ttl_s)
    assert (world.counts[ClaimState.TAKEN], world.running(permits)) == (4, 2)
    cut_off.ask([permits], [1], 0.1)
    world.run(2)
    assert (world.counts[ClaimState.TAKEN], world.counts[ClaimState.UNAVAILABLE]) == (4, 1)


def test_all_or_nothing() -> None:
    """A request that one limit refuses leaves the units of the others to those who can use them, within 2 s."""
    world = World(1, TIMES)
    wide, narrow = rpm(10, "wide"), rpm(1, "narrow")
    process, other = world.start("p"), world.start("q")
    process.ask([wide, narrow], [1, 1], 0.1)
    world.run(0.5)
    for _ in range(20):
        process.ask([wide, narrow], [1, 1], 0.1)
    world.run(2.0)
    assert world.counts == {
        ClaimState.WAITING: 0,
        ClaimState.TAKEN: 1,
        ClaimState.REFUSED: 20,
        ClaimState.UNAVAILABLE: 0,
    }
    for _ in range(9):
        other.ask([wide], [1], 0.1)
    world.run(0.5)
    assert world.counts[ClaimState.TAKEN] == 10


def test_a_client_that_hammers_costs_the_bank_little() -> None:
    """At a limit that is spent, 1000 requests a second are answered with at most 40 messages a second."""
    world = World(1, TIMES)
    bucket = rpm(10)
    process = world.start("p")
    arrivals(world, 1000.0, world.now_s + 12, lambda: process.ask([bucket], [1], 0.1))
    world.run(2)
    before = world.messages
    world.run(10)
    assert world.counts[ClaimState.REFUSED] > 9000
    assert (world.messages - before) / 10 <= 40


def test_busy_and_far_from_the_limit_few_requests_wait() -> None:
    """With plenty left, leases are large: 99 of 100 requests are answered without a message of their own."""
    world = World(1, TIMES)
    bucket = rpm(1_000_000)
    process = world.start("p")
    arrivals(world, 500.0, world.now_s + 20, lambda: process.ask([bucket], [1], 0.1))
    world.run(20)
    assert world.counts[ClaimState.TAKEN] > 9000
    assert world.messages / world.counts[ClaimState.TAKEN] < 0.05


@pytest.mark.parametrize("rate", [10.0, 500.0])
def test_permits_are_at_hand_while_there_are_plenty(rate: float) -> None:
    """However the requests under way go up and down, hardly one waits for its permit: 3 of 10 did at 20 a second,
    each for a round trip to the bank."""
    world = World(1, TIMES)
    bucket = in_flight(100_000)
    process = world.start("p")
    arrivals(world, rate, world.now_s + 60, lambda: process.ask([bucket], [1], world.random.uniform(0, 4)))
    world.run(5)
    counted, waited = world.counts[ClaimState.TAKEN], world.waited
    world.run(55)
    assert world.counts[ClaimState.TAKEN] - counted > 50 * rate
    assert (world.waited - waited) / (world.counts[ClaimState.TAKEN] - counted) < 0.002


def test_spare_permits_go_to_those_who_need_them() -> None:
    """What a busy process keeps spare is a 64th of the limit at most, and nothing once it has no use for it."""
    world = World(1, TIMES)
    bucket = in_flight(640)
    first, second = world.start("a"), world.start("b")
    arrivals(world, 50.0, world.now_s + 20, lambda: first.ask([bucket], [1], 0.1))
    world.run(15)
    running = len(first.running)
    for _ in range(700):
        second.ask([bucket], [1], 100.0)
    world.run(1)
    assert 640 - 2 * 10 - running <= len(second.running) <= 640
    world.run(30)
    for _ in range(30):
        second.ask([bucket], [1], 100.0)
        world.run(0.2)
    assert len(second.running) == 640


@pytest.mark.parametrize("seed", range(3))
def test_spare_permits_are_within_the_limit(seed: int) -> None:
    """Where processes keep some at hand, crash and lose messages too, no more requests run than may."""
    world = World(seed, TIMES, loss=0.03)
    bucket = in_flight(130)
    for number in range(3):
        world.start(f"p{number}")
    seen: list[int] = []

    def ask() -> None:
        world.random.choice(world.processes).ask([bucket], [1], world.random.uniform(0.1, 1.4))
        seen.append(world.running(bucket))

    arrivals(world, 200.0, world.now_s + 30, ask)
    world.after(10, lambda: world.processes[0].crash())
    world.run(30)
    assert max(seen) <= 130
    assert max(seen) > 110


def test_memory_is_bounded() -> None:
    """A thousand keys, each used once: a window later neither bank nor process remembers them."""
    world = World(1, TIMES)
    process = world.start("p")
    for number in range(1000):
        process.ask([rpm(10, f"k{number}"), in_flight(5)], [1, 1], 0.1)
        world.run(0.01)
    world.run(TIMES.kept_s + 20)
    process.ask([rpm(10, "last")], [1], 0.1)
    world.run(1)
    assert len(world.bank) <= 2
    assert process.holder.shelves_kept() <= 2


def test_a_bank_that_is_silent_is_told_as_such() -> None:
    """No answer within a second: the requests that wait are refused as unavailable, and later ones asked anew."""
    world = World(1, TIMES, loss=1.0)
    process = world.start("p")
    process.ask([rpm(10)], [1], 0.1)
    world.run(1.5)
    assert world.counts[ClaimState.UNAVAILABLE] == 1
    world.loss = 0.0
    process.ask([rpm(10)], [1], 0.1)
    world.run(0.5)
    assert world.counts[ClaimState.TAKEN] == 1
