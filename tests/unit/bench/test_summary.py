"""Figures of made-up runs whose truth is known."""

from __future__ import annotations

import heapq
import math
import random

import pytest

from inferry.bench.plan import Closed, Poisson
from inferry.bench.records import RequestRecord, Verdict
from inferry.bench.request_figures import figures, mean_gap_ms, token_gaps_ms
from inferry.bench.summary import summarise
from tests.unit.bench.known_runs import plan, request, run


def test_a_known_run_has_known_figures() -> None:
    """100 requests of 0.1 s to the first token and 10 ms per token: each figure is what was put in."""
    record = run([request(n, due_s=n / 10) for n in range(100)])
    summary = summarise(plan(), record)
    assert (summary.requests.due, summary.requests.sent, summary.requests.ok) == (100, 100, 100)
    assert (summary.ttft_ms.p50, summary.ttft_ms.p99) == pytest.approx((100, 100))
    assert (summary.itl_ms.mean, summary.tpot_ms.mean) == pytest.approx((10, 10))
    assert summary.itl_ms.count == 300
    assert summary.e2e_ms.max == pytest.approx(130)
    assert summary.requests_per_s.asked == 10
    assert (summary.requests_per_s.due, summary.requests_per_s.sent) == pytest.approx((10, 10))
    assert summary.output_tokens_per_s == pytest.approx(40, rel=0.03)
    assert summary.input_tokens_per_s == pytest.approx(100, rel=0.03)
    assert summary.requests_per_s.ok == pytest.approx(10, rel=0.03)


def test_a_late_client_shows() -> None:
    """What the client sends 50 ms late is 50 ms slower from when it was due, and no slower from when it was sent."""
    summary = summarise(plan(), run([request(n, due_s=n, slip_s=0.05) for n in range(20)]))
    assert summary.ttft_ms.p50 == pytest.approx(100)
    assert summary.ttft_from_due_ms.p50 == pytest.approx(150)
    assert summary.e2e_from_due_ms.p50 == pytest.approx(180)
    assert summary.slip_ms.p50 == pytest.approx(50)


def test_a_chunk_of_five_tokens_is_five_gaps() -> None:
    """Five tokens every 50 ms are gaps of 10 ms between tokens and 50 ms between chunks; the first chunk has none."""
    record = run([request(chunks=(5, 5, 5), gap_s=0.05)])
    summary = summarise(plan(), record)
    assert (summary.itl_ms.p50, summary.itl_ms.max) == pytest.approx((10, 10))
    assert summary.itl_ms.count == 10
    assert (summary.icl_ms.p50, summary.stall_ms.p50) == pytest.approx((50, 50))
    assert summary.icl_ms.count == 2
    assert mean_gap_ms(record.requests[0]) == pytest.approx(10)


def test_less_than_a_token_is_not_stretched() -> None:
    """A chunk that holds a tenth of a token counts a tenth, with the gap it had, not ten times it."""
    gaps = list(token_gaps_ms(request(chunks=(1, 0.1, 2), gap_s=0.02)))
    assert gaps == [pytest.approx((20, 0.1)), pytest.approx((10, 2))]


def test_an_answer_in_one_piece_has_no_gaps() -> None:
    """Not streamed: no gap and no time per token, rather than 0."""
    got = figures(request(chunks=(64,)))
    assert (got.itl_ms, got.tpot_ms, got.stall_ms) == (None, None, None)
    assert (got.ttft_ms, got.e2e_ms) == pytest.approx((100, 100))


def test_failures_are_counted_and_infinitely_late() -> None:
    """2 of 10 failed: the percentiles of successes are finite, those with failures are not from the 80th on."""
    requests = [request(n, due_s=n) for n in range(8)]
    requests += [request(8, due_s=8, verdict=Verdict.TRUNCATED), request(9, due_s=9, verdict=Verdict.UNSENT)]
    summary = summarise(plan(), run(requests))
    assert summary.requests.by_verdict == {"ok": 8, "truncated": 1, "unsent": 1}
    assert (summary.requests.sent, summary.requests.ok, summary.requests.failed) == (9, 8, 2)
    assert (summary.ttft_ms.count, summary.ttft_ms.infinite) == (8, 0)
    late = summary.with_failures.ttft_ms
    assert (late.count, late.infinite, late.p99) == (10, 2, None)
    assert late.p50 == pytest.approx(100)
    assert late.at("p99") == math.inf
    assert summary.ttft_ms.at("p99") == pytest.approx(100)


def test_who_leaves_as_planned_is_no_failure() -> None:
    """An abandoned request is in no percentile, with failures or without."""
    summary = summarise(plan(), run([request(), request(1, due_s=1, verdict=Verdict.ABANDONED, ttft_s=9)]))
    assert (summary.requests.failed, summary.requests.abandoned) == (0, 1)
    assert summary.with_failures.ttft_ms.count == 1
    assert summary.ttft_ms.max == pytest.approx(100)


def test_the_warm_up_is_in_no_figure() -> None:
    """Requests of the warm-up are counted apart, however slow."""
    slow = [request(n, due_s=n, ttft_s=5, warmup=True) for n in range(3)]
    summary = summarise(plan(), run([*slow, *(request(n, due_s=n) for n in range(3, 10))]))
    assert (summary.requests.due, summary.requests.warmup) == (7, 3)
    assert summary.ttft_ms.max == pytest.approx(100)


