"""Gateway processes, hosts and a bank on virtual time, with crashes, delays and lost messages, from one seed."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from inferry.core.leases import Bucket, Grant, Times
from inferry.policy.lease_bank import LeaseBank
from inferry.policy.lease_holder import LeaseHolder, Message
from inferry.policy.lease_shelf import Claim, ClaimState

TICK_S = 0.05
WALL_S = 1_767_225_600.0


class Request(Claim):
    """A claim with what the request will do."""

    __slots__ = ("runs_s", "unused")

    runs_s: float
    unused: int


class Process:
    """One gateway process: its holder, and the requests that it runs."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.holder = LeaseHolder(world.times)
        self.alive = True
        self.is_cut_off = False
        self.running: set[Claim] = set()
        self.last_delivery_s = 0.0
        world.after(world.random.uniform(0, TICK_S), self.tick)

    def ask(self, buckets: Sequence[Bucket], amounts: Sequence[int], runs_s: float, unused: int = 0) -> None:
        if not self.alive:
            return
        shelves = [self.holder.shelf(bucket) for bucket in buckets]
        claim = Request(shelves, amounts)
        claim.runs_s, claim.unused = runs_s, unused
        self.holder.take(claim, self.world.now_s)
        if claim.state is ClaimState.WAITING:
            self.world.waited += 1
            self.send(self.holder.message(self.world.now_s))
        else:
            self.decided([claim])

    def decided(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            self.world.counts[claim.state] += 1
            if claim.state is ClaimState.TAKEN:
                self.running.add(claim)
                for shelf, amount in zip(claim.shelves, claim.amounts, strict=True):
                    self.world.admitted.setdefault(shelf.bucket.id, []).append((self.world.now_s, amount))
                assert isinstance(claim, Request)
                self.world.after(claim.runs_s, partial(self.finish, claim))

    def finish(self, claim: Request) -> None:
        if not self.alive:
            return
        unused = claim.unused
        self.running.discard(claim)
        for shelf, amount in zip(claim.shelves, claim.amounts, strict=True):
            if shelf.is_permits:
                shelf.put_back(1)
            elif unused and amount > unused:
                self.holder.settle(claim, shelf, unused)

    def tick(self) -> None:
        if self.alive:
            message, lost = self.holder.tick(self.world.now_s)
            self.decided(lost)
            self.send(message)
            self.world.after(TICK_S, self.tick)

    def send(self, message: Message | None) -> None:
        """To the bank and back; order is kept, messages may be lost on either way."""
        if message is None:
            return
        world = self.world
        world.messages += 1
        if self.is_cut_off or world.random.random() < world.loss:
            return

        def at_bank() -> None:
            grants = world.bank.handle(
                self.name, message.wishes, message.returns, world.now_s, WALL_S + world.now_s
            )
            if world.random.random() >= world.loss:
                world.after(world.delay_s(), lambda: self.on_grants(message, grants))

        self.last_delivery_s = max(self.last_delivery_s, world.now_s + world.delay_s())
        world.at(self.last_delivery_s, at_bank)

    def on_grants(self, message: Message, grants: Sequence[Grant]) -> None:
        if self.alive:
            self.decided(self.holder.on_grants(message, grants, self.world.now_s))
            self.send(self.holder.message(self.world.now_s))

    def crash(self) -> None:
        """Dies at once; the bank hears that its link closed."""
        self.alive = False
        self.running.clear()
        self.world.after(0.01, lambda: self.world.bank.forget(self.name))


class World:
    """Virtual time and everything on it."""

    def __init__(self, seed: int, times: Times, loss: float = 0.0, slow: float = 0.0) -> None:
        self.random = Random(seed)
        self.times = times
        self.loss = loss
        self.slow = slow
        self.now_s = 100.0
        self.bank = LeaseBank(times)
        self.admitted: dict[str, list[tuple[float, int]]] = {}
        self.counts = dict.fromkeys(ClaimState, 0)
        self.messages = 0
        self.waited = 0
        """Requests that were not answered at once."""
        self.processes: list[Process] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def delay_s(self) -> float:
        """Mostly below a millisecond; sometimes long enough for leases to end on the way."""
        if self.random.random() < self.slow:
            return self.random.uniform(0.1, 2 * self.times.lease_s)
        return self.random.uniform(0.0001, 0.002)

    def start(self, name: str) -> Process:
        process = Process(self, name)
        self.processes.append(process)
        return process

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self.at(self.now_s + seconds, call)

    def at(self, when_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when_s, next(self._order), call))

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self._due and self._due[0][0] <= end_s:
            self.now_s, _, call = heapq.heappop(self._due)
            call()
        self.now_s = end_s

    def worst_window(self, bucket: Bucket) -> int:
        """The most that was admitted in any `window_s`, wherever it begins."""
        return worst_window(self.admitted.get(bucket.id, []), self.times.window_s)

    def running(self, bucket: Bucket) -> int:
        return sum(
            1
            for process in self.processes
            for claim in process.running
            if any(shelf.bucket.id == bucket.id for shelf in claim.shelves)
        )


def worst_window(admitted: Sequence[tuple[float, int]], window_s: float) -> int:
    """The largest sum in any half-open interval of `window_s`: one that begins at an event."""
    worst = total = start = 0
    for when_s, units in admitted:
        total += units
        while admitted[start][0] <= when_s - window_s:
            total -= admitted[start][1]
            start += 1
        worst = max(worst, total)
    return worst
