"""A target rule: as many replicas as keep the metric at its target.

As Kubernetes' HorizontalPodAutoscaler: `ceil(sum / target)` for sums, `ceil(replicas x mean / target)` for means, and
no change within the tolerance. Replicas on the way count as there, without load. Worked: 4 replicas at 0.9 for a
target of 0.6 make 6; with 2 on the way already, 6 x 0.6 is the target, and nothing changes.
https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details
"""

from __future__ import annotations

from math import ceil

from inferry.core.scaling_settings import LATENCIES, RATES, ScalingRule
from inferry.policy.scaling.figures import replicas, told
from inferry.policy.scaling.observation import Observation
from inferry.policy.scaling.signals import Signals, Value, input_name_of, name_of
from inferry.policy.scaling.vote import Stance, Vote, no_figure, one_stance

SUMS = ("queue_depth", *RATES)
"""Of the whole deployment: the target is so much per replica."""


class TargetRule:
    """One rule with `target`. It needs no memory of its own."""

    def __init__(self, label: str, rule: ScalingRule) -> None:
        assert rule.target is not None
        self.label = label
        self.rule = rule
        self.target = rule.target
        self._name = name_of(rule)
        self.input_name = input_name_of(rule)

    def vote(self, seen: Observation, signals: Signals) -> Vote:
        value = self.read(signals)
        wanted = seen.wanted
        if value.number is None:
            return no_figure(self.label, wanted, f"no figure: {value.but}")
        serving = len(seen.serving)
        load = value.number if self.rule.metric in SUMS else value.number * serving
        there = serving + seen.coming
        because = self._because(value.number, load, seen)
        stays = Stance(wanted, wanted)
        if there and abs(load / (there * self.target) - 1) <= self.rule.tolerance:
            because += f", within {self.rule.tolerance:g} of {told(self.target)}"
            return one_stance(self.label, stays, because)
        to = ceil(load / self.target - 1e-9)
        because += f", for {told(self.target)} each: {replicas(to)}"
        if to > wanted and self.rule.metric in LATENCIES:
            now = signals.since_backlog(self.rule.metric, self.rule.over_s, self.rule.share)
            if now is not None and (now.number is None or now.number <= self.target):
                why = now.but or f"{told(now.number or 0.0)} of those that did not wait, and none waits now"
                return one_stance(self.label, stays, f"{because}, but {why}")
        fit = value.ups if to > wanted else value.downs if to < wanted else True
        if not fit:
            return one_stance(self.label, stays, f"{because}, but {value.but}")
        return one_stance(self.label, Stance(to, min(to, wanted)), because)

    def read(self, signals: Signals) -> Value:
        """The metric, as of the latest look."""
        return signals.value(self.rule.metric, self.rule.over_s, self.rule.share)

    def _because(self, number: float, load: float, seen: Observation) -> str:
        way = f" and {seen.coming} on the way" if seen.coming else ""
        if self.rule.metric in SUMS:
            return f"{self._name} is {told(load)} with {replicas(len(seen.serving))}{way}"
        return f"{self._name} is {told(number)} at {replicas(len(seen.serving))}{way}"
