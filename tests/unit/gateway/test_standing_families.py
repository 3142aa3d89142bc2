"""What operators are warned of: names, labels and values on the page."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import Metric

from inferry.core.limits import Limits
from inferry.core.replica import ReplicaLoad, ReplicaState, ReplicaView
from inferry.gateway.standing_families import (
    TENANTS_MAX,
    Spending,
    certificate_families,
    ledger_families,
    load_families,
    tenant_families,
)

VIEW = ReplicaView(
    id="chat-0", deployment="chat", engine="vllm", simulated=False, state=ReplicaState.READY, endpoint=None,
    since_wall_s=0.0, restarts=0,
)  # fmt: skip


def _values(families: Iterable[Metric]) -> dict[tuple[str, ...], float]:
    return {
        (sample.name.removeprefix("inferry_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_tenants_show_what_they_spent_and_what_they_may() -> None:
    """A budget that the file does not set is no series: nothing can be divided by it."""
    spent = {"search": Spending(10, 300, 0.5, 12.0), "free": Spending(1, 2, 0.0, 0.0)}
    values = _values(
        tenant_families(spent, {"search": Limits(cost_per_month=20, tokens_per_day=100), "idle": Limits()})
    )
    assert values[("tenant_spent_cost", "search", "month")] == 12.0
    assert values[("tenant_spent_tokens", "search", "day")] == 10
    assert values[("tenant_spent_tokens", "idle", "month")] == 0
    budgets = {key: value for key, value in values.items() if "budget" in key[0]}
    assert budgets == {
        ("tenant_budget_cost", "search", "month"): 20,
        ("tenant_budget_tokens", "search", "day"): 100,
    }


def test_of_too_many_tenants_those_with_a_budget_stay() -> None:
    """Then those that cost the most."""
    spent = {f"t{number}": Spending(cost_month=float(number)) for number in range(TENANTS_MAX + 5)}
    values = _values(tenant_families(spent, {"t0": Limits(tokens_per_day=1)}))
    shown = {key[1] for key in values if key[0] == "tenant_spent_cost"}
    assert len(shown) == TENANTS_MAX
    assert "t0" in shown
    assert shown.isdisjoint({"t1", "t2", "t3", "t4", "t5"})


def test_certificate_ledger_and_engines() -> None:
    """What nobody tells is not shown as zero."""
    assert _values(certificate_families(None)) == {}
    assert _values(certificate_families(5.0)) == {("certificate_not_after_timestamp_seconds",): 5.0}
    assert _values(ledger_families(2.5)) == {("ledger_behind_seconds",): 2.5}
    load = ReplicaLoad("chat-0", 0.0, waiting=3, kv_cache_use=0.75)
    assert _values(load_families([(VIEW, load), (VIEW, None)])) == {
        ("engine_kv_cache_use", "chat", "chat-0"): 0.75,
        ("engine_requests_waiting", "chat", "chat-0"): 3,
    }
