"""More and fewer engines by load, decided by the cluster: an HPA, or KEDA's ScaledObject.

Both keep the requests per replica, under way and waiting, where the deployment's own rules have their threshold. What
they can't say (percentiles, error rates that only alert, SLOs ahead of the load) stays with Inferry's own scaling.
HPA: kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale; KEDA: keda.sh/docs, prometheus scaler.
"""

from __future__ import annotations

import math
from typing import Any

from inferry.render.kubernetes.engines import COMPONENT
from inferry.render.kubernetes.naming import engine_name, kubernetes_object
from inferry.render.shipment import Shipment, ShippedEngine
from inferry.render.yaml_text import Data, Why

OPEN_REQUESTS = "inferry_requests_open"
"""The HPA's metric, as prometheus-adapter gives it."""
PER_REPLICA = 16
"""Open requests per replica, where the file says nothing."""
_ONE_FIGHTS = "Take this or the other one, never both: two scalers fight."


def is_scaled(engine: ShippedEngine) -> bool:
    """Whether the file wants that."""
    return engine.deployment.scaling is not None


def open_requests(deployment: str) -> str:
    """PromQL: requests of a deployment that are under way or wait."""
    return (
        f'sum(inferry_requests_in_flight{{deployment="{deployment}"}})'
        f' + sum(inferry_requests_waiting{{deployment="{deployment}"}})'
    )


def per_replica(engine: ShippedEngine) -> float:
    """How many of them one replica shall have: by the rule on `running`, or half of its places."""
    scaling = engine.deployment.scaling
    for rule in () if scaling is None else scaling.rules:
        if (
            rule.metric == "running"
            and (bound := rule.target or rule.above) is not None
            and (rule.add or rule.target)
        ):
            return bound
    parallel = getattr(engine.deployment, "parallel", None)
    return max(1, parallel // 2) if isinstance(parallel, int) else PER_REPLICA


def _bounds(engine: ShippedEngine) -> tuple[int, int]:
    scaling = engine.deployment.scaling
    assert scaling is not None
    return scaling.min, scaling.max


def horizontal_pod_autoscaler(shipment: Shipment, engine: ShippedEngine) -> Data:
    """`autoscaling/v2`, by an external metric."""
    least, most = _bounds(engine)
    metric = {
        "metric": {"name": OPEN_REQUESTS, "selector": {"matchLabels": {"deployment": engine.name}}},
        "target": {
            "type": "AverageValue",
            "averageValue": Why(
                "Requests under way and waiting, per replica.", _quantity(per_replica(engine))
            ),
        },
    }
    spec = {
        "scaleTargetRef": _target(shipment, engine),
        "minReplicas": Why("The HPA knows no zero.", max(1, least)),
        "maxReplicas": most,
        "metrics": [{"type": "External", "external": metric}],
        "behavior": _behavior(engine),
    }
    return kubernetes_object(
        shipment, "HorizontalPodAutoscaler", "autoscaling/v2", engine_name(shipment, engine.name), COMPONENT,
        {"spec": spec}, engine.name,
    )  # fmt: skip


def scaled_object(shipment: Shipment, engine: ShippedEngine, prometheus_url: str) -> Data:
    """KEDA's, by a query to Prometheus."""
    least, most = _bounds(engine)
    spec: dict[str, Any] = {
        "scaleTargetRef": {
            "kind": "StatefulSet",
            "apiVersion": "apps/v1",
            "name": engine_name(shipment, engine.name),
        },
        "minReplicaCount": least,
        "maxReplicaCount": most,
        "pollingInterval": math.ceil(max(1.0, _every_s(engine))),
        "cooldownPeriod": 300,
        "fallback": Why(
            "Prometheus away: it stays as it was, instead of shrinking for want of figures.",
            {"failureThreshold": 3, "replicas": max(1, engine.replicas)},
        ),
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(engine)}},
        "triggers": [
            {
                "type": "prometheus",
                "metadata": {
                    "serverAddress": prometheus_url,
                    "query": open_requests(engine.name),
                    "threshold": _quantity(per_replica(engine)),
                    "ignoreNullValues": Why("No answer is not no load.", "false"),
                },
            }
        ],
    }
    return kubernetes_object(
        shipment, "ScaledObject", "keda.sh/v1alpha1", engine_name(shipment, engine.name), COMPONENT,
        {"spec": spec}, engine.name, {"inferry.dev/note": _ONE_FIGHTS},
    )  # fmt: skip


def adapter_values(shipment: Shipment) -> Data:
    """Values for the Helm chart of prometheus-adapter, which gives the HPA its metric."""
    query = "sum(inferry_requests_in_flight{<<.LabelMatchers>>}) + sum(inferry_requests_waiting{<<.LabelMatchers>>})"
    rule = {
        "seriesQuery": 'inferry_requests_waiting{deployment!=""}',
        "resources": {"overrides": {"namespace": {"resource": "namespace"}}},
        "name": {"as": OPEN_REQUESTS},
        "metricsQuery": Why("Labels are the HPA's selector: deployment.", query),
    }
    return {"rules": {"external": [rule]}}


def _every_s(engine: ShippedEngine) -> float:
    scaling = engine.deployment.scaling
    return 10.0 if scaling is None else scaling.every_s


def _target(shipment: Shipment, engine: ShippedEngine) -> Data:
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": engine_name(shipment, engine.name)}


def _behavior(engine: ShippedEngine) -> Data:
    scaling = engine.deployment.scaling
    assert scaling is not None
    found: dict[str, Any] = {}
    for direction, move in (("scaleUp", scaling.up), ("scaleDown", scaling.down)):
        # The HPA takes 1800 s at most for a period, and 3600 s to stabilize.
        period_s = min(1800, max(15, math.ceil(move.cooldown_s)))
        found[direction] = {
            "stabilizationWindowSeconds": min(3600, math.ceil(move.stabilize_s)),
            "policies": [
                {"type": "Percent", "value": 100, "periodSeconds": period_s}
                if direction == "scaleUp"
                else {"type": "Pods", "value": 1, "periodSeconds": period_s}
            ],
        }
    return found


def _quantity(number: float) -> str:
    """As both read it: whole, or thousandths."""
    return str(int(number)) if number == int(number) else f"{round(number * 1000)}m"
