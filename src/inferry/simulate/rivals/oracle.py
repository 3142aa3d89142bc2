"""Somebody who knows all requests that will come: what no autoscaler can have, and all are measured against.

Replicas are there when they are needed, started a warm-up before, paid from their start, and kept where they would be
needed again before a new one could start. It does not claim to be the best that is possible: how much it spares, and
over how long it takes the mean of the requests, is tried out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import ceil

from inferry.policy.scaling.decision import ScalingDecision
from inferry.policy.scaling.observation import Observation
from inferry.simulate.rivals.hpa import decision

EVERY_S = 10


class Oracle:
    """Knows the schedule that `schedule` makes."""

    every_s = float(EVERY_S)

    def __init__(self, wanted: Sequence[int]) -> None:
        self._wanted = wanted

    def decide(self, seen: Observation) -> ScalingDecision:
        number = min(round(seen.now_s / EVERY_S), len(self._wanted) - 1)
        return decision(seen, self._wanted[number], "oracle", "it knows what comes")


def schedule(
    arrivals: Sequence[float], per_s: float, *, margin: float, mean_s: int, start_s: float, low: int = 1
) -> list[int]:
    """How many to want at each look: the most that are needed from then until those started then serve.

    `arrivals`: of each second; `per_s`: what one replica carries; `margin`: 1.02 spares 2 %; `mean_s`: the requests
    counted together, a multiple of 10 s.
    """
    looks = -(-len(arrivals) // EVERY_S)
    each = max(mean_s // EVERY_S, 1)
    needs: list[int] = []
    for first in range(0, looks, each):
        part = arrivals[first * EVERY_S : (first + each) * EVERY_S]
        rate = sum(part) / len(part)
        needs += [max(ceil(rate * margin / per_s - 1e-9), low)] * min(each, looks - first)
    ahead = ceil(start_s / EVERY_S)
    wanted = [0] * looks
    most: deque[int] = deque()
    for number in range(looks - 1, -1, -1):
        while most and needs[most[-1]] <= needs[number]:
            most.pop()
        most.append(number)
        while most[0] > number + ahead:
            most.popleft()
        wanted[number] = needs[most[0]]
    return wanted
