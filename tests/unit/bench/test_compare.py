"""A is compared with B: what differs is found, what is chance is not, what can't be compared is refused."""

from __future__ import annotations

import math
import random

import msgspec
import pytest

from inferry.bench.block_intervals import blocks, mean_difference, percentile_difference, student
from inferry.bench.compare import Comparison, Difference, compare, unlike
from inferry.bench.compare_text import text
from inferry.bench.plan import Constant, Poisson, RunPlan, Slo
from inferry.bench.records import RequestRecord, Verdict
from inferry.bench.report import Report, ReportedRun
from inferry.bench.report_json import RunResult, result
from inferry.bench.summary import summarise
from inferry.bench.validity import judge
from inferry.core.errors import ConfigError
from tests.unit.bench.known_runs import audit, plan, request, run


def made(
    seed: int, *, slower: float = 1.0, fail_every: int = 0, count: int = 600, of: RunPlan | None = None
) -> RunResult:
    """A run with random latencies; each `fail_every`-th request fails."""
    draw = random.Random(seed)
    requests: list[RequestRecord] = []
    for number in range(count):
        verdict = Verdict.TRUNCATED if fail_every and number % fail_every == 0 else Verdict.OK
        ttft_s, gap_s = draw.lognormvariate(-2.5, 0.3) * slower, draw.lognormvariate(-4.6, 0.1)
        requests.append(request(number, due_s=number / 10, ttft_s=ttft_s, gap_s=gap_s, verdict=verdict))
    of = of or plan(slo=Slo(ttft_ms=200))
    record = run(requests)
    summary = summarise(of, record)
    reported = ReportedRun(plan=of, record=record, summary=summary, validity=judge(of, record, summary))
    return result(Report(runs=(reported,)))


def of(comparison: Comparison, figure: str) -> Difference:
    return next(each for each in comparison.differences if each.figure == figure)


def test_what_is_slower_is_found_worse() -> None:
    """15 % more time to the first token: worse by that much at p50, and gaps between tokens are not."""
    found = compare([made(1)], [made(2, slower=1.15)])
    first = of(found, "ttft_ms p50")
    assert first.word == "worse"
    assert first.change == pytest.approx(0.15, abs=0.05)
    assert first.low is not None
    assert first.high is not None
    assert first.low < (first.b or 0) - (first.a or 0) < first.high
    assert of(found, "itl_ms p50").word in ("same", "no evidence")
    assert "ttft_ms p50" in found.worse


def test_the_other_way_round_it_is_better() -> None:
    """Swapped, the same difference is an improvement."""
    found = compare([made(2, slower=1.15)], [made(1)])
    assert of(found, "ttft_ms p50").word == "better"
    assert "ttft_ms p50" in found.better


def test_chance_is_seldom_taken_for_a_difference() -> None:
    """Twelve pairs of runs of one server: of their medians at most two are called different."""
    called = [
        word
        for seed in range(12)
        if (word := of(compare([made(seed, count=200)], [made(1000 + seed, count=200)]), "ttft_ms p50").word)
        in ("better", "worse")
    ]
    assert len(called) <= 2


def test_the_same_run_is_the_same() -> None:
    """A result compared with itself differs in nothing, and gives the same answer each time."""
    one = made(3)
    found = compare([one], [one])
    assert found.worse == found.better == ()
    assert of(found, "e2e_ms p50").word in ("same", "no evidence")
    assert compare([one], [one]) == found


def test_failing_what_is_slow_wins_nothing() -> None:
    """A server that fails each fifth request is infinitely late at p90, and its failures are told."""
    found = compare([made(4)], [made(4, fail_every=5)])
    assert of(found, "ttft_ms p90").b == math.inf
    assert {"ttft_ms p90", "failed", "goodput"} <= set(found.worse)
    assert of(found, "failed").b == pytest.approx(0.2)
    assert "failed" in text(found)


def test_a_comparison_ends_in_a_sentence() -> None:
    """What is better, worse, or not known, by the names that the caller gives."""
    one, slow = made(1), made(2, slower=1.3)
    assert text(compare([one], [slow]), "old", "new").endswith(".")
    assert "new is WORSE than old by ttft_ms p50" in text(compare([one], [slow]), "old", "new")
    assert "B is better than A by ttft_ms p50" in text(compare([slow], [one]))
    assert "There is no evidence that B differs from A" in text(compare([one], [one]))


def test_what_the_client_may_have_made_is_no_evidence() -> None:
    """30 % more is worse; with a client whose looks came 60 ms late at the median, nobody knows whose it is."""
    slow = made(2, slower=1.3)
    late = msgspec.structs.replace(slow, audits=(audit(lag_ms_p50=60.0, lag_ms_p99=90.0),))
    assert of(compare([made(1)], [slow]), "ttft_ms p50").word == "worse"
    assert of(compare([made(1)], [late]), "ttft_ms p50").word == "no evidence"


