"""Counters and histograms, and the page that Prometheus reads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from inferry.core.outcome import Ending, Outcome
from inferry.core.replica import HealthVerdict, ReplicaState
from inferry.gateway.collector import metrics_page
from inferry.gateway.gateway import Gateway
from inferry.gateway.metrics import BOUNDS_S, GatewayMetrics, Histogram

from .stand import make_gateway, view


def outcome(**changes: Any) -> Outcome:
    given: dict[str, Any] = {
        "request_id": "r",
        "route": "/v1/chat/completions",
        "deployment": "chat",
        "replica_id": "chat-0",
        "ending": Ending.COMPLETED,
        "status": 200,
        "stream": True,
        "received_wall_s": 0.0,
        "duration_s": 0.2,
        "ttft_s": 0.02,
        "attempts": 1,
        "prompt_tokens": 7,
        "completion_tokens": 3,
    }
    return Outcome(**{"id": "r", **given, **changes})


# --- histogram ----------------------------------------------------------------------------------------


def test_bounds_rise() -> None:
    """Bucket bounds are in order and without doubles."""
    assert list(BOUNDS_S) == sorted(set(BOUNDS_S))


@pytest.mark.parametrize("bound", BOUNDS_S)
def test_a_bound_belongs_to_its_bucket(bound: float) -> None:
    """`le` means: up to and with the bound."""
    histogram = Histogram()
    histogram.observe(bound)
    histogram.observe(bound * 1.0001)
    counts = dict(histogram.cumulative())
    assert counts[str(bound)] == 1.0
    assert counts["+Inf"] == 2.0


def test_buckets_are_cumulative() -> None:
    """Each bucket holds all below it, the last one everything; the sum is the sum."""
    histogram = Histogram()
    values = [0.0, 0.001, 0.3, 0.3, 7.0, 600.0, 10_000.0]
    for value in values:
        histogram.observe(value)
    buckets = histogram.cumulative()
    assert [count for _, count in buckets] == sorted(count for _, count in buckets)
    assert [label for label, _ in buckets] == [*map(str, BOUNDS_S), "+Inf"]
    for label, count in buckets:
        assert count == sum(value <= float(label) for value in values)
    assert histogram.sum_s == sum(values)


# --- counters -----------------------------------------------------------------------------------------


def test_outcomes_are_counted_by_how_they_ended() -> None:
    """Each outcome is counted once, under its own ending and status."""
    metrics = GatewayMetrics()
    for ending, status in ((Ending.COMPLETED, 200), (Ending.COMPLETED, 200), (Ending.CANCELLED, 499)):
        metrics.observe(outcome(ending=ending, status=status))
    assert metrics.requests == {
        ("chat", "/v1/chat/completions", Ending.COMPLETED, 200): 2,
        ("chat", "/v1/chat/completions", Ending.CANCELLED, 499): 1,
    }


def test_what_did_not_happen_is_not_counted() -> None:
    """A rejected request has no tokens, no first token, no retries, and no deployment's name."""
    metrics = GatewayMetrics()
    metrics.observe(
        outcome(
            deployment=None,
            replica_id=None,
            ending=Ending.REJECTED,
            status=404,
            ttft_s=None,
            attempts=0,
            prompt_tokens=None,
            completion_tokens=None,
        )
    )
    assert [key[0] for key in metrics.requests] == [""]
    assert (metrics.tokens, metrics.ttft, metrics.retries, metrics.replica_tokens) == ({}, {}, {}, {})


def test_tokens_and_retries_add_up() -> None:
    """Tokens by kind and by replica; of three attempts, two are retries."""
    metrics = GatewayMetrics()
    metrics.observe(outcome())
    metrics.observe(outcome(replica_id="chat-1", attempts=3, prompt_tokens=0, completion_tokens=10))
    assert metrics.tokens == {("chat", "prompt"): 7, ("chat", "completion"): 13}
    assert metrics.replica_tokens == {"chat-0": 3, "chat-1": 10}
    assert metrics.retries == {"chat": 2}


# --- the page -----------------------------------------------------------------------------------------


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with asyncio.Runner() as runner:
        yield make_gateway(runner.get_loop())


def families(gateway: Gateway) -> dict[str, Metric]:
    page = metrics_page(gateway.snapshot(), gateway.views.values()).decode()
    return {family.name: family for family in text_string_to_metric_families(page)}


