"""What tenants spend, for whoever pays: by the ledger, so gateways agree and restarts lose nothing."""

from __future__ import annotations

from inferry.render.grafana.panels import Panel, Query, View, dashboard, variable

_TENANT = 'tenant=~"$tenant"'


def tenants_dashboard(currency: str) -> Panel:
    """`currency`: the ledger's, as USD."""
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
