"""The dashboards: an overview and one of a deployment; what tenants cost and the GPUs have files of their own."""

from __future__ import annotations

from inferry.render.grafana.gpu_dashboard import gpu_dashboard
from inferry.render.grafana.panels import Panel, Query, View, dashboard, variable
from inferry.render.grafana.tenants_dashboard import tenants_dashboard
from inferry.render.shipment import Shipment

_CHOSEN = 'deployment=~"$deployment"'


def all_dashboards(shipment: Shipment) -> dict[str, Panel]:
    """By file name. The GPUs' only where there are any."""
    found = {
        "overview": _overview(),
        "deployment": _deployment(),
        "tenants": tenants_dashboard(shipment.config.ledger.currency),
    }
    if any(each.plan.needs.gpus for each in shipment.engines):
        found["gpus"] = gpu_dashboard()
    return found


def _overview() -> Panel:
    return dashboard(
        "inferry-overview",
        "Inferry: overview",
        "All deployments beside each other.",
        (
            View(
                "Deployments down",
                [
                    Query(
                        "count(deployment:inferry_replicas_ready:max == 0 and on (deployment) "
                        "deployment:inferry_replicas_meant:max > 0) or vector(0)"
                    )
                ],
                kind="stat",
                width=4,
                height=4,
                bad_above=1,
                about="Meant to serve, and without a replica that does.",
            ),
            View(
                "Alerts",
                [Query('count(ALERTS{alertname=~"Inferry.*",alertstate="firing"}) or vector(0)')],
                kind="stat",
                width=4,
                height=4,
                bad_above=1,
            ),
            View(
                "Requests per second",
                [Query("sum(deployment:inferry_requests:rate5m) or vector(0)")],
                "reqps",
                kind="stat",
                width=4,
                height=4,
            ),
            View(
                "Tokens per second, generated",
                [Query('sum(deployment:inferry_tokens:rate5m{kind="completion"}) or vector(0)')],
                kind="stat",
                width=4,
                height=4,
            ),
            View(
                "Requests waiting",
                [Query("sum(deployment:inferry_waiting:sum) or vector(0)")],
                kind="stat",
                width=4,
                height=4,
                bad_above=50,
            ),
            View(
                "Certificate ends in",
                [Query("min(inferry_certificate_not_after_timestamp_seconds) - time()")],
                "s",
                kind="stat",
                width=4,
                height=4,
                about="Of gateway.tls; empty without one.",
            ),
            View("Requests", [Query("deployment:inferry_requests:rate5m", "{{deployment}}")], "reqps"),
            View(
                "Failed",
                [Query("deployment:inferry_failed:ratio_rate5m", "{{deployment}}")],
                "percentunit",
                bad_above=0.005,
            ),
            View("Refused", [Query("deployment:inferry_refused:rate5m", "{{deployment}}")], "reqps"),
            View(
                "Time to first token, 95th percentile",
                [Query("deployment:inferry_ttft_seconds:p95_5m", "{{deployment}}")],
                "s",
            ),
            View(
                "Time between tokens, 95th percentile",
                [Query("deployment:inferry_itl_seconds:p95_5m", "{{deployment}}")],
                "s",
            ),
            View("Waiting", [Query("deployment:inferry_waiting:sum", "{{deployment}}")]),
            View(
                "Replicas ready",
                [Query("deployment:inferry_replicas_ready:max", "{{deployment}}")],
            ),
            View(
                "KV cache, fullest engine",
                [Query("deployment:inferry_kv_cache_use:max", "{{deployment}}")],
                "percentunit",
                most=1,
                bad_above=0.95,
            ),
            View(
                "Behind: ledger",
                [Query("max by (instance) (inferry_ledger_behind_seconds)", "{{instance}}")],
                "s",
                about="Since journals were last loaded into the ledger.",
                bad_above=300,
            ),
        ),
    )