def test_what_is_sure_and_small_is_not_called() -> None:
    """1 % more in each of 600 requests is beyond chance, and too little to matter."""
    one = made(3)
    assert one.per_request is not None
    more = [value and value * 1.01 for value in one.per_request.itl_ms]
    other = msgspec.structs.replace(one, per_request=msgspec.structs.replace(one.per_request, itl_ms=more))
    assert of(compare([one], [other]), "itl_ms p50").word in ("same", "no evidence")


def test_few_requests_decide_no_p99() -> None:
    """Of 200 requests two lie beyond the p99: too few, whatever the difference."""
    found = compare([made(5, count=200)], [made(6, count=200, slower=2)])
    assert of(found, "ttft_ms p99").word == "too few"
    assert of(found, "ttft_ms p50").word == "worse"


def test_different_workloads_are_not_compared() -> None:
    """Another rate: refused, with both; compared anyway, it is said first."""
    one, other = made(7), made(8, of=plan(arrivals=Poisson(rate=12), slo=Slo(ttft_ms=200)))
    with pytest.raises(ConfigError, match=r'arrivals: .*"constant","rate":10.* and .*"poisson","rate":12'):
        compare([one], [other])
    assert "Not the same workload: arrivals" in text(compare([one], [other], anyway=True))


def test_other_fields_of_the_body_are_another_workload() -> None:
    """Four answers for one request: refused, with both."""
    bare = plan(slo=Slo(ttft_ms=200))
    target = msgspec.structs.replace(bare.target, extra={"n": 4})
    with pytest.raises(ConfigError, match=r'extra: \{\} and \{"n":4\}'):
        compare([made(7)], [made(8, of=msgspec.structs.replace(bare, target=target))])


def test_answers_of_another_length_are_told() -> None:
    """With equal plans B's answers have a quarter of A's tokens: said, with both; within a tenth nothing is."""
    one = made(7)
    few, near = (
        msgspec.structs.replace(
            one, tokens=msgspec.structs.replace(one.tokens, output=int(one.tokens.output * times))
        )
        for times in (0.25, 0.95)
    )
    assert any(
        words.startswith("output tokens per request were 4 of A and 1 of B")
        for words in compare([one], [few]).cautions
    )
    assert not any("tokens" in words for words in compare([one], [near]).cautions)


def test_prompts_counted_otherwise_are_told() -> None:
    """Prompts of as many tokens by another tokenizer are other prompts; other notes are nobody's business."""
    one, same, other = (
        msgspec.structs.replace(made(7), notes=notes)
        for notes in (("prompts: a file",), ("prompts: a file", "more"), ("prompts: estimated",))
    )
    assert not any("prompts" in words for words in compare([one], [same]).cautions)
    assert "prompts were not counted alike: a file / estimated" in compare([one], [other]).cautions


def test_who_was_asked_may_differ() -> None:
    """Two servers, two models, two seeds: that is what one compares."""
    bare = plan(arrivals=Constant(rate=10), slo=Slo(ttft_ms=200))
    target = msgspec.structs.replace(bare.target, base_url="http://127.0.0.1:2/v1", model="other")
    assert unlike([made(9), made(10, of=msgspec.structs.replace(bare, target=target, seed=4))]) == []


def test_without_a_plan_the_work_done_is_compared() -> None:
    """Of another tool's result the plan is not known; other lengths show all the same."""
    one = msgspec.structs.replace(made(11), plan=None)
    tokens = msgspec.structs.replace(one.tokens, output=one.tokens.output * 2)
    assert unlike([made(12), one]) == []
    assert unlike([one, msgspec.structs.replace(one, tokens=tokens)]) == [
        "output tokens per request: 4 and 8"
    ]


def failing(*counts: tuple[int, int]) -> list[RunResult]:
    """Runs of which so many failed of so many, spread over the time."""
    found = []
    for seed, (failed, count) in enumerate(counts):
        one = made(seed, count=count)
        assert one.per_request is not None
        bad = {(2 * place + 1) * count // (2 * failed) for place in range(failed)}
        verdict = ["truncated" if place in bad else "ok" for place in range(count)]
        found.append(
            msgspec.structs.replace(
                one,
                per_request=msgspec.structs.replace(one.per_request, verdict=verdict),
                requests=msgspec.structs.replace(one.requests, failed=failed, ok=count - failed),
            )
        )
    return found


def test_one_failure_decides_no_percentile() -> None:
    """4 of 500 fail and then 5: that makes the p99 infinite, and is chance. 100 make the p90 so, and aren't."""
    few, more, many = failing((4, 500), (5, 500), (100, 500))
    found = compare([few], [more])
    assert of(found, "ttft_ms p99").b == math.inf
    assert of(found, "ttft_ms p99").word == of(found, "failed").word == "no evidence"
    assert of(compare([more], [more]), "ttft_ms p99").word == "no evidence"
    assert of(compare([few], [many]), "ttft_ms p90").word == "worse"
    assert of(compare([many], [few]), "ttft_ms p90").word == "better"


@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        ((0, 1000), (9, 1000), "worse"),
        ((9, 1000), (0, 1000), "better"),
        ((0, 1000), (2, 1000), "no evidence"),
        ((20, 1000), (25, 1000), "same"),
        ((6, 1000), (10, 1000), "no evidence"),
        ((400, 1000), (500, 1000), "worse"),
        ((100, 1000), (100, 1000), "no evidence"),
    ],
)
def test_failures_count_beside_those_there_were(a: tuple[int, int], b: tuple[int, int], word: str) -> None:
    """Twice as many, beyond chance, are worse, however few; and so are two points more of many."""
    one, other = failing(a, b)
    assert of(compare([one], [other]), "failed").word == word


