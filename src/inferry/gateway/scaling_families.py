"""Autoscaling for Prometheus: how many replicas are wanted, within which bounds, what was decided, and which rules tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from inferry.fleet.scaler_watch import ScalerState

Decisions = Mapping[tuple[str, str, str], int]
"""By deployment, direction (`up`, `down`) and rule: changes since the start of this process."""


def scaling_families(states: Iterable[ScalerState], decisions: Decisions) -> Iterable[Metric]:
    """Of all deployments that are scaled by their file; nothing where none is."""
    wanted = GaugeMetricFamily(
        "inferry_scaling_wanted_replicas",
        "Replicas that a deployment is to have now.",
        labels=("deployment",),
    )
    low = GaugeMetricFamily("inferry_scaling_min", "The fewest, as the file says.", labels=("deployment",))
    high = GaugeMetricFamily("inferry_scaling_max", "The most, as the file says.", labels=("deployment",))
    by_hand = GaugeMetricFamily(
        "inferry_scaling_by_hand", "1 while a number by hand rests the scaling.", labels=("deployment",)
    )
    alert = GaugeMetricFamily(
        "inferry_scaling_alert", "1 while a rule that only tells applies.", labels=("deployment", "rule")
    )
    for state in states:
        name = (state.deployment,)
        wanted.add_metric(name, state.wanted)
        low.add_metric(name, state.scaling.min)
        high.add_metric(name, state.scaling.max)
        by_hand.add_metric(name, float(state.by_hand is not None))
        applies = set() if state.decision is None else {each.rule for each in state.decision.alerts}
        for number, rule in enumerate(state.scaling.rules):
            if rule.alert:
                label = f"rules[{number}] {rule.metric}"
                alert.add_metric((state.deployment, label), float(label in applies))
    changes = CounterMetricFamily(
        "inferry_scaling_decisions",
        "Changes of the number of replicas that were decided and begun.",
        labels=("deployment", "direction", "rule"),
    )
    for key, count in decisions.items():
        changes.add_metric(key, count)
    yield from (wanted, low, high, by_hand, alert, changes)
