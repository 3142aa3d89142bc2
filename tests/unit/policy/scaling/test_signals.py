"""What a metric is at a look: a figure, no load, or nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferry.core.latency_counts import LatencyCounts
from inferry.policy.scaling.observation import Observation, ReplicaReading, Traffic
from inferry.policy.scaling.signals import Signals, Value

OVER_S = 60.0


def counts(*durations_s: float) -> LatencyCounts:
    made = LatencyCounts()
    for duration_s in durations_s:
        made.observe(duration_s)
    return made


def value(metric: str, *looks: Observation, over_s: float = OVER_S) -> Value:
    signals = Signals(10.0, [over_s])
    for each in looks:
        signals.look(each)
        found = signals.value(metric, over_s, 0.95)
    return found


def readings(*gpu_uses: float | None, read_s: float | None = 0.0) -> tuple[ReplicaReading, ...]:
    return tuple(
        ReplicaReading(str(number), read_s, gpu_use=gpu_use) for number, gpu_use in enumerate(gpu_uses)
    )


def looks(*traffic: Traffic | None, every_s: float = 10.0) -> list[Observation]:
    return [Observation(number * every_s, 1, (), 0, each) for number, each in enumerate(traffic)]


def test_a_share_is_the_mean_of_those_that_told_lately() -> None:
    """One of three replicas told too long ago: the mean is that of the other two."""
    serving = (*readings(0.2, 0.6, read_s=100.0), ReplicaReading("old", 60.0, gpu_use=1.0))
    assert value("gpu_use", Observation(100.0, 3, serving)).number == pytest.approx(0.4)


def test_one_hot_replica_of_many_silent_ones_is_no_figure() -> None:
    """Less than half told: the one that did is not taken for all (a stale gauge kept a deployment at its maximum)."""
    found = value("gpu_use", Observation(0.0, 3, readings(1.0, None, None)))
    assert found == Value(None, "1 of 3 replicas told it within 15 s")


def test_with_no_replica_that_serves_there_is_no_figure() -> None:
    """Nothing is not 0: 0 would agree to fewer."""
    assert value("kv_cache_use", Observation(0.0, 2, (), coming=2)).number is None


def test_an_engines_own_metric_is_read_by_its_name() -> None:
    """`engine:NAME` is the mean over the replicas that tell it."""
    serving = tuple(ReplicaReading(str(number), 0.0, own={"vllm:swapped": number}) for number in (1, 3))
    assert value("engine:vllm:swapped", Observation(0.0, 2, serving)).number == 2


def test_a_queue_is_counted_at_gateways_and_engines() -> None:
    """7 at the gateways and 2 at each of two engines make 11."""
    serving = tuple(ReplicaReading(str(number), 0.0, waiting=2) for number in range(2))
    assert value("queue_depth", Observation(0.0, 2, serving, 0, Traffic(waiting=7))) == Value(11)


def test_a_queue_whose_engines_fell_silent_is_at_least_what_gateways_hold() -> None:
    """Then it may be a ground for more replicas, and never one for fewer: an engine that stopped telling may hold a
    thousand."""
    told = Observation(0.0, 1, (ReplicaReading("0", 0.0, waiting=40),), 0, Traffic(waiting=7))
    silent = Observation(60.0, 1, (ReplicaReading("0", 0.0, waiting=40),), 0, Traffic(waiting=7))
    found = value("queue_depth", told, silent)
    assert (found.number, found.ups, found.downs) == (7, True, False)


def test_a_queue_that_no_engine_has_told_yet_is_unknown() -> None:
    """A policy that begins anew remembers nothing: while engines with metrics are silent, none of them is taken away;
    engines without metrics have no queue that anybody could know."""
    silent = Observation(0.0, 1, (ReplicaReading("0"),), 0, Traffic(waiting=7), engines_tell=True)
    found = value("queue_depth", silent)
    assert (found.number, found.ups, found.downs) == (7, True, False)
    assert value("queue_depth", replace(silent, engines_tell=False)) == Value(7)
    read = replace(silent, serving=(ReplicaReading("0", 0.0, running=1),))
    assert value("queue_depth", read) == Value(7)


def test_without_the_gateways_there_is_no_queue_depth() -> None:
    """llm-d-autoscaling#1981: an empty answer must not mean that nobody waits."""
    serving = (ReplicaReading("0", 0.0, waiting=0),)
    assert value("queue_depth", Observation(0.0, 1, serving)).number is None


def test_engines_that_tell_nothing_are_counted_by_the_gateways() -> None:
    """Running requests per replica, of engines without metrics: what the gateways have there."""
    serving = (ReplicaReading("0"), ReplicaReading("1"))
    assert value("running", Observation(0.0, 2, serving, 0, Traffic(in_flight=6))) == Value(3)