def test_invalid_runs_end_in_no_evidence_of_anything() -> None:
    """Neither that they differ nor that they don't; a run that measured nothing is as good as invalid."""
    one = made(16)
    bad = msgspec.structs.replace(one, verdict="invalid", reasons=("too slow a client",))
    nothing = msgspec.structs.replace(one, requests=msgspec.structs.replace(one.requests, due=0))
    assert compare([one], [one]).invalid == ()
    assert compare([one, bad], [one]).invalid == ("A",)
    assert compare([one], [nothing]).invalid == ("B",)
    assert compare([bad], [bad]).invalid == ("A", "B")
    shown = text(compare([one], [bad]), "old", "new").splitlines()[-1]
    assert shown == "new is INVALID, so nobody can say whether new differs from old."


def test_without_requests_nothing_is_said() -> None:
    """A result without figures of single requests can't tell chance."""
    with pytest.raises(ConfigError, match="B has no figures of single requests"):
        compare([made(13)], [msgspec.structs.replace(made(14), per_request=None)])


def test_cautions_come_along() -> None:
    """An invalid side is told, and that one run is one run; three runs of each need no such word."""
    bad = msgspec.structs.replace(made(15), verdict="invalid", reasons=("too slow a client",))
    found = compare([made(16)], [bad])
    assert found.cautions[0] == "B is invalid: too slow a client"
    assert "one run on a side" in found.cautions[1]
    three = [made(seed, count=100) for seed in (17, 18, 19)]
    assert compare(three, three).cautions == ()


def test_blocks_are_neighbours_and_lose_nothing() -> None:
    """Cut into blocks, the values are all there in their order; few values make few blocks."""
    assert [value for block in blocks(range(101)) for value in block] == list(range(101))
    assert [len(blocks(range(count))) for count in (0, 4, 12, 1000)] == [0, 1, 2, 10]


def test_dependent_requests_count_as_fewer() -> None:
    """Values that stay together in time give a wider interval than the same values in any order."""
    draw = random.Random(1)
    waves = [10 + 3 * math.sin(n / 25) + draw.random() for n in range(600)]
    mixed = draw.sample(waves, len(waves))
    (low, high), (low_mixed, high_mixed) = (
        percentile_difference(blocks(values), blocks(values), 0.5) for values in (waves, mixed)
    )
    assert high - low > 2 * (high_mixed - low_mixed)


def waits(draw: random.Random, count: int) -> list[float]:
    """Times in the system of a queue that is busy 70 % of the time (M/M/1), past its beginning."""
    wait, found = 0.0, []
    for _ in range(count + 200):
        service = draw.expovariate(1)
        found.append(wait + service)
        wait = max(0.0, wait + service - draw.expovariate(0.7))
    return found[200:]


def test_intervals_hold_what_they_promise() -> None:
    """Of 200 differences whose truth is known, 180 intervals and more enclose it, also of requests in a queue."""
    draw = random.Random(2)
    truth = -math.log(0.1) * 0.5
    apart = together = 0
    for _ in range(200):
        a, b = ([draw.expovariate(1 / scale) for _ in range(300)] for scale in (1, 1.5))
        low, high = percentile_difference(blocks(a), blocks(b), 0.9)
        apart += low <= truth <= high
        low, high = percentile_difference(blocks(waits(draw, 300)), blocks(waits(draw, 300)), 0.5)
        together += low <= 0 <= high
    assert apart >= 180
    assert together >= 180


def test_the_factor_for_few_blocks() -> None:
    """Student's factors as tables have them; for many it is the normal distribution's."""
    assert [student(freedom) for freedom in (5, 9, 29, 1e9)] == pytest.approx(
        [2.571, 2.262, 2.045, 1.960], abs=4e-3
    )


def test_means_differ_by_what_they_differ() -> None:
    """Of two sets of slices, the interval holds the difference of their means, and is narrow when they vary little."""
    low, high = mean_difference([10, 11, 10, 11] * 5, [20, 21, 20, 21] * 5)
    assert low < 10 < high
    assert high - low < 1
