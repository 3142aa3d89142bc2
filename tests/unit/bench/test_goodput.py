"""Which requests are good, and what is no limit."""

from __future__ import annotations

import pytest

from inferry.bench.goodput import goodput, missed, parse_slo
from inferry.bench.plan import Slo
from inferry.bench.records import RequestRecord, Verdict
from inferry.core.errors import ConfigError
from tests.unit.bench.known_runs import request


def test_limits_are_read_in_any_unit() -> None:
    """Microseconds, milliseconds, seconds and minutes become milliseconds."""
    assert parse_slo("ttft=300ms, itl=500us ,e2e=1.5s") == Slo(ttft_ms=300, itl_ms=0.5, e2e_ms=1500)
    assert parse_slo("e2e=2m") == Slo(e2e_ms=120_000)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is no limit; write for example ttft=300ms,itl=50ms,e2e=10s"),
        ("ttft", "'ttft' is no limit"),
        ("ttft=fast", "'ttft=fast' is no limit"),
        ("ttft=-1ms", "'ttft=-1ms' is no limit"),
        ("tpot=3ms", "'tpot' can't be limited; there are ttft, itl, e2e"),
        ("ttft=300", "'ttft=300' needs a unit: us, ms, s or m, for example ttft=300ms"),
        ("ttft=3h", "needs a unit"),
        ("ttft=1s,ttft=2s", "'ttft' is limited twice"),
        ("itl=0ms", "must be above 0"),
    ],
)
def test_what_is_no_limit_is_named(text: str, says: str) -> None:
    """The error has the part that is wrong, and what would be right."""
    with pytest.raises(ConfigError) as raised:
        parse_slo(text)
    assert says in raised.value.message


def test_each_limit_is_told_apart() -> None:
    """A request breaks the limits that it breaks, and may break several."""
    slow = request(ttft_s=0.4, gap_s=0.06)
    assert missed(slow, Slo(ttft_ms=300, itl_ms=50, e2e_ms=10_000)) == ("ttft", "itl")
    assert missed(slow, Slo(e2e_ms=500)) == ("e2e",)
    assert missed(slow, Slo()) == ()


def test_time_counts_from_when_it_was_due() -> None:
    """A request that the client sent late is late, though the server was quick."""
    assert missed(request(ttft_s=0.1, slip_s=0.3), Slo(ttft_ms=300)) == ("ttft",)


def test_failures_and_unsent_are_bad() -> None:
    """Of five, one failed and one was never sent: three fifths are good, with no limit at all."""
    requests = [request(n) for n in range(3)]
    requests += [request(3, verdict=Verdict.STREAM_ERROR), request(4, verdict=Verdict.UNSENT)]
    got = goodput(requests, Slo(), seconds=2)
    assert (got.good, got.of, got.share, got.per_s) == (3, 5, 0.6, 1.5)
    assert got.missed == {"failed": 2}
    assert got.between[0] < 0.6 < got.between[1]


def test_who_left_before_a_limit_counts_for_nothing() -> None:
    """One that left while all was well is not counted; one that left after it had waited too long is bad."""
    content = request(0, verdict=Verdict.ABANDONED, ttft_s=0.1)
    fed_up = request(1, verdict=Verdict.ABANDONED, ttft_s=2.0, chunks=())
    never_sent = RequestRecord(number=2, due_s=0.0, verdict=Verdict.ABANDONED)
    got = goodput([content, fed_up, never_sent], Slo(ttft_ms=300), seconds=None)
    assert (got.good, got.of, got.missed, got.per_s) == (0, 1, {"ttft": 1}, None)


def test_an_answer_without_tokens_is_there_at_its_end() -> None:
    """Embeddings have no first token: their limit is on when the answer was there."""
    answer = request(chunks=(), ttft_s=0.2)
    assert missed(answer, Slo(ttft_ms=300)) == ()
    assert missed(answer, Slo(ttft_ms=100)) == ("ttft",)


def test_of_nothing_no_share() -> None:
    """Without requests there is no share, and it may be anything."""
    got = goodput([], Slo(), seconds=1)
    assert (got.share, got.between) == (None, (0, 1))
