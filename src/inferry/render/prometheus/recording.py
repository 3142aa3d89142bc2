"""Recording rules: figures by deployment that alerts and dashboards share, computed once.

Several gateways count their own requests, so these are added; all of them see the same replicas, so of these the
highest counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from inferry.gateway.metrics import BOUNDS_S
from inferry.render.prometheus.objectives import (
    LATENCIES,
    SUCCESS_SHARE,
    LatencyMetric,
    Objective,
    objectives,
)
from inferry.render.shipment import Shipment
from inferry.render.yaml_text import Why

Rule = dict[str, Any]

WINDOWS = ("5m", "30m", "1h", "6h")
FAILED = "failed"
_BY = "sum by (deployment)"


def recording_groups(shipment: Shipment) -> list[dict[str, Any]]:
    """Requests and failures; latencies beside what is promised; replicas, queues, caches; tenants' budgets."""
    return [
        {"name": "inferry-requests", "rules": list(_requests(shipment))},
        *(
            {"name": f"inferry-{metric.key}", "rules": list(_latency(shipment, metric))}
            for metric in LATENCIES
        ),
        {"name": "inferry-replicas", "rules": list(_replicas())},
        {"name": "inferry-tenants", "rules": list(_tenants())},
    ]


def slow(metric: LatencyMetric) -> str:
    """How the rules call the share of streams that are slower than promised."""
    return f"{metric.key}_slow"


def _requests(shipment: Shipment) -> Iterable[Any]:
    for window in WINDOWS:
        rule = _rule(
            f"deployment:inferry_requests:rate{window}",
            f'{_BY} (rate(inferry_requests_total{{deployment!="",ending=~"completed|failed"}}[{window}]))',
        )
        because = (
            "Those that an engine was asked to answer. What the gateway refused and what clients gave up is no "
            "verdict on the engine."
        )
        yield Why(because, rule) if window == WINDOWS[0] else rule
    for window in WINDOWS:
        failed = f'{_BY} (rate(inferry_requests_total{{deployment!="",ending="failed"}}[{window}]))'
        all_of_them = f"deployment:inferry_requests:rate{window}"
        rule = _rule(
            f"deployment:inferry_{FAILED}:ratio_rate{window}",
            f"({failed} or 0 * {all_of_them}) / {all_of_them}",
        )
        because = "A deployment without a failure has no series of failures: 'or 0 *' makes that a zero."
        yield Why(because, rule) if window == WINDOWS[0] else rule
    for number, name in enumerate(shipment.config.deployments):
        rule = _budget(FAILED, name, SUCCESS_SHARE)
        because = f"{SUCCESS_SHARE:.1%} are promised to succeed. That is our default, write yours here: the rest may fail."
        yield Why(because, rule) if number == 0 else rule
    yield _rule(
        "deployment:inferry_tokens:rate5m",
        'sum by (deployment, kind) (rate(inferry_tokens_total{kind=~"prompt|completion"}[5m]))',
    )
    refused = 'code=~"queue_full|queue_timeout|no_ready_replica|model_not_loaded|limits_unavailable"'
    yield Why(
        "Turned away for want of room. Limits and budgets of keys are not in it: these are meant.",
        _rule(
            "deployment:inferry_refused:rate5m",
            f'{_BY} (rate(inferry_errors_total{{deployment!="",{refused}}}[5m]))',
        ),
    )


def _latency(shipment: Shipment, metric: LatencyMetric) -> Iterable[Any]:
    by_limit: dict[float, list[str]] = {}
    promised = objectives(shipment.config, metric)
    for name, objective in promised.items():
        by_limit.setdefault(objective.limit_s, []).append(name)
    for limit_s, names in sorted(by_limit.items()):
        for window in WINDOWS:
            rule = _rule(
                f"deployment:inferry_{slow(metric)}:ratio_rate{window}",
                _slow_share(metric, limit_s, _selector(names), window),
            )
            yield Why(_between(limit_s), rule) if window == WINDOWS[0] else rule
    for name, objective in promised.items():
        yield Why(_promise(objective), _budget(slow(metric), name, objective.share))
    for percent in (50, 95, 99):
        buckets = f'sum by (deployment, le) (rate({metric.histogram}_bucket{{deployment!=""}}[5m]))'
        yield _rule(
            f"deployment:inferry_{metric.key}_seconds:p{percent}_5m",
            f"histogram_quantile({percent / 100:g}, {buckets})",
        )


