"""What an HPA or a KEDA ScaledObject would do with given metrics: reckoned, nothing is scaled.

The formula is the one in the documentation of the HorizontalPodAutoscaler: the ceiling of replicas times value over
target, nothing within a tenth of the target, the largest of all metrics; KEDA makes such an HPA of its triggers, and
decides alone between none and one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from tests.standins.kubernetes.refusal import Json
from tests.standins.kubernetes.schemas import quantity

TOLERANCE = 0.1


class NoSuchMetric(LookupError):
    """The object scales on something that nobody exports."""


def _value(metrics: Mapping[str, float], name: str) -> float:
    if name not in metrics:
        raise NoSuchMetric(f"nothing exports {name!r}; there is: {', '.join(sorted(metrics)) or 'nothing'}")
    return metrics[name]


def _by_ratio(replicas: int, ratio: float) -> int:
    return replicas if abs(ratio - 1) <= TOLERANCE else math.ceil(replicas * ratio)


def _by_target(replicas: int, value: float, target: Json) -> int:
    """`value` is the sum over pods for AverageValue, the figure itself for Value."""
    if target["type"] == "AverageValue":
        wanted = quantity(target["averageValue"])
        now_each = value / replicas if replicas else math.inf
        within = abs(now_each / wanted - 1) <= TOLERANCE
        return replicas if within else math.ceil(value / wanted)
    return _by_ratio(replicas, value / quantity(target["value"]))


def hpa_wants(hpa: Json, metrics: Mapping[str, float], replicas: int) -> int:
    """Replicas that an autoscaling/v2 HPA asks for.

    `metrics` has a figure for each name: of external and object metrics the figure itself (the sum over pods where the
    target is an AverageValue), of pods metrics the average of a pod, of resources their use in percent of what was asked.
    """
    spec = hpa["spec"]
    wanted = []
    for metric in spec["metrics"]:
        kind = metric["type"]
        entry = metric[kind[0].lower() + kind[1:]]
        if kind in {"Resource", "ContainerResource"}:
            ratio = _value(metrics, entry["name"]) / entry["target"]["averageUtilization"]
            wanted.append(_by_ratio(replicas, ratio))
            continue
        value = _value(metrics, entry["metric"]["name"])
        target = entry["target"]
        if kind == "Pods":
            wanted.append(_by_ratio(replicas, value / quantity(target["averageValue"])))
        else:
            wanted.append(_by_target(replicas, value, target))
    least, most = int(spec.get("minReplicas", 1)), int(spec["maxReplicas"])
    return max(min(max(wanted), most), least)


def scaled_object_wants(scaled: Json, metrics: Mapping[str, float], replicas: int) -> int:
    """Replicas that a KEDA ScaledObject with Prometheus triggers asks for; `metrics` has a figure for each query."""
    spec = scaled["spec"]
    least, most = int(spec.get("minReplicaCount", 0)), int(spec.get("maxReplicaCount", 100))
    wanted, active = [], False
    for trigger in spec["triggers"]:
        if trigger["type"] != "prometheus":
            raise NoSuchMetric(f"a trigger of type {trigger['type']!r}: only prometheus is reckoned here")
        metadata = trigger["metadata"]
        value = _value(metrics, metadata["query"])
        active = active or value > float(metadata.get("activationThreshold", 0))
        kind = trigger.get("metricType", "AverageValue")
        word = "averageValue" if kind == "AverageValue" else "value"
        wanted.append(_by_target(max(1, replicas), value, {"type": kind, word: metadata["threshold"]}))
    if not active and least == 0:
        return int(spec.get("idleReplicaCount", 0))
    return max(min(max(wanted), most), least, 1 if active else 0)
