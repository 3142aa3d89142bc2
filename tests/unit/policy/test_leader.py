"""One leader at a time: by each one's own clock, whatever those clocks say. Virtual time; a row that compares and sets."""

from __future__ import annotations

import random

import pytest

from inferry.core.leader_row import LeaderRow, LeaderWrite
from inferry.policy.leader import LEASE_S, LOOK_S, TRUST_S, Candidacy


class Row:
    """What the store has."""

    def __init__(self) -> None:
        self.row: LeaderRow | None = None

    def swap(self, write: LeaderWrite) -> bool:
        if self.row != write.expected:
            return False
        self.row = write.row
        return True


def look(one: Candidacy, row: Row, now_s: float) -> None:
    write = one.next_write(row.row, now_s)
    if write is None:
        return
    if row.swap(write):
        one.on_written(write, now_s)
    else:
        one.on_refused()


def test_the_first_one_leads_and_stays() -> None:
    """Who comes second waits for as long as the first one says so, and knows who that is."""
    row, first, second = Row(), Candidacy("first"), Candidacy("second")
    for step in range(100):
        look(first, row, step * LOOK_S)
        look(second, row, step * LOOK_S + 1)
        assert first.leads(step * LOOK_S + 1)
        assert not second.leads(step * LOOK_S + 1)
    assert second.holder == "first"


def test_a_leader_that_is_gone_is_followed() -> None:
    """Within the lease and one look of its last sign, in a later term; and never before it would have stopped itself."""
    row, first, second = Row(), Candidacy("first"), Candidacy("second")
    look(first, row, 0)
    now_s = 0.5
    while not second.leads(now_s):
        look(second, row, now_s)
        assert not (first.leads(now_s) and second.leads(now_s))
        now_s += LOOK_S
    assert TRUST_S < now_s <= 0.5 + LEASE_S + 2 * LOOK_S
    assert second.term == first.term + 1


def test_one_that_was_frozen_has_stopped_by_its_own_clock() -> None:
    """It wakes up, and leads no more before it has looked; its next word is refused."""
    row, first, second = Row(), Candidacy("first"), Candidacy("second")
    look(first, row, 0)
    stale = first.next_write(row.row, 1)
    assert stale is not None
    look(second, row, 1)
    look(second, row, 1 + LEASE_S)
    assert second.leads(1 + LEASE_S)
    assert not first.leads(1 + LEASE_S)
    assert not row.swap(stale)
    first.on_refused()
    assert not first.leads(1 + LEASE_S)


def test_one_that_resigns_is_followed_at_once() -> None:
    """Nobody waits for a lease that was given back; who never led gives nothing back."""
    row, first, second = Row(), Candidacy("first"), Candidacy("second")
    look(first, row, 0)
    look(second, row, 0.1)
    assert second.resignation() is None
    write = first.resignation()
    assert write is not None
    assert row.swap(write)
    assert not first.leads(0.2)
    look(second, row, 0.2)
    assert second.leads(0.2)


def test_an_answer_that_was_lost_costs_nothing() -> None:
    """What was written though the store's answer never came is found at the next look, and gone on with."""
    row, first = Row(), Candidacy("first")
    write = first.next_write(None, 0)
    assert write is not None
    assert row.swap(write)
    assert not first.leads(0)
    look(first, row, 2)
    assert first.leads(2)
    assert first.term == 1


@pytest.mark.parametrize("seed", range(20))
def test_never_two_at_once(seed: int) -> None:
    """Four processes with clocks that began anywhere and run up to 2 % apart freeze, lose the store, end and come back
    under new names, with answers that come late: at no moment do two lead, and there is a leader most of the time."""
    rng = random.Random(seed)
    row = Row()
    made = 0

    class Process:
        def __init__(self) -> None:
            nonlocal made
            made += 1
            self.one = Candidacy(f"process {made}")
            self.offset_s, self.speed = rng.uniform(-1e6, 1e6), rng.uniform(0.99, 1.01)
            self.next_s = now_s + rng.uniform(0, LOOK_S)
            self.pending: tuple[LeaderWrite, float] | None = None

        def clock(self) -> float:
            return self.offset_s + now_s * self.speed

        def step(self) -> None:
            if self.pending is not None:
                write, asked_s = self.pending
                self.pending = None
                if row.swap(write):
                    self.one.on_written(write, asked_s)
                else:
                    self.one.on_refused()
            elif rng.random() < 0.9:  # else the store is away
                write_now = self.one.next_write(row.row, self.clock())
                if write_now is not None:
                    self.pending = (write_now, self.clock())
                    self.next_s = now_s + rng.choice((0.01, 0.01, 0.01, 1.0, 5.0))
                    return
            self.next_s = now_s + (LOOK_S if rng.random() < 0.97 else rng.uniform(5, 40))

    now_s = 0.0
    processes = [Process() for _ in range(4)]
    led = 0
    for _ in range(12_000):
        now_s += 0.1
        for index, process in enumerate(processes):
            if process.next_s <= now_s:
                process.step()
            if rng.random() < 0.0005:
                processes[index] = Process()
        leaders = [process.one for process in processes if process.one.leads(process.clock())]
        assert len(leaders) <= 1, f"seed {seed}: two leaders at {now_s:.1f} s"
        led += len(leaders)
    assert led > 5_000, f"seed {seed}: mostly nobody led"
