"""What the terminal shows of a report, and of a comparison."""

from __future__ import annotations

from msgspec.structs import replace

from inferry.bench.capacity import Found, Goal
from inferry.bench.compare import compare
from inferry.bench.compare_text import text as compared
from inferry.bench.cost import Cost
from inferry.bench.energy import Energy
from inferry.bench.plan import RunPlan, Slo
from inferry.bench.records import Calibration, Verdict
from inferry.bench.report import Capacity, Report, ReportedRun
from inferry.bench.report_json import RunResult, decode, encode
from inferry.bench.report_text import text
from inferry.bench.validity import Validity

from .made_up_runs import closed_plan, made_up_run

RUN = made_up_run(20.0)
FAILING = made_up_run(20.0, failures=(Verdict.HTTP_ERROR,))


def lines(report: Report) -> dict[str, str]:
    """By their labels."""
    return {line[:12].strip(): line[12:] for line in text(report).splitlines() if line[:12].strip()}


def test_one_run_is_all_there() -> None:
    """Counts, rates, goodput, what engines said, what the client did, and the verdict last."""
    shown = lines(Report(runs=(RUN,)))
    requests = RUN.summary.requests
    assert shown["requests"].startswith(
        f"{requests.due} due, {requests.sent} sent, {requests.ok} ok, 0 failed"
    )
    assert {"rate", "tokens", "goodput", "in flight", "cache", "engine", "client"} <= set(shown)
    verdict = replace(RUN, validity=Validity(verdict="invalid", reasons=("too little CPU",)))
    assert text(Report(runs=(verdict,))).splitlines()[-2:] == [
        "INVALID: these figures are not the server's (20 requests/s)",
        "  - too little CPU",
    ]


def test_both_clocks_are_shown() -> None:
    """Latencies from when requests were sent stand beside those from when they were due."""
    rows = text(Report(runs=(RUN,))).splitlines()
    sent = next(number for number, row in enumerate(rows) if row.startswith("TTFT from sent"))
    assert rows[sent + 1].startswith("     from due")
    assert len(rows[sent].split()) == len(rows[sent + 1].split()) + 1 == 9


def test_failures_are_in_the_table_and_in_words() -> None:
    """Failures are infinitely late in a row of their own, and the first is told as the server said it."""
    shown = text(Report(runs=(FAILING,)))
    row = next(row for row in shown.splitlines() if row.startswith("     +failures"))
    assert row.split()[-1] == "failed"
    assert f"{FAILING.summary.requests.failed} http_error: " in shown


def test_a_server_cannot_move_the_cursor() -> None:
    """Control characters in what a server said are not sent to the terminal."""
    requests = tuple(
        replace(each, reason="\x1b[2Jgone\n") if each.failed else each for each in FAILING.record.requests
    )
    hostile = replace(FAILING, record=replace(FAILING.record, requests=requests))
    assert "\x1b" not in text(Report(runs=(hostile,)))


def test_percentiles_of_few_are_marked() -> None:
    """A p99 of fewer than 100 values has a mark, and the mark is explained."""
    few = text(Report(runs=(made_up_run(5.0, 10.0),)))
    assert "* of too few values" in few
    assert "* of too few values" not in text(Report(runs=(RUN,)))


def test_cost_and_energy_are_there_where_they_are_known() -> None:
    """Nothing is said of what is not known; what can't be told is said with its reason."""
    assert not {"cost", "energy"} & set(lines(Report(runs=(RUN,))))
    cost = Cost(
        per_hour=2.5, currency="EUR", per_million_output_tokens=0.6944, per_million_tokens=0.2,
        per_million_good_output_tokens=None,
    )  # fmt: skip
    energy = Energy(gpus=2, power_w=700.0, j_per_output_token=0.7)
    known = replace(RUN, summary=replace(RUN.summary, cost=cost, energy=energy))
    shown = lines(Report(runs=(known,)))
    assert shown["cost"] == (
        "a million output tokens 0.694 EUR, input and output tokens together 0.2 EUR, "
        "output tokens of good answers –; at 2.5 EUR an hour"
    )
    assert shown["energy"] == "power of 2 GPUs, on average 700 W, energy per output token 0.7 J"
    unlimited = replace(known, plan=replace(RUN.plan, slo=Slo()))
    assert "good answers" not in lines(Report(runs=(unlimited,)))["cost"]
    secret = replace(known.summary, energy=Energy(gpus=1, why_not="GPU 0 computes for others too"))
    untold = lines(Report(runs=(replace(known, summary=secret),)))
    assert untold["energy"] == "power not known: GPU 0 computes for others too"


def test_several_runs_are_a_table() -> None:
    """One line per load, in the order of size, then the answer in a sentence."""
    runs = (made_up_run(40.0, 10.0), made_up_run(10.0, 10.0))
    rows = text(Report(runs=runs)).splitlines()
    assert [row.split()[0] for row in rows[1:3]] == ["10", "40"]
    found = Found(rate=17.0, low=16.0, high=18.0, sure=True, why="")
    searched = text(Report(runs=runs, capacity=Capacity(goal=Goal(), found=found)))
    assert "Carries 17 requests/s (between 16 and 18)" in searched


def test_a_closed_loop_and_a_calibration() -> None:
    """Users have no due time to be late for; what the client alone takes is told where it was measured."""
    plan: RunPlan = closed_plan(4)
    own = Calibration(
        overhead_ms_p50=0.4, overhead_ms_p99=1.0, requests_per_s=50.0, requests_per_s_max=4000.0,
        tokens_per_s_max=1e5, output_tokens=64, processes=1,
    )  # fmt: skip
    shown = text(Report(runs=(made_up_run(plan=plan),), calibration=own))
    assert "(4 users)" in shown
    assert "late (p99)" not in shown
    assert "alone it takes 0.4 ms and can do 4,000 requests/s" in shown


def results(run: ReportedRun) -> tuple[RunResult, ...]:
    return (decode(encode(Report(runs=(run,))), "made up"),)


def test_a_comparison_is_a_table_and_a_sentence() -> None:
    """Each figure has a line with its word, and the end says who is better by what."""
    slow = made_up_run(20.0, 25.0, gap_s=0.03, slots=200, plan=RUN.plan)
    quick = made_up_run(20.0, 25.0, gap_s=0.02, slots=200, plan=RUN.plan)
    worse = compared(compare(results(quick), results(slow)), "before", "after")
    assert worse.splitlines()[0] == "A: before   B: after"
    assert "after is WORSE than before by" in worse
    row = next(row for row in worse.splitlines() if row.startswith("e2e_ms p50"))
    assert row.endswith("worse")
    assert "after is better than before by" in compared(
        compare(results(slow), results(quick)), "before", "after"
    )
    assert "no evidence that B differs" in compared(compare(results(quick), results(quick)))
