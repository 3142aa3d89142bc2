"""What a metric is at a look, and how far that can be relied upon.

Two things that look alike are kept apart: no load, and no answer. No request came, ended or waits: latencies and the
error rate are 0. Nobody told, or too long ago: the figure is missing, or known in part only; then it never counts as
0 and never agrees to fewer replicas. (In llm-d an empty answer of Prometheus silently meant "inactive":
llm-d-autoscaling, pull request 1981.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inferry.core.scaling_settings import ENGINE, LATENCIES, RATES, SHARES, ScalingRule
from inferry.policy.scaling.backlog import Backlog
from inferry.policy.scaling.observation import Observation, ReplicaReading
from inferry.policy.scaling.own_counters import OwnCounters, is_own_counter
from inferry.policy.scaling.windows import Window, Windows

ENDED_MIN = 5
"""A percentile or a share of fewer requests is too thin a ground for more replicas or an alert."""
AGE_MAX_S = 15.0
"""A reading that is older is none: engines are asked once a second, however rarely it is decided."""
GAP_MAX_LOOKS = 3
"""Looks that are further apart say nothing of the time between them."""


@dataclass(frozen=True, slots=True)
class Value:
    """Of one metric at one look."""

    number: float | None
    """None: missing."""
    but: str = ""
    """Why it is missing, or why it is good for one direction only."""
    ups: bool = True
    """It may be the ground for more replicas."""
    downs: bool = True
    """It may be the ground for fewer."""


def gap_max_s(every_s: float) -> float:
    """How long a gap between two looks may be."""
    return max(GAP_MAX_LOOKS * every_s, AGE_MAX_S)


def name_of(rule: ScalingRule) -> str:
    """A rule's metric, in reasons: `ttft_ms p95`."""
    return f"{rule.metric} p{rule.share * 100:g}" if rule.metric in LATENCIES else rule.metric


def input_name_of(rule: ScalingRule) -> str:
    """A rule's metric, among a decision's inputs: `ttft_ms p95 over 60 s`."""
    timed = rule.metric in (*LATENCIES, *RATES, "error_rate") or is_own_counter(rule.metric)
    return f"{name_of(rule)} over {rule.over_s:g} s" if timed else rule.metric


