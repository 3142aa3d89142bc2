"""A queue of known capacity: Poisson or even arrivals, so many servers, each answer takes as long as the other. Pure."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cache
from random import Random

from inferry.bench.capacity import Found, Goal, Result, Search, Trial, design_effect
from inferry.bench.steady import mann_kendall

WARMUP = 0.2
"""Of a trial, before it, in which the queue fills."""


@dataclass(frozen=True)
class Queue:
    """M/D/c, or D/D/c. Good is an answer within `limit_s` of its request."""

    servers: int
    service_s: float
    limit_s: float
    even: bool = False

    def waits(self, rate: float, duration_s: float, chance: Random) -> list[float]:
        """Seconds that each request of a trial took, in their order; it begins with nobody there."""
        free = [0.0] * self.servers
        warmup_s = WARMUP * duration_s
        took, now = list[float](), 0.0
        while True:
            now += 1 / rate if self.even else chance.expovariate(rate)
            if now >= warmup_s + duration_s:
                return took
            end = max(now, free[0]) + self.service_s
            heapq.heapreplace(free, end)
            if now >= warmup_s:
                took.append(end - now)

    @cache  # noqa: B019 - a handful of frozen queues
    def edge(self, share: float) -> float:
        """The highest rate at which `share` of all requests are good, by long trials."""
        low, high = 0.1 * self.servers / self.service_s, self.servers / self.service_s
        while high / low > 1.001:
            rate = (low * high) ** 0.5
            took = self.waits(rate, 200_000 / rate, Random(0))
            good = sum(each <= self.limit_s for each in took)
            low, high = (rate, high) if good >= share * len(took) else (low, rate)
        return low


def search(queue: Queue, goal: Goal, seed: int) -> tuple[Found, int]:
    """What a search finds, and in how many trials."""
    chance, looking, trials = Random(seed), Search(goal), 0
    while isinstance(wanted := looking.next(), Trial):
        trials += 1
        took = queue.waits(wanted.rate, wanted.duration_s, chance)
        good = [each <= queue.limit_s for each in took]
        result = Result(
            good=sum(good),
            sent=len(good),
            rate=len(good) / wanted.duration_s,
            design_effect=design_effect(good),
            stationary=is_stationary(took),
        )
        looking.tell(wanted, result)
    return wanted, trials


def is_stationary(took: list[float]) -> bool:
    size = len(took) // 20
    if size < 5:
        return True
    batches = [sorted(took[number * size : (number + 1) * size])[size // 2] for number in range(20)]
    return not (mann_kendall(batches) > 2.8 and batches[-1] > 1.2 * batches[0])
