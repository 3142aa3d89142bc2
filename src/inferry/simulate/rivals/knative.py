"""Knative's pod autoscaler (KPA), imitated: concurrency over a stable and a panic window.

desired = ceil(mean concurrency / target) over 60 s; over 6 s while it panics, which begins when that would be twice the
ready pods or more, never goes down, and ends 60 s after the last reason for it. At most 1000 times the ready pods, and
no less than half of them, at one look; a look every 2 s. The target is 70 % of what a replica may have.
https://knative.dev/docs/serving/autoscaling/kpa-specific/ ; knative/serving, pkg/autoscaler/scaling/autoscaler.go
"""

from __future__ import annotations

from collections import deque
from math import ceil, floor

from inferry.policy.scaling.decision import ScalingDecision
from inferry.policy.scaling.observation import Observation
from inferry.simulate.rivals.hpa import decision, requests_held


class Kpa:
    """On requests that wait or run."""

    every_s = 2.0

    def __init__(
        self,
        concurrency: float,
        *,
        utilization: float = 0.7,
        low: int = 1,
        high: int = 256,
        stable_s: float = 60.0,
        panic_s: float = 6.0,
        panic_threshold: float = 2.0,
        down_delay_s: float = 0.0,
    ) -> None:
        """`concurrency`: what one replica may have at the same time (`containerConcurrency`)."""
        self._target = concurrency * utilization
        self._low, self._high = low, high
        self._stable_s, self._panic_s = stable_s, panic_s
        self._threshold = panic_threshold
        self._down_delay_s = down_delay_s
        self._seen: deque[tuple[float, float]] = deque()
        self._sum = 0.0
        self._panic_since_s: float | None = None
        self._panic_most = 0
        self._wished: deque[tuple[float, int]] = deque()

    def decide(self, seen: Observation) -> ScalingDecision:
        held = requests_held(seen)
        if held is None:
            return decision(seen, seen.wanted, "KPA, imitated", "no figure")
        now = seen.now_s
        self._seen.append((now, held))
        self._sum += held
        while self._seen[0][0] <= now - self._stable_s:
            self._sum -= self._seen.popleft()[1]
        stable = self._sum / len(self._seen)
        latest = [each for at_s, each in list(self._seen)[-8:] if at_s > now - self._panic_s]
        panic = sum(latest) / len(latest)
        ready = max(len(seen.serving), 1)
        least, most = floor(ready / 2), 1000 * ready
        by_stable = min(max(ceil(stable / self._target), least), most)
        by_panic = min(max(ceil(panic / self._target), least), most)
        to = self._panicked(now, by_stable, by_panic, ceil(panic / self._target) / ready)
        to = self._delayed(now, min(max(to, self._low), self._high))
        why = f"{stable:.0f} at the same time within 60 s, {panic:.0f} within 6 s, {self._target:.1f} per replica"
        return decision(seen, to, "KPA, imitated", why)

    def _panicked(self, now: float, by_stable: int, by_panic: int, over: float) -> int:
        if over >= self._threshold:
            self._panic_since_s = now
        elif self._panic_since_s is not None and now > self._panic_since_s + self._stable_s:
            self._panic_since_s, self._panic_most = None, 0
        if self._panic_since_s is None:
            return by_stable
        self._panic_most = max(self._panic_most, by_stable, by_panic)
        return self._panic_most

    def _delayed(self, now: float, to: int) -> int:
        """`scale-down-delay`: the most within it."""
        wished = self._wished
        while wished and wished[-1][1] <= to:
            wished.pop()
        wished.append((now, to))
        while wished[0][0] < now - self._down_delay_s:
            wished.popleft()
        return wished[0][1]