class Signals:
    """Every metric of a deployment, as of the latest look."""

    def __init__(self, every_s: float, windows_s: Iterable[float]) -> None:
        self._every_s = every_s
        lengths_s = set(windows_s)
        self.windows = Windows(every_s, lengths_s)
        self._own_counters = OwnCounters(lengths_s)
        self._backlog = Backlog()
        self._seen: Observation | None = None
        self._fresh: list[ReplicaReading] = []
        self._ever_told: set[str] = set()
        """Which of `running` and `waiting` engines of this deployment have told."""
        self._values: dict[tuple[str, float, float], Value] = {}

    def look(self, seen: Observation) -> None:
        """The latest look, in the order of time."""
        self._seen = seen
        oldest_s = seen.now_s - AGE_MAX_S
        self._fresh = [each for each in seen.serving if each.read_s is not None and each.read_s >= oldest_s]
        self.windows.look(seen.now_s, seen.traffic, len(seen.serving))
        self._own_counters.look(seen.serving)
        self._values.clear()
        self._backlog.look(seen.now_s, seen.traffic, self.value("queue_depth", 0.0, 0.0).number)

    def since_backlog(self, metric: str, over_s: float, share: float) -> Value | None:
        """A latency, of those requests only that waited in no backlog that is gone by now; None where that is all."""
        seen = self._seen
        assert seen is not None, "a look comes first"
        if seen.traffic is None or not self._backlog.leaves_its_mark(seen.now_s - over_s):
            return None
        over = self._backlog.over
        if over is None:
            return Value(None, "of requests that waited, and none waits now")
        name = metric.removesuffix("_ms")
        counts = getattr(seen.traffic, name).since(getattr(over, name))
        number = counts.quantile_s(share)
        if number is None or counts.total < ENDED_MIN:
            of = f"only {counts.total} ended that did not" if number else "no other one ended yet"
            return Value(None, f"of requests that waited; none waits now, and {of}")
        return Value(number * 1000)

    def value(self, metric: str, over_s: float, share: float) -> Value:
        """Of this metric, where it applies over the last `over_s`, and the percentile `share` (0 to 1)."""
        key = (metric, over_s, share)
        known = self._values.get(key)
        if known is None:
            known = self._values[key] = self._make(metric, over_s, share)
        return known

    def _make(self, metric: str, over_s: float, share: float) -> Value:
        seen = self._seen
        assert seen is not None, "a look comes first"
        if metric in LATENCIES:
            return self._latency(seen, metric, over_s, share)
        if metric in RATES:
            return self._rate(metric, over_s)
        if metric == "error_rate":
            return self._error_rate(seen, over_s)
        if metric == "queue_depth":
            return self._queue_depth(seen)
        if metric == "running":
            return self._running(seen)
        if metric in SHARES:
            return self._mean(seen, [getattr(each, metric) for each in self._fresh])
        own = metric.removeprefix(ENGINE)
        if is_own_counter(metric):
            return self._own_rate(seen, own, over_s)
        return self._mean(seen, [each.own.get(own) for each in self._fresh])

    def _mean(self, seen: Observation, numbers: Sequence[float | None]) -> Value:
        """Over the replicas that serve and told lately: half of them at least, or one could be taken for all. Only all of
        them agree to fewer: who is too busy to tell is not idle."""
        told = [number for number in numbers if number is not None]
        serving = len(seen.serving)
        if not serving:
            return Value(None, "no replica serves")
        if 2 * len(told) < serving:
            return Value(None, self._who_told(len(told), serving))
        if len(told) < serving:
            return Value(sum(told) / len(told), self._who_told(len(told), serving), downs=False)
        return Value(sum(told) / len(told))

    def _own_rate(self, seen: Observation, name: str, over_s: float) -> Value:
        """Per second and replica."""
        rates = [self._own_counters.rate(each.id, name, over_s) for each in self._fresh]
        value = self._mean(seen, [None if rate is None else rate.per_s for rate in rates])
        span_s = min((rate.span_s for rate in rates if rate is not None), default=0.0)
        if value.number is None or span_s + max(self._every_s, self._own_counters.apart_s) >= over_s:
            return value
        return Value(value.number, f"of {span_s:.0f} s so far, not {over_s:g} s", downs=False)

    def _running(self, seen: Observation) -> Value:
        value = self._mean(seen, [each.running for each in self._fresh])
        if value.number is not None:
            self._ever_told.add("running")
        elif seen.serving and seen.traffic is not None and "running" not in self._ever_told:
            # These engines don't tell how many they have: the gateways know it as well.
            return Value(seen.traffic.in_flight / len(seen.serving))
        return value

    def _queue_depth(self, seen: Observation) -> Value:
        """At gateways and engines. What engines don't tell can only be more: good for up, not for down."""
        if seen.traffic is None:
            return Value(None, "the gateways did not answer")
        told = [each.waiting for each in self._fresh if each.waiting is not None]
        depth = seen.traffic.waiting + sum(told)
        if told:
            self._ever_told.add("waiting")
        serving = len(seen.serving)
        # Of engines with metrics, some have no queue among them: those are known by what they told.
        silent = seen.engines_tell and len(self._fresh) < serving
        if silent or ("waiting" in self._ever_told and len(told) < serving):
            return Value(depth, self._who_told(len(told), serving), downs=False)
        return Value(depth)

    def _latency(self, seen: Observation, metric: str, over_s: float, share: float) -> Value:
        window = self.windows.last(over_s)
        if window is None or seen.traffic is None:
            return self._no_window(seen)
        counts = window.latency(metric)
        number = counts.quantile_s(share)
        if number is not None:
            return self._of_some(number * 1000, counts.total, window, over_s)
        if window.ended:
            return Value(None, f"none of the {window.ended} requests that ended has one")
        return self._idle_or_stuck(seen, window, over_s)

    def _error_rate(self, seen: Observation, over_s: float) -> Value:
        window = self.windows.last(over_s)
        if window is None or seen.traffic is None:
            return self._no_window(seen)
        if not window.ended:
            return self._idle_or_stuck(seen, window, over_s)
        return self._of_some(window.failed / window.ended, window.ended, window, over_s)

    def _rate(self, metric: str, over_s: float) -> Value:
        window = self.windows.last(over_s)
        seen = self._seen
        if window is None or seen is None:
            return self._no_window(seen)
        counted = {
            "requests_per_s": window.arrived,
            "prompt_tokens_per_s": window.prompt_tokens,
            "output_tokens_per_s": window.output_tokens,
        }[metric]
        return self._of_window(counted / window.span_s, window, over_s)

    def _idle_or_stuck(self, seen: Observation, window: Window, over_s: float) -> Value:
        """Nothing ended. With nothing to do, that is no load; with something to do, it is no figure."""
        assert seen.traffic is not None
        held = seen.traffic.waiting + seen.traffic.in_flight
        if held or window.arrived:
            return Value(None, f"none of {max(held, window.arrived)} requests ended in {over_s:g} s")
        return self._of_window(0.0, window, over_s)

    def _of_some(self, number: float, count: int, window: Window, over_s: float) -> Value:
        value = self._of_window(number, window, over_s)
        if count < ENDED_MIN:
            return Value(number, f"of {count} only; {ENDED_MIN} are needed", ups=False, downs=value.downs)
        return value

    def _of_window(self, number: float, window: Window, over_s: float) -> Value:
        if window.full:
            return Value(number)
        return Value(number, f"of {window.span_s:.0f} s so far, not {over_s:g} s", downs=False)

    def _no_window(self, seen: Observation | None) -> Value:
        if seen is None or seen.traffic is None:
            return Value(None, "the gateways did not answer")
        return Value(None, "nothing to compare the counts with yet")

    def _who_told(self, told: int, serving: int) -> str:
        return f"{told} of {serving} replicas told it within {AGE_MAX_S:g} s"
