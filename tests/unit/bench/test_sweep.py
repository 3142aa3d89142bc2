"""Several runs of one plan, on runs that never were."""

from __future__ import annotations

import itertools
from math import inf

import pytest
from msgspec.structs import replace

from inferry.bench.capacity import Goal
from inferry.bench.plan import Closed, Constant, Lengths, Poisson, Ramp, RunPlan, Slo, Synthetic
from inferry.bench.report import ReportedRun
from inferry.bench.sweep import at_load, find_capacity, hopeless_after_s, result_of, spaced, sweep
from inferry.bench.validity import Validity
from inferry.core.errors import BadBenchPlan

from .made_up_runs import made_up_plan, made_up_run

PLAN = made_up_plan(slo=Slo(e2e_ms=1500), warmup_s=0.0, duration_s=20.0)


class Server:
    """8 places, answers of about 0.5 s: 15 requests per second at most. Keeps what it was asked."""

    def __init__(self, *, invalid_from: float = 1e9) -> None:
        self.plans: list[RunPlan] = []
        self.names: list[str] = []
        self._invalid_from = invalid_from

    async def run_once(self, plan: RunPlan, name: str) -> ReportedRun:
        self.plans.append(plan)
        self.names.append(name)
        assert isinstance(plan.arrivals, Constant | Poisson)
        rate = plan.arrivals.rate
        run = made_up_run(rate, plan.duration_s, seed=plan.seed, slots=8, tokens=3, gap_s=0.25, plan=plan)
        if rate < self._invalid_from:
            return replace(run, validity=Validity(verdict="valid"))
        return replace(run, validity=Validity(verdict="invalid", reasons=("too little CPU",)))


def test_a_plan_at_another_load_is_else_the_same() -> None:
    """Only the load changes, and how many processes it needs."""
    changed = at_load(PLAN, 7.5)
    assert changed.arrivals == Poisson(7.5)
    assert replace(changed, arrivals=PLAN.arrivals) == PLAN
    assert at_load(replace(PLAN, arrivals=Closed(1)), 12.4).arrivals == Closed(12)
    assert at_load(PLAN, 1e6, processes=3).processes == 3


def test_a_ramp_has_no_one_load() -> None:
    """What has no one load is refused, in words."""
    with pytest.raises(BadBenchPlan, match="give a rate"):
        at_load(replace(PLAN, arrivals=Ramp(1, 2)), 5)


def test_loads_are_spaced_from_light_to_beyond() -> None:
    """From a tenth of the capacity to a tenth above it, each by the same factor above the last."""
    loads = spaced(100, 5, whole=False)
    assert (loads[0], loads[-1]) == (10.0, 110.0)
    factors = [later / earlier for earlier, later in itertools.pairwise(loads)]
    assert max(factors) / min(factors) < 1.02
    assert spaced(3, 9, whole=True) == (1, 2, 3)


async def test_a_sweep_goes_from_light_to_heavy() -> None:
    """One run per load, in the order of size, each named for who watches."""
    server = Server()
    runs = await sweep(PLAN, [8, 2, 4], server.run_once)
    assert [run.load for run in runs] == [2, 4, 8]
    assert server.names == ["1 of 3, 2/s", "2 of 3, 4/s", "3 of 3, 8/s"]


async def test_a_search_finds_what_the_queue_carries() -> None:
    """8 places of about half a second carry some 14 requests per second; trials have a warm-up and seeds of their own."""
    server = Server()
    found, runs = await find_capacity(PLAN, Goal(share=0.9, duration_s=60), server.run_once)
    assert 11.5 < found.rate < 15.5
    assert found.low <= found.rate <= (found.high or 0)
    assert len(runs) == len(server.plans) <= 30
    assert all(
        plan.warmup_s == pytest.approx(12) and plan.duration_s == pytest.approx(72) for plan in server.plans
    )
    assert [plan.seed for plan in server.plans] == list(range(PLAN.seed, PLAN.seed + len(runs)))


async def test_the_same_search_twice_is_the_same() -> None:
    """One seed, one answer, as far as the server is the same."""
    answers = [await find_capacity(PLAN, Goal(share=0.9, duration_s=20), Server().run_once) for _ in range(2)]
    assert answers[0][0] == answers[1][0]


async def test_where_the_client_was_the_limit_it_is_not_sure() -> None:
    """When all that failed above the answer was INVALID, the answer says that the server may carry more."""
    found, _ = await find_capacity(PLAN, Goal(share=0.9, duration_s=30), Server(invalid_from=10).run_once)
    assert not found.sure
    assert found.high is None
    assert "the client was the limit" in found.why
    assert "too little CPU" in found.why


async def test_a_trial_that_the_client_spoiled_is_made_again() -> None:
    """One INVALID failure far below the edge is not told to the search: the trial is made once more, and counts then."""
    server = Server()

    async def spoils_its_second(plan: RunPlan, name: str) -> ReportedRun:
        run = await server.run_once(plan, name)
        if len(server.plans) != 2:
            return run
        spoiled = replace(run.summary, goodput=replace(run.summary.goodput, share=0.2))
        return replace(
            run, summary=spoiled, validity=Validity(verdict="invalid", reasons=("too little CPU",))
        )

    found, _ = await find_capacity(PLAN, Goal(share=0.9, duration_s=60), spoils_its_second)
    assert server.names[:3] == ["trial 1, 1/s", "trial 2, 2/s", "trial 3, 2/s, again"]
    assert 11.5 < found.rate < 15.5


def test_when_a_request_is_hopeless() -> None:
    """Long after the end-to-end limit; or the first token's and all gaps' together, where the length is known."""
    tokens = Lengths(mean=10)
    plan = replace(PLAN, workload=Synthetic(input_tokens=tokens, output_tokens=tokens), slo=Slo(e2e_ms=2000))
    assert hopeless_after_s(plan) == 7.0
    plan = replace(plan, slo=Slo(ttft_ms=500, itl_ms=50))
    assert hopeless_after_s(plan) == 4.0
    drawn = Lengths(mean=10, spread="normal", deviation=3)
    assert (
        hopeless_after_s(replace(plan, workload=Synthetic(input_tokens=tokens, output_tokens=drawn))) == inf
    )
    assert hopeless_after_s(replace(plan, slo=Slo(ttft_ms=500))) == inf


async def test_a_trial_stopped_by_hand_ends_the_search() -> None:
    """Ctrl-C ends the search, not only its trial, and what was found so far is there."""
    server = Server()

    async def stops_at_third(plan: RunPlan, name: str) -> ReportedRun:
        run = await server.run_once(plan, name)
        return replace(run, record=replace(run.record, stopped_early=len(server.plans) == 3))

    found, runs = await find_capacity(PLAN, Goal(share=0.9, duration_s=20), stops_at_third)
    assert len(runs) == 3
    assert (found.rate, found.sure, found.why) == (2.0, False, "it was stopped by hand")


def test_what_a_trial_says() -> None:
    """Good and sent are of what counts after the warm-up, and the rate is the one that came."""
    plan = made_up_plan(10.0, 24.0, warmup_s=4.0, slo=Slo(e2e_ms=5000))
    run = made_up_run(10.0, 24.0, plan=plan)
    result = result_of(run)
    assert result.sent == run.summary.requests.due
    assert result.good == run.summary.goodput.good
    assert result.rate == pytest.approx(result.sent / 20.0)
