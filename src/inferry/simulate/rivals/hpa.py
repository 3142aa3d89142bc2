"""Kubernetes' Horizontal Pod Autoscaler, imitated: its documented formula and its default behavior.

desired = ceil(current x metric / target), no change within a tolerance of 10 %; looks every 15 s; upwards at most 100 %
or 4 pods per 15 s, whichever is more; downwards the highest of what was desired within 300 s.
https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/ (algorithm details, default behavior)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from inferry.policy.scaling.decision import ScalingDecision
from inferry.policy.scaling.observation import Observation

Metric = Callable[[Observation], float | None]
"""A sum over the deployment; None: no figure."""


def queue_depth(seen: Observation) -> float | None:
    """Requests that wait, at gateways and engines."""
    if seen.traffic is None:
        return None
    return seen.traffic.waiting + sum(each.waiting or 0 for each in seen.serving)


def requests_held(seen: Observation) -> float | None:
    """Requests that wait or run: the load in flight."""
    return None if seen.traffic is None else seen.traffic.waiting + seen.traffic.in_flight


@dataclass(frozen=True, slots=True)
class Behavior:
    """`spec.behavior`; the defaults are Kubernetes'."""

    up_stabilize_s: float = 0.0
    up_share: float = 1.0
    up_pods: int = 4
    up_per_s: float = 15.0
    down_stabilize_s: float = 300.0
    down_share: float = 1.0
    down_pods: int = 0
    """The greater of share and pods, as `selectPolicy: Max` has it."""
    down_per_s: float = 15.0


class Steps:
    """What a behavior makes of wishes: stabilized, and not more than so much in so long."""

    def __init__(self, behavior: Behavior) -> None:
        self._behavior = behavior
        self._wished: deque[tuple[float, int]] = deque()
        self._changes: deque[tuple[float, int]] = deque()

    def next(self, now_s: float, current: int, desired: int) -> int:
        behavior = self._behavior
        wished = self._wished
        wished.append((now_s, desired))
        while wished[0][0] <= now_s - max(behavior.up_stabilize_s, behavior.down_stabilize_s, 1e-9):
            wished.popleft()
        least = min((to for at_s, to in wished if at_s > now_s - behavior.up_stabilize_s), default=desired)
        most = max((to for at_s, to in wished if at_s > now_s - behavior.down_stabilize_s), default=desired)
        to = min(max(current, least), most) if least <= most else current
        if to > current:
            added = self._sum(now_s, behavior.up_per_s, 1)
            start = current - added
            to = min(to, max(ceil(start * (1 + behavior.up_share)), start + behavior.up_pods))
            to = max(to, current)
        elif to < current:
            removed = self._sum(now_s, behavior.down_per_s, -1)
            start = current + removed
            to = max(to, min(int(start * (1 - behavior.down_share)), start - behavior.down_pods))
            to = min(to, current)
        if to != current:
            self._changes.append((now_s, to - current))
        return to

    def _sum(self, now_s: float, per_s: float, sign: int) -> int:
        longest_s = max(self._behavior.up_per_s, self._behavior.down_per_s)
        while self._changes and self._changes[0][0] <= now_s - longest_s:
            self._changes.popleft()
        return sum(sign * by for at_s, by in self._changes if at_s > now_s - per_s and sign * by > 0)


class Hpa:
    """On one metric with a target per replica (`AverageValue`)."""

    every_s = 15.0

    def __init__(
        self,
        metric: Metric,
        target: float,
        *,
        low: int = 1,
        high: int = 256,
        tolerance: float = 0.1,
        behavior: Behavior | None = None,
    ) -> None:
        self._metric = metric
        self._target = target
        self._low, self._high = low, high
        self._tolerance = tolerance
        self._steps = Steps(behavior or Behavior())

    def decide(self, seen: Observation) -> ScalingDecision:
        figure = self._metric(seen)
        desired, why = seen.wanted, "no figure"
        if figure is not None:
            ratio = figure / (self._target * max(seen.wanted, 1))
            if abs(ratio - 1) > self._tolerance:
                desired = ceil(figure / self._target)
            why = f"{figure:.0f} together, {self._target:g} per replica: {desired}"
        to = self._steps.next(seen.now_s, seen.wanted, min(max(desired, self._low), self._high))
        return decision(seen, to, "HPA, imitated", why)


def decision(seen: Observation, to: int, rule: str, why: str) -> ScalingDecision:
    """Of any rival."""
    return ScalingDecision(seen.now_s, seen.wanted, to, rule, why, len(seen.serving), seen.coming)