def test_a_percentile_is_of_the_window_only() -> None:
    """An hour of fast requests before the window does not hide that those within it were slow."""
    fast, all_ = counts(*[0.1] * 1000), counts(*[0.1] * 1000, *[5.0] * 20)
    begin, end = Traffic(ended=1000, arrived=1000, ttft=fast), Traffic(ended=1020, arrived=1020, ttft=all_)
    found = value("ttft_ms", *looks(begin, end, every_s=60.0))
    assert found.number == pytest.approx(5000, rel=0.04)
    assert found.downs


def test_a_window_that_is_not_full_may_add_and_not_remove() -> None:
    """20 s after the start, a minute is not known."""
    slow = [
        Traffic(ended=number * 10, arrived=number * 10, e2e=counts(*[3.0] * number * 10))
        for number in range(3)
    ]
    found = value("e2e_ms", *looks(*slow))
    assert (found.ups, found.downs, found.but) == (True, False, "of 20 s so far, not 60 s")


def test_no_request_and_none_on_its_way_is_no_load() -> None:
    """An idle deployment has latency 0, so that it may shrink."""
    assert value("ttft_ms", *looks(*[Traffic(ended=5, arrived=5)] * 8)) == Value(0.0)


def test_requests_of_which_none_ends_are_no_figure() -> None:
    """A deployment that hangs looks idle to whoever counts what ended."""
    found = value("ttft_ms", *looks(*[Traffic(arrived=9, in_flight=9)] * 8))
    assert found == Value(None, "none of 9 requests ended in 60 s")


def test_four_requests_are_too_few_to_add_for() -> None:
    """One slow request at night is no 95th percentile; but it keeps replicas from leaving."""
    begin, end = Traffic(), Traffic(ended=4, arrived=4, ttft=counts(9, 9, 9, 9))
    found = value("ttft_ms", *looks(begin, end, every_s=60.0))
    assert (found.ups, found.downs) == (False, True)
    assert found.number is not None


def test_counters_that_began_anew_make_no_negative_rate() -> None:
    """A gateway was replaced: 1,000 requests become 10. The window begins with the new counters."""
    before = [Traffic(arrived=900 + number) for number in range(5)]
    after = [Traffic(arrived=10 * number) for number in range(3)]
    found = value("requests_per_s", *looks(*before, *after))
    assert found.number == pytest.approx(1.0)
    assert not found.downs, "only 20 s are known of the new counters"


def test_at_the_look_at_which_counters_begin_anew_there_is_no_rate() -> None:
    """Nothing can be said yet, so nothing is."""
    assert value("requests_per_s", *looks(Traffic(arrived=900), Traffic(arrived=10))).number is None


def test_a_window_never_reaches_over_an_outage_of_the_gateways() -> None:
    """After 10 minutes of silence a rate over a minute is not the mean of these 10 minutes."""
    quiet: list[Traffic | None] = [None] * 60
    found = value("requests_per_s", *looks(Traffic(), *quiet, Traffic(arrived=6000), Traffic(arrived=6020)))
    assert found.number == pytest.approx(2.0)
    assert not found.downs


def test_rates_and_error_shares_are_of_the_window() -> None:
    """60 requests, 1,200 tokens and 6 failures in a minute."""
    minute = looks(Traffic(), Traffic(arrived=60, ended=60, failed=6, output_tokens=1200), every_s=60.0)
    assert value("requests_per_s", *minute).number == pytest.approx(1.0)
    assert value("output_tokens_per_s", *minute).number == pytest.approx(20.0)
    assert value("error_rate", *minute).number == pytest.approx(0.1)


def test_memory_stays_bounded_over_a_long_window() -> None:
    """A window of a day at 10 looks a second keeps about a hundred of them, and still spans a day."""
    signals = Signals(60.0, [86_400.0])
    for number in range(3000):
        signals.look(Observation(number * 60.0, 1, (), 0, Traffic(arrived=number * 60)))
    window = signals.windows.last(86_400.0)
    assert window is not None
    assert window.span_s == pytest.approx(86_400, rel=1 / 200)
    assert window.arrived == window.span_s
    assert max(len(kept) for kept in signals.windows._kept.values()) <= 122


def test_half_of_the_replicas_do_not_take_the_others_away() -> None:
    """Two are too busy to tell, two are idle: good for more replicas, not for fewer. Figures of a minute ago are none,
    however rarely it is decided."""
    some = value("gpu_use", Observation(100.0, 4, readings(0.1, 0.1, None, None, read_s=100.0)))
    assert (some.number, some.ups, some.downs) == (0.1, True, False)
    waits = tuple(ReplicaReading(str(n), 100.0, waiting=None if n else 0) for n in range(2))
    assert not value("queue_depth", Observation(100.0, 2, waits, traffic=Traffic())).downs
    signals = Signals(600.0, [OVER_S])
    signals.look(Observation(100.0, 1, readings(0.1, read_s=40.0)))
    assert signals.value("gpu_use", OVER_S, 0.95).number is None
