"""A client that was the limit is called so; a server that was slow is not its fault."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Any

import pytest

from inferry.bench.plan import Closed, Constant, RunPlan
from inferry.bench.records import Calibration, RequestRecord, Verdict
from inferry.bench.summary import summarise
from inferry.bench.validity import Validity, judge
from tests.unit.bench.known_runs import audit, plan, request, run


def requests(count: int = 100, **more: Any) -> list[RequestRecord]:
    return [request(n, due_s=n / 10, **more) for n in range(count)]


def judged(
    made: Sequence[RequestRecord] | None = None,
    *,
    of: RunPlan | None = None,
    calibration: Calibration | None = None,
    **more: Any,
) -> Validity:
    of = of or plan()
    record = run(requests() if made is None else made, **more)
    return judge(of, record, summarise(of, record), calibration)


def test_a_quick_client_is_valid() -> None:
    """Nothing to say against a client that had little to do."""
    assert judged() == Validity(verdict="valid")


def test_a_server_that_fails_makes_no_run_invalid() -> None:
    """All answers broken: that is a figure about the server."""
    assert judged(requests(verdict=Verdict.STREAM_ERROR)).verdict == "valid"


@pytest.mark.parametrize(
    ("audited", "verdict", "says"),
    [
        ({"cpu_s": 8.5}, "suspect", "used 85% of a core"),
        ({"cpu_s": 9.8}, "invalid", "used 98% of a core"),
        ({"lag_ms_p99": 2.0}, "suspect", "2 ms late (p99 of its event loop's lag)"),
        ({"lag_ms_p99": 60.0}, "invalid", "the p99 of the gap between tokens is 10 ms"),
        ({"lag_ms_p50": 30.0, "lag_ms_p99": 60.0}, "invalid", "30 ms late (p50"),
        ({"idle_share": 0.03}, "suspect", "waited for 3% of their time until a request was made"),
        ({"idle_share": 0.3}, "invalid", "there was less load than asked for"),
        ({"slip_ms_p99": 8.0}, "suspect", "sent up to 8 ms late"),
        ({"slip_ms_p99": 80.0}, "invalid", "the load came otherwise than planned"),
    ],
)
def test_a_starved_client_is_named(audited: dict[str, Any], verdict: str, says: str) -> None:
    """Too little CPU, late looks and late sends are told, the harder the more they spoil."""
    got = judged(audits=(audit(**audited),))
    assert got.verdict == verdict
    assert len(got.reasons) == 1
    assert says in got.reasons[0]


@pytest.mark.parametrize(("lag_ms_max", "verdict"), [(900.0, "suspect"), (4.0, "valid")])
def test_one_stop_of_the_client_is_in_many_longest_gaps(lag_ms_max: float, verdict: str) -> None:
    """Too rare for a percentile of the lag, yet each stream that it meets has it as its longest gap; 4 ms are no matter."""
    got = judged(audits=(audit(lag_ms_max=lag_ms_max),))
    assert got.verdict == verdict
    assert ["stood still for up to 900 ms" in reason for reason in got.reasons] == [True] * (lag_ms_max > 5)
    in_one_piece = judged(requests(chunks=(1,)), audits=(audit(lag_ms_max=lag_ms_max),))
    assert in_one_piece.verdict == "valid"


def test_a_request_that_was_sent_twice_is_a_doubt() -> None:
    """The server may have lost it; one of the warm-up is in no figure."""
    got = judged([*requests(), request(100, due_s=10, resent=True)])
    assert got.verdict == "suspect"
    assert "1 of 101 requests met a connection that the server was just closing" in got.reasons[0]
    assert judged([request(100, warmup=True, resent=True), *requests()]).verdict == "valid"


def test_a_client_that_stalls_until_all_time_out() -> None:
    """No answer was whole, and the client looked up 400 ms late: it may itself be why, so the run is invalid."""
    made = requests(verdict=Verdict.TIMEOUT, chunks=())
    assert judged(made).verdict == "valid"
    got = judged(made, audits=(audit(lag_ms_p99=400.0),))
    assert got.verdict == "invalid"
    assert "no answer was whole" in got.reasons[0]


def test_the_worst_process_decides() -> None:
    """One process of three that is busy spoils its third of the requests."""
    audits = (audit(), audit(process=1, cpu_s=9.9), audit(process=2))
    got = judged(audits=audits, of=plan(processes=3))
    assert got.verdict == "invalid"
    assert "process 1 " in got.reasons[0]


def test_what_is_small_beside_the_latency_is_fine() -> None:
    """2 ms of lag do not matter where every figure is above 100 ms."""
    assert judged(requests(gap_s=0.2), audits=(audit(lag_ms_p99=2.0),)).verdict == "valid"


def test_a_process_that_says_nothing_is_missed() -> None:
    """Two processes, one audit: nobody knows how the other did."""
    assert judged(of=plan(processes=2)).verdict == "invalid"
    assert judged(audits=()).verdict == "invalid"


@pytest.mark.parametrize(("unsent", "verdict"), [(1, "suspect"), (2, "invalid")])
def test_what_was_not_sent_is_told(unsent: int, verdict: str) -> None:
    """One of 100 is a doubt, more than one in a hundred is too many."""
    made = requests(100 - unsent) + [request(n, due_s=9.9, verdict=Verdict.UNSENT) for n in range(unsent)]
    got = judged(made)
    assert got.verdict == verdict
    assert f"did not get to {unsent} of 100 requests" in got.reasons[0]


def test_a_lower_rate_than_asked_is_told() -> None:
    """Due at 10 a second, sent at 9: the server never had the load that the report would speak of."""
    got = judged([request(n, due_s=n / 10, slip_s=n / 90) for n in range(100)])
    assert got.verdict == "invalid"
    assert any("9 requests/s were sent where 10 were due" in reason for reason in got.reasons)


def test_a_server_that_takes_no_connections_lowers_no_rate() -> None:
    """Refused at once or after 10 s, or slow to connect: the client tried at the rate that was due. What it did not get to is missing."""
    refused = [request(n, due_s=n / 10, verdict=Verdict.CONNECT, ended_s=n / 10 + 10) for n in range(60, 80)]
    late = [request(n, due_s=n / 10, slip_s=3.0, connect_s=3.0) for n in range(80, 100)]
    for made in (refused, [*requests(60), *refused], [*requests(60), *refused, *late]):
        assert judged(made).verdict == "valid"
    ungot = [request(n, due_s=n / 10, verdict=Verdict.UNSENT) for n in range(60, 80)]
    got = judged([*requests(60), *ungot, *(request(n, due_s=n / 10) for n in range(80, 100))])
    assert any("requests/s were sent" in reason for reason in got.reasons)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EADDRNOTAVAIL])
def test_connections_that_fail_at_home_are_told(number: int) -> None:
    """Out of files or ports is this machine's limit; a refused connection is the server's."""
    made = [*requests(), request(100, due_s=10, verdict=Verdict.CONNECT, reason=os.strerror(number))]
    got = judged(made)
    assert got.verdict == "invalid"
    assert os.strerror(number) in got.reasons[0]
    refused = request(100, due_s=10, verdict=Verdict.CONNECT, reason=os.strerror(errno.ECONNREFUSED))
    assert judged([*requests(), refused]).verdict == "valid"


def test_times_that_run_backwards_are_told() -> None:
    """A first token from before its request: no figure of such a clock is worth anything."""
    got = judged([*requests(), request(100, due_s=10, first_token_s=9.0)])
    assert got.verdict == "invalid"
    assert "run backwards, for the first time in request 100" in got.reasons[0]


def test_nothing_measured_is_not_valid() -> None:
    """Only warm-up, or nothing at all: there is no figure to believe."""
    assert judged([]).verdict == "invalid"
    assert "longer duration" in judged(requests(warmup=True)).reasons[0]


def test_a_moving_latency_is_suspect() -> None:
    """A queue that grows through the run makes its percentiles a matter of the run's length."""
    got = judged([request(n, due_s=n / 10, ttft_s=0.1 + n / 20) for n in range(200)])
    assert got.verdict == "suspect"
    assert "not stationary" in got.reasons[0]


