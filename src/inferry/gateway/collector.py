"""Turns the gateway's numbers into Prometheus families when somebody scrapes; never on the hot path."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from inferry.core.replica import HealthVerdict, ReplicaState, ReplicaView
from inferry.gateway.snapshot import Snapshot


def metrics_page(snapshot: Snapshot, views: Iterable[ReplicaView], more: Iterable[Metric] = ()) -> bytes:
    """The page that Prometheus reads: the numbers of all gateway processes, the replicas as they are, and `more`."""
    registry = CollectorRegistry()
    registry.register(_Families(snapshot, views, more))
    return generate_latest(registry)


def families(snapshot: Snapshot, views: Iterable[ReplicaView]) -> Iterable[Metric]:
    """The same numbers, before they are written: all families, also those without a value yet."""
    return _Families(snapshot, views, ()).collect()


class _Families:
    def __init__(self, snapshot: Snapshot, views: Iterable[ReplicaView], more: Iterable[Metric]) -> None:
        self._snapshot = snapshot
        self._views = views
        self._more = tuple(more)

    def collect(self) -> Iterable[Metric]:
        metrics = self._snapshot.metrics
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
        yield from self._times()
        yield from self._counts()
        yield from self._journal()
        yield from self._replicas()
        yield from self._more

    def _times(self) -> Iterable[Metric]:
        metrics = self._snapshot.metrics
        for name, about, histograms in (
            (
                "inferry_queue_seconds",
                "Waiting for a limit's lease or a turn, of requests that waited.",
                metrics.queue,
            ),
            (
                "inferry_inter_token_latency_seconds",
                "Streams: mean time between tokens, one observation per stream.",
                metrics.itl,
            ),
        ):
            family = HistogramMetricFamily(name, about, labels=("deployment",))
            for deployment, histogram in histograms.items():
                family.add_metric((deployment,), histogram.cumulative(), histogram.sum_s)
            yield family

    def _counts(self) -> Iterable[Metric]:
        metrics = self._snapshot.metrics
        rejects = CounterMetricFamily(
            "inferry_errors", "Requests that ended with an error, by its code.", labels=("deployment", "code")
        )
        for key, count in metrics.rejects.items():
            rejects.add_metric(key, count)
        yield rejects
        cost = CounterMetricFamily(
            "inferry_cost", "Cost of the tokens, in the ledger's currency.", labels=("deployment",)
        )
        for name, nano in metrics.cost_nano.items():
            cost.add_metric((name,), nano / 1e9)
        yield cost
        resumes = CounterMetricFamily(
            "inferry_resumes",
            "Streams that went on at another replica.",
            labels=("deployment", "cause", "way"),
        )
        for resume, count in metrics.resumes.items():
            resumes.add_metric(resume, count)
        not_resumed = CounterMetricFamily(
            "inferry_not_resumed",
            "Streams that lost their replica, and that no other can go on with.",
            labels=("deployment", "cause"),
        )
        for stream, count in metrics.not_resumed.items():
            not_resumed.add_metric(stream, count)
        yield not_resumed
        yield resumes
        filtered = CounterMetricFamily(
            "inferry_filtered",
            "Requests and answers in which a filter found something.",
            labels=("deployment", "filter", "action"),
        )
        for finding, count in metrics.filtered.items():
            filtered.add_metric(finding, count)
        yield filtered
        truth = CounterMetricFamily(
            "inferry_prompt_truth",
            "Prompts compared with the engine's count, by what was found.",
            labels=("deployment", "finding"),
        )
        for key, count in metrics.prompt_truth.items():
            truth.add_metric(key, count)
        yield truth
        yield from self._names()
        waiting = GaugeMetricFamily(
            "inferry_requests_waiting", "Requests that wait for a turn now.", labels=("deployment",)
        )
        for name, count in self._snapshot.waiting.items():
            waiting.add_metric((name,), count)
        yield waiting

    def _names(self) -> Iterable[Metric]:
        metrics = self._snapshot.metrics
        named = CounterMetricFamily(
            "inferry_name_requests",
            "Requests for a name over several deployments, by the one that they came to.",
            labels=("name", "deployment"),
        )
        for pair, count in metrics.named.items():
            named.add_metric(pair, count)
        yield named
        fallbacks = CounterMetricFamily(
            "inferry_fallbacks",
            "Requests that left a deployment for the next one behind the same name.",
            labels=("name", "deployment", "to"),
        )
        for way, count in metrics.fallbacks.items():
            fallbacks.add_metric(way, count)
        yield fallbacks
        left_out = CounterMetricFamily(
            "inferry_shadows_left_out",
            "Requests that were not copied, since too many copies were under way.",
            labels=("deployment",),
        )
        for name, count in metrics.shadows_left_out.items():
            left_out.add_metric((name,), count)
        yield left_out

    def _journal(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "inferry_journal_waiting",
            "Outcomes in memory that the disk does not take.",
            value=self._snapshot.journal_waiting,
        )
        troubles = self._snapshot.metrics.journal
        for name, trouble, about in (
            ("inferry_journal_lost", "lost", "Outcomes that are nowhere."),
            ("inferry_journal_write_failures", "write_failures", "Writes that the disk refused or cut."),
            (
                "inferry_inflight_without_slot",
                "without_slot",
                "Requests that a crash of their gateway process would lose.",
            ),
        ):
            yield CounterMetricFamily(name, about, value=troubles.get(trouble, 0))

    def _replicas(self) -> Iterable[Metric]:
        labels = ("deployment", "replica")
        running = GaugeMetricFamily("inferry_requests_in_flight", "Requests at a replica now.", labels=labels)
        state = GaugeMetricFamily(
            "inferry_replica_state", "1 for the state that a replica is in.", labels=(*labels, "state")
        )
        health = GaugeMetricFamily(
            "inferry_replica_health",
            "1 for what the signs of life of a replica's engine say.",
            labels=(*labels, "verdict"),
        )
        barred = GaugeMetricFamily(
            "inferry_replica_barred",
            "Gateway processes that have set a replica aside, for failing or for being far slower than its peers.",
            labels=labels,
        )
        restarts = CounterMetricFamily(
            "inferry_replica_restarts", "Restarts after an engine ended by itself.", labels=labels
        )
        for view in self._views:
            where = (view.deployment, view.id)
            running.add_metric(where, self._snapshot.in_flight.get(view.id, 0))
            restarts.add_metric(where, view.restarts)
            for each in ReplicaState:
                state.add_metric((*where, each.value), float(each is view.state))
            for verdict in HealthVerdict:
                health.add_metric((*where, verdict.value), float(verdict is view.verdict))
            barred.add_metric(where, self._snapshot.barred.get(view.id, 0))
        yield from (running, state, restarts, health, barred)
