"""The dashboards: an overview, one deployment, what tenants cost, and the GPUs."""

from __future__ import annotations

from inferry.render.grafana.panels import Panel, Query, View, dashboard, variable
from inferry.render.shipment import Shipment

_CHOSEN = 'deployment=~"$deployment"'
_TENANT = 'tenant=~"$tenant"'


def all_dashboards(shipment: Shipment) -> dict[str, Panel]:
    """By file name. The GPUs' only where there are any."""
    found = {
        "overview": _overview(),
        "deployment": _deployment(),
        "tenants": _tenants(shipment.config.ledger.currency),
    }
    if any(each.plan.needs.gpus for each in shipment.engines):
        found["gpus"] = _gpus()
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


def _tenants(currency: str) -> Panel:
    per_tenant = "max by (tenant)"
    money = f"currency{currency}"
    return dashboard(
        "inferry-tenants",
        "Inferry: tenants and cost",
        "What tenants spent in this UTC day and month, by the ledger, and what is left of their budgets.",
        (
            View(
                "Cost this month",
                [Query(f'sum({per_tenant} (inferry_tenant_spent_cost{{period="month",{_TENANT}}}))')],
                money,
                kind="stat",
                width=6,
                height=5,
            ),
            View(
                "Cost today",
                [Query(f'sum({per_tenant} (inferry_tenant_spent_cost{{period="day",{_TENANT}}}))')],
                money,
                kind="stat",
                width=6,
                height=5,
            ),
            View(
                "Tokens today",
                [Query(f'sum({per_tenant} (inferry_tenant_spent_tokens{{period="day",{_TENANT}}}))')],
                kind="stat",
                width=6,
                height=5,
            ),
            View(
                "Cost per hour, all tenants",
                [Query("sum(rate(inferry_cost_total[1h])) * 3600")],
                money,
                kind="stat",
                width=6,
                height=5,
            ),
            View(
                "Cost of the month",
                [
                    Query(
                        f'{per_tenant} (inferry_tenant_spent_cost{{period="month",{_TENANT}}})',
                        "{{tenant}}",
                    )
                ],
                money,
                width=12,
            ),
            View(
                "Tokens of the day",
                [
                    Query(
                        f'{per_tenant} (inferry_tenant_spent_tokens{{period="day",{_TENANT}}})',
                        "{{tenant}}",
                    )
                ],
                width=12,
            ),
            View(
                "Budgets used",
                [Query(f"tenant:inferry_budget_used:ratio{{{_TENANT}}}", "{{tenant}} {{of}} {{period}}")],
                "percentunit",
                kind="gauge",
                width=12,
                bad_above=0.9,
                most=1,
            ),
            View(
                "Cost per hour by deployment",
                [Query("sum by (deployment) (rate(inferry_cost_total[1h])) * 3600", "{{deployment}}")],
                money,
                width=12,
            ),
            View(
                "Most expensive tenants this month",
                [Query(f'topk(20, {per_tenant} (inferry_tenant_spent_cost{{period="month",{_TENANT}}}))')],
                money,
                kind="table",
                width=24,
            ),
        ),
        [variable("tenant", "Tenant", "inferry_tenant_spent_cost")],
    )


def _gpus() -> Panel:
    name = "{{Hostname}} {{gpu}}"
    return dashboard(
        "inferry-gpus",
        "Inferry: GPUs",
        "From NVIDIA's DCGM exporter, and what engines say of their own GPUs.",
        (
            View("Busy", [Query("DCGM_FI_DEV_GPU_UTIL / 100", name)], "percentunit", most=1),
            View(
                "Memory used",
                [Query("DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)", name)],
                "percentunit",
                most=1,
            ),
            View("Temperature", [Query("DCGM_FI_DEV_GPU_TEMP", name)], "celsius", bad_above=87),
            View("Power", [Query("DCGM_FI_DEV_POWER_USAGE", name)], "watt"),
            View(
                "Uncorrectable memory errors",
                [Query("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", name)],
                bad_above=1,
            ),
            View("Last XID error", [Query("DCGM_FI_DEV_XID_ERRORS", name)], bad_above=1),
            View(
                "Rows that can't be replaced",
                [Query("DCGM_FI_DEV_ROW_REMAP_FAILURE", name)],
                bad_above=1,
                width=12,
            ),
            View(
                "Busy, as engines' gateways see it",
                [Query("max by (deployment, replica) (inferry_engine_gpu_use)", "{{replica}}")],
                "percentunit",
                most=1,
                width=12,
            ),
        ),
    )
