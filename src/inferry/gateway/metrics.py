"""Counts and distributions of what passed through, as plain numbers; collector.py shows them to Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable

from inferry.core.outcome import Ending, Outcome

# From 5 ms (a small model's first token) to 10 min (a long reasoning answer).
BOUNDS_S = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
)


QUEUED_S = 0.0005
"""What is shorter than this was no wait."""


class Histogram:
    """Observations sorted into BOUNDS_S."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def observe(self, value_s: float) -> None:
        self.counts[bisect_left(BOUNDS_S, value_s)] += 1
        self.sum_s += value_s

    def add(self, other: Histogram) -> None:
        self.counts = [mine + more for mine, more in zip(self.counts, other.counts, strict=True)]
        self.sum_s += other.sum_s

    def cumulative(self) -> list[tuple[str, float]]:
        total, buckets = 0, []
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets


class GatewayMetrics:
    """All counters of one gateway process. Labels hold names from the file only, never a client's words."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, Ending, int], int] = defaultdict(int)
        self.duration: dict[tuple[str, str], Histogram] = {}
        self.ttft: dict[str, Histogram] = {}
        self.tokens: dict[tuple[str, str], int] = defaultdict(int)
        self.retries: dict[str, int] = {}
        self.rejects: dict[tuple[str, str], int] = {}
        """By deployment and error code."""
        self.cost_nano: dict[str, int] = {}
        self.resumes: dict[tuple[str, str, str], int] = {}
        """By deployment, error code of the replica that was left, and way (next_leg.py)."""
        self.not_resumed: dict[tuple[str, str], int] = {}
        """By deployment and error code: streams that another replica can't go on with."""
        self.queue: dict[str, Histogram] = {}
        self.itl: dict[str, Histogram] = {}
        """Mean time between tokens of a stream, one observation per stream."""
        self.filtered: dict[tuple[str, str, str], int] = {}
        """By deployment, filter and action."""
        self.prompt_truth: dict[tuple[str, str], int] = {}
        """By deployment and finding."""
        self.replica_tokens: dict[str, int] = defaultdict(int)
        """Completion tokens by replica, for engines without a counter of their own."""
        self.named: dict[tuple[str, str], int] = {}
        """Requests by the name of `names:` that they asked for, and the deployment that they came to."""
        self.fallbacks: dict[tuple[str, str, str], int] = {}
        """By such a name, the deployment that was left, and the one that was tried next."""
        self.shadows_left_out: dict[str, int] = {}
        """By shadow: requests that were not copied, since too many copies were under way."""
        self.journal: dict[str, int] = {}
        """What went wrong with outcomes on their way to the disk: RequestLog.troubles."""

    def observe(self, outcome: Outcome) -> None:
        """Count one outcome."""
        name = outcome.deployment or ""
        self.requests[name, outcome.route, outcome.ending, outcome.status] += 1
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
            if outcome.completion_tokens is not None and outcome.completion_tokens > 1:
                spread_s = outcome.duration_s - outcome.ttft_s
                itl = self.itl.get(name)
                if itl is None:
                    itl = self.itl[name] = Histogram()
                itl.observe(spread_s / (outcome.completion_tokens - 1))
        if outcome.queue_s > QUEUED_S:
            queue = self.queue.get(name)
            if queue is None:
                queue = self.queue[name] = Histogram()
            queue.observe(outcome.queue_s)
        if outcome.error_code is not None:
            reject = (name, outcome.error_code)
            self.rejects[reject] = self.rejects.get(reject, 0) + 1
        if outcome.cost_nano:
            self.cost_nano[name] = self.cost_nano.get(name, 0) + outcome.cost_nano
        if outcome.prompt_tokens is not None:
            self.tokens[name, "prompt"] += outcome.prompt_tokens
        if outcome.cached_tokens:
            self.tokens[name, "cached"] += outcome.cached_tokens
        if outcome.reasoning_tokens:
            self.tokens[name, "reasoning"] += outcome.reasoning_tokens
        if outcome.completion_tokens is not None:
            self.tokens[name, "completion"] += outcome.completion_tokens
            if outcome.replica_id is not None:
                self.replica_tokens[outcome.replica_id] += outcome.completion_tokens
        retries = outcome.attempts - 1 - outcome.resumes
        if retries > 0:
            self.retries[name] = self.retries.get(name, 0) + retries

    def count_resume(self, name: str, cause: str, way: str | None) -> None:
        """A stream of deployment `name` has lost its replica, and goes on by `way`; None: it can't."""
        if way is None:
            self.not_resumed[name, cause] = self.not_resumed.get((name, cause), 0) + 1
        else:
            self.resumes[name, cause, way] = self.resumes.get((name, cause, way), 0) + 1

    def observe_named(self, name: str, deployment: str) -> None:
        """A request for a name over several deployments has ended at one of them."""
        self.named[name, deployment] = self.named.get((name, deployment), 0) + 1

    def count_fallback(self, name: str, left: str, to: str) -> None:
        self.fallbacks[name, left, to] = self.fallbacks.get((name, left, to), 0) + 1

    def count_left_out(self, shadow: str) -> None:
        self.shadows_left_out[shadow] = self.shadows_left_out.get(shadow, 0) + 1

    def observe_findings(self, name: str, findings: Iterable[tuple[str, str]]) -> None:
        """(action, filter) of each filter that found something in one request or its answer."""
        for action, rule in findings:
            key = (name, rule, action)
            self.filtered[key] = self.filtered.get(key, 0) + 1

    def add(self, other: GatewayMetrics) -> None:
        """Count what another process counted, too."""
        for name in _COUNTERS:
            counts: dict[object, int] = getattr(self, name)
            for key, count in getattr(other, name).items():
                counts[key] = counts.get(key, 0) + count
        for name in _HISTOGRAMS:
            histograms: dict[object, Histogram] = getattr(self, name)
            for key, histogram in getattr(other, name).items():
                histograms.setdefault(key, Histogram()).add(histogram)


_COUNTERS = (
    "requests", "tokens", "retries", "replica_tokens", "rejects", "cost_nano", "resumes", "not_resumed", "filtered", "prompt_truth",
    "journal", "named", "fallbacks", "shadows_left_out",
)  # fmt: skip
_HISTOGRAMS = ("duration", "ttft", "queue", "itl")
