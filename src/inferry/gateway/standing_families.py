"""What else an operator wants to be warned of, for Prometheus: the certificate's end, tenants' budgets, the ledger, engines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric

from inferry.core.limits import Limits
from inferry.core.replica import ReplicaLoad, ReplicaView

TENANTS_MAX = 1000
"""Of more, those with a budget come first, then those that spent the most: Prometheus keeps a series for each."""


@dataclass(frozen=True, slots=True)
class Spending:
    """What a tenant spent in a UTC day and month, by the ledger."""

    tokens_day: int = 0
    tokens_month: int = 0
    cost_day: float = 0.0
    """In the ledger's currency."""
    cost_month: float = 0.0


def tenant_families(spent: Mapping[str, Spending], limits: Mapping[str, Limits]) -> Iterable[Metric]:
    """`spent`: by tenant; `limits`: those that the file sets."""
    tokens = _gauge("inferry_tenant_spent_tokens", "Tokens of this UTC day or month.")
    cost = _gauge("inferry_tenant_spent_cost", "Cost in this UTC day or month, in the ledger's currency.")
    token_budget = _gauge(
        "inferry_tenant_budget_tokens", "Tokens that the file grants for a UTC day or month."
    )
    cost_budget = _gauge(
        "inferry_tenant_budget_cost",
        "Cost that the file grants for a UTC day or month, in the ledger's currency.",
    )
    for tenant in _those_that_matter(spent, limits):
        each, bounds = spent.get(tenant, Spending()), limits.get(tenant, Limits())
        for period, used_tokens, used_cost, tokens_max, cost_max in (
            ("day", each.tokens_day, each.cost_day, bounds.tokens_per_day, bounds.cost_per_day),
            ("month", each.tokens_month, each.cost_month, bounds.tokens_per_month, bounds.cost_per_month),
        ):
            tokens.add_metric((tenant, period), used_tokens)
            cost.add_metric((tenant, period), used_cost)
            if tokens_max is not None:
                token_budget.add_metric((tenant, period), tokens_max)
            if cost_max is not None:
                cost_budget.add_metric((tenant, period), cost_max)
    yield from (tokens, cost, token_budget, cost_budget)


def _gauge(name: str, about: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, labels=("tenant", "period"))


def _those_that_matter(spent: Mapping[str, Spending], limits: Mapping[str, Limits]) -> list[str]:
    def rank(tenant: str) -> tuple[bool, float, int, str]:
        each, bounds = spent.get(tenant, Spending()), limits.get(tenant)
        has_budget = bounds is not None and any(
            (bounds.tokens_per_day, bounds.tokens_per_month, bounds.cost_per_day, bounds.cost_per_month)
        )
        return not has_budget, -each.cost_month, -each.tokens_month, tenant

    return sorted({*spent, *limits}, key=rank)[:TENANTS_MAX]


def certificate_families(not_after_wall_s: float | None) -> Iterable[Metric]:
    """Nothing where there is no certificate, or its date can't be read."""
    if not_after_wall_s is not None:
        yield GaugeMetricFamily(
            "inferry_certificate_not_after_timestamp_seconds",
            "When the certificate in the file of gateway.tls ends, in seconds since 1970.",
            value=not_after_wall_s,
        )


def backup_families(made_wall_s: float | None, every_s: float) -> Iterable[Metric]:
    """`made_wall_s`: of the latest one; None: there is none yet, which is told as if it were of 1970."""
    yield GaugeMetricFamily(
        "inferry_backup_last_success_timestamp_seconds",
        "When the latest backup in backup.folder was made, in seconds since 1970; 0: there is none.",
        value=made_wall_s or 0.0,
    )
    yield GaugeMetricFamily(
        "inferry_backup_interval_seconds", "How far apart backups are meant to be.", value=every_s
    )


def ledger_families(behind_s: float) -> Iterable[Metric]:
    """`behind_s`: since the journals were last loaded into the ledger without a fault."""
    yield GaugeMetricFamily(
        "inferry_ledger_behind_seconds",
        "Since journals were last loaded into the ledger; they wait on the disk meanwhile.",
        value=behind_s,
    )


def load_families(readings: Iterable[tuple[ReplicaView, ReplicaLoad | None]]) -> Iterable[Metric]:
    """What engines and GPUs tell of themselves, of the replicas whose engines tell it."""
    labels = ("deployment", "replica")
    kv_cache = GaugeMetricFamily(
        "inferry_engine_kv_cache_use", "Share of an engine's KV cache that is in use, 0 to 1.", labels=labels
    )
    waiting = GaugeMetricFamily(
        "inferry_engine_requests_waiting", "Requests that wait inside of an engine.", labels=labels
    )
    gpu = GaugeMetricFamily(
        "inferry_engine_gpu_use",
        "Share of the time in which an engine's busiest GPU computes.",
        labels=labels,
    )
    for view, load in readings:
        if load is None:
            continue
        where = (view.deployment, view.id)
        for family, value in (
            (kv_cache, load.kv_cache_use),
            (waiting, load.waiting),
            (gpu, load.gpu_use),
        ):
            if value is not None:
                family.add_metric(where, value)
    yield from (kv_cache, waiting, gpu)
