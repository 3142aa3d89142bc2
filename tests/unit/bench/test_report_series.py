"""The numbers behind the plots: nothing is lost on the way from requests to lines and points."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.bench.records import EngineSample, RequestRecord, RunRecord, Verdict
from inferry.bench.report_engine_plots import engines_view
from inferry.bench.report_series import (
    DOTS_MAX,
    measured,
    per_bin,
    shares_within,
    thinned,
    token_gaps,
)

from .made_up_runs import made_up_run


def request(number: int, due_s: float, ttft_s: float, verdict: Verdict = Verdict.OK) -> RequestRecord:
    return RequestRecord(
        number=number,
        verdict=verdict,
        due_s=due_s,
        sent_s=due_s,
        first_token_s=due_s + ttft_s,
        ended_s=due_s + ttft_s + 1,
    )


def record(*requests: RequestRecord, samples: tuple[EngineSample, ...] = ()) -> RunRecord:
    return RunRecord(api="chat", started_wall_s=0, duration_s=1, requests=requests, samples=samples)


def ttft_ms(each: RequestRecord) -> float | None:
    return None if each.first_token_s is None else 1000 * (each.first_token_s - each.due_s)


def test_bins_hold_every_request_once() -> None:
    """Rates times the width of their bins are the requests of the run: due, answered and failed."""
    run = made_up_run(failures=[Verdict.HTTP_ERROR])
    series = per_bin(run.record)
    requests = run.record.requests
    end_s = max(each.ended_s or 0 for each in requests)
    last_s = end_s - series.width_s * (len(series.due_per_s) - 1)

    def total(pairs: tuple[tuple[float, float | None], ...]) -> float:
        rates = [rate or 0 for _, rate in pairs]
        return sum(rates[:-1]) * series.width_s + rates[-1] * last_s

    assert total(series.due_per_s) == pytest.approx(len(requests))
    assert total(series.ok_per_s) == pytest.approx(sum(each.verdict is Verdict.OK for each in requests))
    assert total(series.failed_per_s) == pytest.approx(sum(each.failed for each in requests))
    assert total(series.tokens_per_s) == pytest.approx(sum(len(each.chunk_s) for each in requests))


def test_in_flight_is_the_most_of_each_bin() -> None:
    """Three that overlap for a moment are three, though none is under way when the bin ends."""
    series = per_bin(record(*(request(number, 10.1 + number / 100, -0.5) for number in range(3))))
    peak = {at_s: value for at_s, value in series.in_flight if value}
    assert peak == {10.5: 3.0}


def test_few_requests_have_no_99th_percentile() -> None:
    """In a bin with fewer than a hundred, the upper line is the slowest, not a point between the last two."""
    series = per_bin(record(*(request(number, 0.0, 0.1 + number / 1000) for number in range(99))))
    assert series.ttft_ms_p99[0][1] == pytest.approx(198)
    more = per_bin(record(*(request(number, 0.0, 0.1 + number / 1000) for number in range(101))))
    assert more.ttft_ms_p99[0][1] == pytest.approx(199)


def test_failures_keep_a_distribution_below_all() -> None:
    """One failure of four: the line ends at three quarters. What the client left as planned is not in it."""
    run = record(
        *(request(number, 0, 0.1 * (number + 1)) for number in range(3)),
        request(3, 0, 0.1, Verdict.TRUNCATED),
        request(4, 0, 0.1, Verdict.ABANDONED),
    )
    shares = shares_within(measured(run), ttft_ms)
    latest_ms, share = shares[-1]
    assert latest_ms == pytest.approx(300)
    assert share == 0.75
    assert shares_within([], ttft_ms) == ()


def test_a_chunk_of_many_tokens_is_many_short_gaps() -> None:
    """Five tokens after 100 ms weigh as five gaps of 20 ms against one gap of 100 ms."""
    stream = RequestRecord(
        number=0,
        verdict=Verdict.OK,
        due_s=0,
        chunk_s=(1.0, 1.1, 1.2),
        chunk_tokens=(1.0, 5.0, 1.0),
    )
    gaps, every = token_gaps([stream])
    assert every == 1
    assert gaps[0][0] == pytest.approx(20)
    assert gaps[-1][0] == pytest.approx(100)
    # Of six gaps five are short: percentiles up to the 80th, counted from the first of six to the last, are 20 ms.
    assert max(share or 0 for gap, share in gaps if gap < 21) == 0.8


def test_thinning_keeps_the_tail() -> None:
    """Of very many requests few are drawn, in their order, and the slowest hundredth is there to the last."""
    many = [request(number, number / 100, 0.1 + (number * 7919 % 10_000) / 1000) for number in range(10_000)]
    some = thinned(many, lambda each: ttft_ms(each) or 0)
    slowest = sorted(many, key=lambda each: ttft_ms(each) or 0)[-100:]
    assert len(some.shown) <= DOTS_MAX + 100
    assert {each.number for each in slowest} <= {each.number for each in some.shown}
    assert [each.number for each in some.shown] == sorted(each.number for each in some.shown)
    assert some.every == 6
    assert thinned(many[:DOTS_MAX], lambda each: ttft_ms(each) or 0).every == 1


def sample(at_s: float, replica: str, **more: Any) -> EngineSample:
    return EngineSample(at_s=at_s, replica=replica, **more)


def test_replicas_are_added_up() -> None:
    """Running is the sum over replicas of what each said last, not of what one said just now."""
    view = engines_view(
        record(
            request(0, 0, 0.1),
            samples=(
                sample(0.0, "a", running=3),
                sample(0.1, "b", running=4),
                sample(1.0, "a", running=1),
                sample(1.1, "b"),
            ),
        )
    )
    [plot] = view
    assert [line.points for line in plot.lines] == [((0.0, 3), (0.1, 7), (1.0, 5))]


def test_an_engine_that_was_restarted_counts_from_nothing() -> None:
    """A counter that falls makes no negative preemptions, and no share of hits that never was."""
    view = engines_view(
        record(
            request(0, 0, 0.1),
            samples=(
                sample(0, "a", preemptions=5, prefix_hit_tokens=50, prefix_query_tokens=100),
                sample(1, "a", preemptions=7, prefix_hit_tokens=60, prefix_query_tokens=120),
                sample(2, "a", preemptions=0, prefix_hit_tokens=0, prefix_query_tokens=0),
            ),
        )
    )
    values = {plot.title: [y for _, y in plot.lines[0].points] for plot in view}
    assert values == {"Engine: preemptions": [0, 2, 0], "Engine: prefix cache hits": [0.5, None]}
