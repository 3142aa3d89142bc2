"""What `inferry config check` warns of: the file is right, and a key in it does nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.cli.config_warnings import warnings_of
from inferry.core.config_file import parse_text

from .conftest import Run

OUTSIDE = "deployments:\n  a:\n    engine: openai\n    model: m\n    endpoints: [http://h:1/v1]\n"
CHAT = "deployments:\n  a:\n    engine: simulated\n"
KEY = "inferry.yaml:4: deployments.a."


def warned(text: str) -> list[str]:
    return warnings_of(parse_text(text, Path("inferry.yaml"), {}))


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (
            CHAT + "    rollout: {max_unavailable: 2}\n",
            [
                f"{KEY}rollout.max_unavailable has no effect with 'strategy: surge' (the default): drop it, or "
                "write 'strategy: in_place'"
            ],
        ),
        (
            CHAT + "    rollout: {strategy: in_place, max_surge: 2, max_unavailable: 2}\n",
            [f"{KEY}rollout.max_surge has no effect with 'strategy: in_place': drop one of them"],
        ),
        (
            CHAT + "    load_wait_s: 5\n    loaded_min_s: 5\n",
            [
                f"{KEY}load_wait_s has no effect without 'load: on_demand': add that, or drop it",
                "inferry.yaml:5: deployments.a.loaded_min_s has no effect without 'load: on_demand': add that, or "
                "drop it",
            ],
        ),
        (
            CHAT + "    standby: 1\n    load: on_demand\n",
            [
                f"{KEY}standby does nothing while the model is not loaded ('load: on_demand'): load it 'at_start', "
                "or drop it"
            ],
        ),
        (
            OUTSIDE + "    failover: {token_ids: true}\n",
            [
                "inferry.yaml:6: deployments.a.failover.token_ids has no effect with 'engine: openai', which tells "
                "no ids: drop it"
            ],
        ),
        (
            CHAT + "    failover: {token_ids: true, resume: false, resumes_max: 2}\n",
            [
                f"{KEY}failover.token_ids has no effect with 'resume: false': drop one of them",
                f"{KEY}failover.resumes_max has no effect with 'resume: false': drop one of them",
            ],
        ),
    ],
)
def test_a_key_that_does_nothing(text: str, warnings: list[str]) -> None:
    """It is named with its line, and so is the key because of which it does nothing."""
    assert warned(text) == warnings


@pytest.mark.parametrize(
    "text",
    [
        CHAT,
        CHAT + "    load: on_demand\n    load_wait_s: 5\n    loaded_min_s: 5\n",
        CHAT + "    rollout: {strategy: in_place, max_unavailable: 2}\n    standby: 1\n",
        CHAT + "    failover: {token_ids: true, resumes_max: 2}\n",
        OUTSIDE + "    failover: {resume: false}\n",
    ],
)
def test_keys_that_do_something(text: str) -> None:
    """Defaults are not warned of, nor is what has its effect."""
    assert warned(text) == []


COSTLY = CHAT + "    limits: {cost_per_day: 5}\n    filters: [{name: f, terms: [x], tenants: [acmee]}]\n"
NO_KEYS = "has no effect without keys ('gateway.auth: none'): write 'auth: keys' under 'gateway:', or drop it"
NO_PRICE = "can't be used up: no deployment has a 'price'. Give them one, or drop it"


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (
            "gateway: {key_limits: {requests_per_minute: 5}}\ntenants: {acme: {weight: 2}, anonymous: {weight: 1}}\n"
            + CHAT,
            [f"1: gateway.key_limits {NO_KEYS}", f"2: tenants.acme {NO_KEYS}"],
        ),
        (
            "gateway: {auth: keys, key_limits: {cost_per_day: 5}}\ntenants: {acme: {limits: {cost_per_month: 5}}}\n"
            + CHAT,
            [
                f"1: gateway.key_limits.cost_per_day {NO_PRICE}",
                f"2: tenants.acme.limits.cost_per_month {NO_PRICE}",
            ],
        ),
        (
            "gateway: {auth: keys}\ntenants: {acme: {}}\n" + COSTLY,
            [
                "6: deployments.a.limits.cost_per_day can't be used up: this deployment has no 'price'. Give it one, "
                "or drop this",
                "7: deployments.a.filters.0.tenants names the tenant 'acmee', which is not under 'tenants:' in this "
                "file. Did you mean 'acme'?",
            ],
        ),
        (
            "gateway:\n  auth: none\n" + COSTLY,
            [
                "6: deployments.a.limits.cost_per_day can't be used up: this deployment has no 'price'. Give it one, "
                "or drop this",
                "7: deployments.a.filters.0.tenants matches nobody without keys ('gateway.auth: none')",
            ],
        ),
    ],
)
def test_limits_budgets_and_filters_that_never_count(text: str, warnings: list[str]) -> None:
    """Limits of keys where none are asked for, money where nothing costs any, tenants that are not there."""
    assert warned(text) == [f"inferry.yaml:{warning}" for warning in warnings]


def test_limits_budgets_and_filters_that_count() -> None:
    """With keys, prices and tenants there is nothing to warn of; nor is there of names that only keys have."""
    priced = CHAT + "    price: {completion_per_mtok: 2}\n    limits: {cost_per_day: 5}\n"
    limits = "{limits: {cost_per_month: 5}}"
    rule = "    filters: [{name: f, terms: [x], tenants: [acme], keys: [k]}]\n"
    everything = "gateway: {auth: keys, key_limits: {cost_per_day: 5}}\n"
    assert warned(everything + f"tenants: {{acme: {limits}}}\n" + priced + rule) == []
    assert warned(everything + priced + rule) == []
    assert warned(f"tenants: {{anonymous: {limits}}}\n" + priced) == []


def test_the_check_passes_with_warnings(run: Run) -> None:
    """Warnings go to stderr; the file is right all the same."""
    Path("inferry.yaml").write_text(CHAT + "    load_wait_s: 5\n")
    shown = run("config", "check")
    assert (shown.code, shown.out) == (0, "inferry.yaml is right: 1 deployment(s): a\n")
    assert shown.err.startswith(f"warning: {KEY}load_wait_s has no effect")