def _deployment() -> Panel:
    by_replica = "max by (deployment, replica)"
    return dashboard(
        "inferry-deployment",
        "Inferry: deployment",
        "Promises, load and replicas of the deployments that are chosen.",
        (
            View(
                "Budget burnt, errors",
                [
                    Query(
                        f"deployment:inferry_failed:ratio_rate6h{{{_CHOSEN}}} / on (deployment) "
                        "deployment:inferry_failed:budget",
                        "{{deployment}}",
                    )
                ],
                about="How many times as fast as a month allows, over six hours. 1: just kept.",
                bad_above=1,
            ),
            View(
                "Budget burnt, first token",
                [
                    Query(
                        f"deployment:inferry_ttft_slow:ratio_rate6h{{{_CHOSEN}}} / on (deployment) "
                        "deployment:inferry_ttft_slow:budget",
                        "{{deployment}}",
                    )
                ],
                bad_above=1,
            ),
            View(
                "Budget burnt, time between tokens",
                [
                    Query(
                        f"deployment:inferry_itl_slow:ratio_rate6h{{{_CHOSEN}}} / on (deployment) "
                        "deployment:inferry_itl_slow:budget",
                        "{{deployment}}",
                    )
                ],
                bad_above=1,
            ),
            View(
                "Time to first token",
                [
                    Query(f"deployment:inferry_ttft_seconds:p{percent}_5m{{{_CHOSEN}}}", name)
                    for percent, name in ((50, "{{deployment}} p50"), (95, "{{deployment}} p95"))
                ],
                "s",
            ),
            View(
                "Time between tokens",
                [
                    Query(f"deployment:inferry_itl_seconds:p{percent}_5m{{{_CHOSEN}}}", name)
                    for percent, name in ((50, "{{deployment}} p50"), (95, "{{deployment}} p95"))
                ],
                "s",
            ),
            View(
                "Whole request, 95th percentile",
                [
                    Query(
                        "histogram_quantile(0.95, sum by (deployment, route, le) "
                        f"(rate(inferry_request_duration_seconds_bucket{{{_CHOSEN}}}[5m])))",
                        "{{deployment}} {{route}}",
                    )
                ],
                "s",
            ),
            View(
                "How requests ended",
                [
                    Query(
                        "sum by (deployment, ending, status) "
                        f"(rate(inferry_requests_total{{{_CHOSEN}}}[5m]))",
                        "{{deployment}} {{ending}} {{status}}",
                    )
                ],
                "reqps",
            ),
            View(
                "Errors by code",
                [
                    Query(
                        f"sum by (deployment, code) (rate(inferry_errors_total{{{_CHOSEN}}}[5m]))",
                        "{{deployment}} {{code}}",
                    )
                ],
                "reqps",
            ),
            View(
                "Tokens per second",
                [Query(f"deployment:inferry_tokens:rate5m{{{_CHOSEN}}}", "{{deployment}} {{kind}}")],
            ),
            View(
                "Replicas",
                [
                    Query(f"deployment:inferry_replicas_ready:max{{{_CHOSEN}}}", "{{deployment}} ready"),
                    Query(
                        f"max by (deployment) (inferry_scaling_wanted_replicas{{{_CHOSEN}}})",
                        "{{deployment}} wanted",
                    ),
                    Query(
                        f"max by (deployment) (inferry_scaling_max{{{_CHOSEN}}})", "{{deployment}} at most"
                    ),
                ],
            ),
            View(
                "Requests at each replica",
                [Query(f"sum by (replica) (inferry_requests_in_flight{{{_CHOSEN}}})", "{{replica}}")],
            ),
            View(
                "Waiting",
                [
                    Query(
                        f"sum by (deployment) (inferry_requests_waiting{{{_CHOSEN}}})",
                        "{{deployment}} at the gateways",
                    ),
                    Query(f"{by_replica} (inferry_engine_requests_waiting{{{_CHOSEN}}})", "{{replica}}"),
                ],
            ),
            View(
                "Waited for a turn, 95th percentile",
                [
                    Query(
                        "histogram_quantile(0.95, sum by (deployment, le) "
                        f"(rate(inferry_queue_seconds_bucket{{{_CHOSEN}}}[5m])))",
                        "{{deployment}}",
                    )
                ],
                "s",
            ),
            View(
                "KV cache",
                [Query(f"{by_replica} (inferry_engine_kv_cache_use{{{_CHOSEN}}})", "{{replica}}")],
                "percentunit",
                most=1,
                bad_above=0.95,
            ),
            View(
                "Restarts, resumed streams, tries again (per hour)",
                [
                    Query(
                        f"sum by (deployment) (increase(inferry_replica_restarts_total{{{_CHOSEN}}}[1h]))",
                        "{{deployment}} restarts",
                    ),
                    Query(
                        f"sum by (deployment) (increase(inferry_resumes_total{{{_CHOSEN}}}[1h]))",
                        "{{deployment}} resumed",
                    ),
                    Query(
                        f"sum by (deployment) (increase(inferry_not_resumed_total{{{_CHOSEN}}}[1h]))",
                        "{{deployment}} not resumed",
                    ),
                    Query(
                        f"sum by (deployment) (increase(inferry_retries_total{{{_CHOSEN}}}[1h]))",
                        "{{deployment}} tried again",
                    ),
                ],
            ),
            View(
                "States now",
                [Query(f"max by (deployment, replica, state) (inferry_replica_state{{{_CHOSEN}}}) == 1")],
                kind="table",
                width=24,
            ),
        ),
        [variable("deployment", "Deployment", "inferry_replica_state")],
    )