def test_nothing_but_warm_up() -> None:
    """A run that ends before its warm-up has counts of 0 and no figures."""
    summary = summarise(plan(), run([request(warmup=True)]))
    assert summary.requests.due == 0
    assert (summary.window, summary.ttft_ms.p50, summary.output_tokens_per_s) == (None, None, None)


def test_a_p99_of_few_values_is_marked() -> None:
    """99 values have no 99th percentile worth the name, and 9 no 90th; 100 have, and its interval is open above."""
    few = summarise(plan(), run([request(n, due_s=n) for n in range(99)])).ttft_ms
    very_few = summarise(plan(), run([request(n, due_s=n) for n in range(9)])).ttft_ms
    enough = summarise(plan(), run([request(n, due_s=n) for n in range(100)])).ttft_ms
    assert (few.few, very_few.few, enough.few) == (("p99",), ("p90", "p95", "p99"), ())
    assert enough.between["p99"][1] is None
    assert enough.between["p50"] == pytest.approx((100, 100))


def test_reasoning_comes_before_the_answer() -> None:
    """The first token of all and the first of the answer are told apart."""
    summary = summarise(plan(), run([request(first_answer_s=0.12, reasoning_tokens=2)]))
    assert summary.ttft_ms.p50 == pytest.approx(100)
    assert summary.ttft_answer_ms.p50 == pytest.approx(120)
    assert summary.tokens.reasoning == 2


def test_the_cache_as_expected_and_as_seen() -> None:
    """A server that says nothing where its cache had nothing, as vLLM, has no larger share for that; one that never
    says anything has none."""
    requests = [
        request(0, shared_tokens=0, input_tokens=100),
        request(1, due_s=1, shared_tokens=60, cached_tokens=48, input_tokens=100),
        request(2, due_s=2, shared_tokens=60, input_tokens=100),
    ]
    cache = summarise(plan(), run(requests)).cache
    assert cache is not None
    assert (cache.requests, cache.expected_share, cache.seen_share) == (3, 0.4, 0.16)
    assert summarise(plan(), run([request()])).cache is None


def test_a_steady_run_is_found_steady() -> None:
    """Poisson arrivals at a server without a queue: steady for most of the run, and stationary, for six seeds."""
    for seed in range(6):
        draw = random.Random(seed)
        due, requests = 0.0, []
        for number in range(600):
            due += draw.expovariate(20)
            requests.append(request(number, due_s=due, ttft_s=draw.lognormvariate(-2, 0.5), gap_s=0.1))
        window = summarise(plan(arrivals=Poisson(rate=20)), run(requests)).window
        assert window is not None
        assert window.steady, seed
        assert window.stationary, seed


def test_a_growing_queue_is_not_stationary() -> None:
    """Requests that come faster than they are served wait longer and longer: the run says so, and is not steady."""
    requests = [request(n, due_s=n / 10, ttft_s=0.1 + n / 10 * 0.5) for n in range(200)]
    window = summarise(plan(), run(requests)).window
    assert window is not None
    assert window.stationary is False
    assert not window.steady
    assert "depends on the length of the test" in window.reason


def queue_at(busy: float, seed: int) -> list[RequestRecord]:
    """600 requests at eight servers and one queue, with exponential times throughout (M/M/8)."""
    draw, free, due, made = random.Random(seed), [0.0] * 8, 0.0, []
    for number in range(600):
        due += draw.expovariate(20)
        begin = max(due, heapq.heappop(free))
        work = draw.expovariate(20 / (8 * busy))
        heapq.heappush(free, begin + work)
        made.append(request(number, due_s=due, ttft_s=begin - due + 0.02, gap_s=work / 3))
    return made


def test_a_busy_queue_is_told_from_a_growing_one() -> None:
    """Busy 80 % of the time, latencies hold still, and the run is steady; asked for 130 %, they do not."""
    for seed in range(5):
        busy = summarise(plan(arrivals=Poisson(rate=20)), run(queue_at(0.8, seed))).window
        growing = summarise(plan(arrivals=Poisson(rate=20)), run(queue_at(1.3, seed))).window
        assert busy is not None
        assert growing is not None
        assert (busy.stationary, busy.steady) == (True, True), seed
        assert (growing.stationary, growing.steady) == (False, False), seed


def test_a_server_that_dies_half_way_is_not_stationary() -> None:
    """From some time on all fail: the latency goes into failures, and no figure is made up for it."""
    requests = [request(n, due_s=n, verdict=Verdict.OK if n < 40 else Verdict.CONNECT) for n in range(100)]
    window = summarise(plan(), run(requests)).window
    assert window is not None
    assert window.stationary is False
    assert "into failures" in window.reason


def test_too_few_to_tell() -> None:
    """Of 30 requests nobody can say whether latencies hold still."""
    window = summarise(plan(), run([request(n, due_s=n) for n in range(30)])).window
    assert window is not None
    assert window.stationary is None


def test_the_filling_at_the_beginning_is_left_out() -> None:
    """A closed loop of 8 that begins one by one: rates are those of the time when all 8 are busy."""
    requests, number = [], 0
    for user in range(8):
        due = user * 1.0
        while due < 40:
            requests.append(request(number, due_s=due, ttft_s=0.7))
            number, due = number + 1, due + 0.73
    summary = summarise(plan(arrivals=Closed(concurrency=8)), run(requests))
    assert summary.window is not None
    assert summary.window.steady
    assert summary.window.from_s > 2
    assert summary.requests_per_s.ok == pytest.approx(8 / 0.73, rel=0.06)