def _promise(objective: Objective) -> str:
    return (
        f"{objective.share:.4g} of the streams within {objective.limit_s:g} s, since {objective.because}: "
        "the rest may be slower."
    )


def _between(limit_s: float) -> str:
    if limit_s in BOUNDS_S or limit_s > BOUNDS_S[-1]:
        return f"Streams above {min(limit_s, BOUNDS_S[-1]):g} s."
    return (
        f"Streams above {limit_s:g} s, which is between two buckets: taken as evenly spread between them, as "
        "histogram_quantile does."
    )


def _slow_share(metric: LatencyMetric, limit_s: float, selector: str, window: str) -> str:
    def rate(suffix: str, bound: float | None = None) -> str:
        le = "" if bound is None else f',le="{bound}"'
        return f"{_BY} (rate({metric.histogram}_{suffix}{{{selector}{le}}}[{window}]))"

    kept = " + ".join(
        rate("bucket", bound) if weight == 1 else f"{weight:.4g} * {rate('bucket', bound)}"
        for bound, weight in _weights(limit_s)
    )
    return f"clamp_min(1 - ({kept}) / {rate('count')}, 0)"


def _weights(limit_s: float) -> Sequence[tuple[float, float]]:
    """The buckets around the limit, and how much each counts."""
    limit_s = min(limit_s, BOUNDS_S[-1])
    above = next(bound for bound in BOUNDS_S if bound >= limit_s)
    if above == limit_s or above == BOUNDS_S[0]:
        return ((above, 1.0),)
    below = BOUNDS_S[BOUNDS_S.index(above) - 1]
    upper = (limit_s - below) / (above - below)
    return ((below, 1 - upper), (above, upper))


def _selector(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f'deployment="{names[0]}"'
    return 'deployment=~"' + "|".join(name.replace(".", "[.]") for name in names) + '"'


def _replicas() -> Iterable[Any]:
    for suffix, states in (
        ("ready", 'state="ready"'),
        ("failed", 'state=~"failed|suspect"'),
        ("meant", 'state!="stopped"'),
    ):
        yield _rule(
            f"deployment:inferry_replicas_{suffix}:max",
            f"max by (deployment) (sum by (deployment, instance) (inferry_replica_state{{{states}}}))",
        )
    yield Why(
        "At the gateways, and inside of the engines.",
        _rule(
            "deployment:inferry_waiting:sum",
            f"{_BY} (inferry_requests_waiting) + ({_BY} (max by (deployment, replica) "
            f"(inferry_engine_requests_waiting)) or 0 * {_BY} (inferry_requests_waiting))",
        ),
    )
    yield _rule("deployment:inferry_kv_cache_use:max", "max by (deployment) (inferry_engine_kv_cache_use)")
    yield _rule("deployment:inferry_in_flight:sum", f'{_BY} (inferry_requests_in_flight{{deployment!=""}})')


def _tenants() -> Iterable[Any]:
    for number, what in enumerate(("cost", "tokens")):
        per = "max by (tenant, period)"
        rule = _rule(
            "tenant:inferry_budget_used:ratio",
            f"{per} (inferry_tenant_spent_{what}) / {per} (inferry_tenant_budget_{what})",
            {"of": what},
        )
        because = "Every gateway reads the same ledger: the highest, not the sum."
        yield Why(because, rule) if number == 0 else rule


def _budget(kind: str, deployment: str, share: float) -> Rule:
    return _rule(f"deployment:inferry_{kind}:budget", f"vector({1 - share:.4g})", {"deployment": deployment})


def _rule(record: str, expr: str, labels: Mapping[str, str] | None = None) -> Rule:
    rule: Rule = {"record": record, "expr": expr}
    return rule if labels is None else rule | {"labels": dict(labels)}