def values(family: Metric, *labels: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name.removeprefix(family.name), *(sample.labels[label] for label in labels)): sample.value
        for sample in family.samples
    }


def test_an_idle_page_is_whole(gateway: Gateway) -> None:
    """Before any request the page parses and has every family, each described."""
    found = families(gateway)
    assert found.keys() == {
        "inferry_requests",
        "inferry_tokens",
        "inferry_retries",
        "inferry_errors",
        "inferry_cost",
        "inferry_resumes",
        "inferry_not_resumed",
        "inferry_filtered",
        "inferry_prompt_truth",
        "inferry_queue_seconds",
        "inferry_inter_token_latency_seconds",
        "inferry_requests_waiting",
        "inferry_journal_waiting",
        "inferry_journal_lost",
        "inferry_journal_write_failures",
        "inferry_inflight_without_slot",
        "inferry_request_duration_seconds",
        "inferry_time_to_first_token_seconds",
        "inferry_requests_in_flight",
        "inferry_replica_state",
        "inferry_replica_restarts",
        "inferry_replica_health",
        "inferry_replica_barred",
        "inferry_name_requests",
        "inferry_fallbacks",
        "inferry_shadows_left_out",
    }
    assert all(family.documentation.endswith(".") for family in found.values())


def test_page_says_what_was_observed(gateway: Gateway) -> None:
    """Prometheus' own parser reads back the numbers that went in."""
    for duration_s in (0.004, 0.2, 700.0):
        gateway.metrics.observe(outcome(duration_s=duration_s, ttft_s=duration_s, attempts=2))
    found = families(gateway)
    assert values(found["inferry_requests"], "deployment", "route", "ending", "status") == {
        ("_total", "chat", "/v1/chat/completions", "completed", "200"): 3.0
    }
    assert values(found["inferry_tokens"], "deployment", "kind") == {
        ("_total", "chat", "prompt"): 21.0,
        ("_total", "chat", "completion"): 9.0,
    }
    assert values(found["inferry_retries"], "deployment") == {("_total", "chat"): 3.0}
    for name in ("inferry_request_duration_seconds", "inferry_time_to_first_token_seconds"):
        counted = {
            (sample.name.removeprefix(name), sample.labels.get("le")): sample.value
            for sample in found[name].samples
        }
        assert counted["_bucket", "0.005"] == 1.0
        assert counted["_bucket", "600.0"] == 2.0
        assert counted["_bucket", "+Inf"] == counted["_count", None] == 3.0
        assert counted["_sum", None] == pytest.approx(700.204)


def test_page_shows_replicas(gateway: Gateway) -> None:
    """Of each replica: requests in flight, restarts, whether it is set aside, and a one at exactly the state and
    the verdict that it has."""
    gateway.apply(view(0, ReplicaState.READY))
    gateway.apply(replace(view(1, ReplicaState.FAILED, restarts=4), verdict=HealthVerdict.DEAD))
    gateway.deployments["chat"].balancer.choose()
    for _ in range(5):
        gateway.on_replica_failure("chat-0", "cut")
    found = families(gateway)
    assert values(found["inferry_requests_in_flight"], "replica") == {
        ("", "chat-0"): 1.0,
        ("", "chat-1"): 0.0,
    }
    assert values(found["inferry_replica_restarts"], "replica") == {
        ("_total", "chat-0"): 0.0,
        ("_total", "chat-1"): 4.0,
    }
    states = values(found["inferry_replica_state"], "replica", "state")
    assert len(states) == 2 * len(ReplicaState)
    assert {key[1:] for key, value in states.items() if value == 1.0} == {
        ("chat-0", "ready"),
        ("chat-1", "failed"),
    }
    healths = values(found["inferry_replica_health"], "replica", "verdict")
    assert {key[1:] for key, value in healths.items() if value == 1.0} == {("chat-1", "dead")}
    assert values(found["inferry_replica_barred"], "replica") == {("", "chat-0"): 1.0, ("", "chat-1"): 0.0}


def test_names_are_escaped(gateway: Gateway) -> None:
    """A label may hold any sign of a name in the file; the page still parses to the same name."""
    gateway.metrics.observe(outcome(deployment='a"b\\c\nd'))
    assert ("_total", 'a"b\\c\nd') in values(families(gateway)["inferry_requests"], "deployment")
