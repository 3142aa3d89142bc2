"""Counts and distributions of what passed through: plain numbers on the hot path, Prometheus at the edge."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from inferry.core.outcome import Ending, Outcome
from inferry.core.replica import ReplicaState

if TYPE_CHECKING:
    from inferry.gateway.gateway import Gateway

# From 5 ms (a small model's first token) to 10 min (a long reasoning answer).
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Histogram:
    """Observations sorted into BOUNDS_S."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def observe(self, value_s: float) -> None:
        self.counts[bisect_left(BOUNDS_S, value_s)] += 1
        self.sum_s += value_s

    def cumulative(self) -> list[tuple[str, float]]:
        total, buckets = 0, []
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets


class GatewayMetrics:
    """All counters of one gateway process. Labels hold names from the file only, never a client's words."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, Ending, int], int] = {}
        self.duration: dict[tuple[str, str], Histogram] = {}
        self.ttft: dict[str, Histogram] = {}
        self.tokens: dict[tuple[str, str], int] = {}
        self.retries: dict[str, int] = {}
        self.replica_tokens: dict[str, int] = {}
        """Completion tokens by replica, for engines without a counter of their own."""

    def observe(self, outcome: Outcome) -> None:
        """Count one outcome."""
        name = outcome.deployment or ""
        key = (name, outcome.route, outcome.ending, outcome.status)
        self.requests[key] = self.requests.get(key, 0) + 1
        pair = (name, outcome.route)
        histogram = self.duration.get(pair)
        if histogram is None:
            histogram = self.duration[pair] = Histogram()
        histogram.observe(outcome.duration_s)
        if outcome.ttft_s is not None:
            ttft = self.ttft.get(name)
            if ttft is None:
                ttft = self.ttft[name] = Histogram()
            ttft.observe(outcome.ttft_s)
        if outcome.prompt_tokens is not None:
            self._add_tokens(name, "prompt", outcome.prompt_tokens)
        if outcome.completion_tokens is not None:
            self._add_tokens(name, "completion", outcome.completion_tokens)
            if (replica := outcome.replica_id) is not None:
                self.replica_tokens[replica] = self.replica_tokens.get(replica, 0) + outcome.completion_tokens
        if outcome.attempts > 1:
            self.retries[name] = self.retries.get(name, 0) + outcome.attempts - 1

    def _add_tokens(self, name: str, kind: str, count: int) -> None:
        self.tokens[name, kind] = self.tokens.get((name, kind), 0) + count


class GatewayCollector:
    """Turns the numbers into Prometheus families when somebody scrapes."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterable[Metric]:
        metrics = self._gateway.metrics
        requests = CounterMetricFamily(
            "inferry_requests",
            "Requests that ended, by how.",
            labels=("deployment", "route", "ending", "status"),
        )
        for (name, route, ending, status), count in metrics.requests.items():
            requests.add_metric((name, route, ending.value, str(status)), count)
        yield requests

        tokens = CounterMetricFamily(
            "inferry_tokens", "Tokens as the engines counted them.", labels=("deployment", "kind")
        )
        for token_key, count in metrics.tokens.items():
            tokens.add_metric(token_key, count)
        yield tokens

        retries = CounterMetricFamily(
            "inferry_retries", "Requests sent again before their answer began.", labels=("deployment",)
        )
        for name, count in metrics.retries.items():
            retries.add_metric((name,), count)
        yield retries

        duration = HistogramMetricFamily(
            "inferry_request_duration_seconds",
            "From the whole request received to its end.",
            labels=("deployment", "route"),
        )
        for pair, histogram in metrics.duration.items():
            duration.add_metric(pair, histogram.cumulative(), histogram.sum_s)
        yield duration

        ttft = HistogramMetricFamily(
            "inferry_time_to_first_token_seconds",
            "Streams: from the whole request received to the first event sent on.",
            labels=("deployment",),
        )
        for name, histogram in metrics.ttft.items():
            ttft.add_metric((name,), histogram.cumulative(), histogram.sum_s)
        yield ttft
        yield from self._replicas()

    def _replicas(self) -> Iterable[Metric]:
        labels = ("deployment", "replica")
        running = GaugeMetricFamily("inferry_requests_in_flight", "Requests at a replica now.", labels=labels)
        state = GaugeMetricFamily(
            "inferry_replica_state", "1 for the state that a replica is in.", labels=(*labels, "state")
        )
        restarts = CounterMetricFamily(
            "inferry_replica_restarts", "Restarts after an engine ended by itself.", labels=labels
        )
        for view in self._gateway.views.values():
            where = (view.deployment, view.id)
            slot = self._gateway.slot(view)
            running.add_metric(where, slot.in_flight if slot else 0)
            restarts.add_metric(where, view.restarts)
            for each in ReplicaState:
                state.add_metric((*where, each.value), float(each is view.state))
        yield from (running, state, restarts)