def test_a_run_that_was_stopped_is_suspect() -> None:
    """What was stopped before its time measured less than it says."""
    assert judged(stopped_early=True).verdict == "suspect"


def test_what_the_client_adds_by_itself() -> None:
    """Against a server that answers at once the client took 30 ms, or did 5 requests/s: the first spoils what is measured here, the second is a doubt."""
    known = {
        "overhead_ms_p50": 0.2,
        "overhead_ms_p99": 1.0,
        "requests_per_s": 10.0,
        "requests_per_s_max": 900.0,
        "tokens_per_s_max": 9e4,
        "output_tokens": 4,
        "processes": 1,
    }

    def verdict(**more: Any) -> Validity:
        return judged(calibration=Calibration(**(known | more)))

    assert verdict().verdict == "valid"
    assert "takes 30 ms against a server that answers at once" in verdict(overhead_ms_p50=30.0).reasons[0]
    assert verdict(overhead_ms_p50=30.0).verdict == "invalid"
    assert verdict(requests_per_s_max=5.0).verdict == "suspect"
    assert "no more than 5 requests/s, and 10 were due" in verdict(requests_per_s_max=5.0).reasons[0]


def test_a_closed_loop_asks_for_no_rate() -> None:
    """Its users ask when they were answered: no rate is missed, and nothing is late."""
    made = [request(n, due_s=n / 10, slip_s=n / 90) for n in range(100)]
    closed = judged(made, of=plan(arrivals=Closed(concurrency=1)), audits=(audit(slip_ms_p99=90.0),))
    assert not any("requests/s" in reason or "sent up to" in reason for reason in closed.reasons)
    open_loop = judged(made, of=plan(arrivals=Constant(rate=10)))
    assert any("requests/s" in reason for reason in open_loop.reasons)


def test_tokens_that_nobody_counts_are_said() -> None:
    """One answer of which each chunk was taken for a token is enough for a doubt; one as long as asked for is none."""
    made = [*requests(99), request(99, due_s=9.9, token_source="chunks")]
    got = judged(made)
    assert got.verdict == "suspect"
    assert "nobody counts the tokens of 1 of 100 answers" in got.reasons[0]
    assert judged(requests(token_source="asked")).verdict == "valid"
