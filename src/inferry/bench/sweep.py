"""Several runs of one plan at different loads: given ones, ones spaced evenly, or those that a search asks for."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable

from msgspec.structs import replace

from inferry.bench.capacity import Found, Goal, Result, Search, Trial, design_effect
from inferry.bench.goodput import counts, missed
from inferry.bench.plan import Closed, Constant, Gamma, Poisson, RunPlan, Synthetic
from inferry.bench.report import ReportedRun
from inferry.bench.split import processes_for
from inferry.core.errors import BadBenchPlan

LIGHT = 0.1
"""Of the capacity: where spaced loads begin. A server that is used that little shows its latency without queues."""
BEYOND = 1.1
"""Of the capacity: where they end, to show what comes after the knee."""
TRIAL_WARMUP = 0.2
"""Of each run of a search, if no warm-up was asked for: the queue begins empty, which looks better than it stays."""
LIMIT_NEAR = 1.3
"""A trial above the answer, no farther off than this, is among those that say where the limit was."""

AGAIN_MAX = 2
"""How often a trial is made again that failed while the client was the limit: then it tells nothing of the server."""
HOPELESS_FACTOR, HOPELESS_SLACK_S = 3.0, 1.0
"""What is left frees its place, and makes a server beyond its limit look better than it is: so not at once."""

RunOnce = Callable[[RunPlan, str], Awaitable[ReportedRun]]
"""Does one run; the words say which it is, for people who watch."""


def at_load(plan: RunPlan, load: float, *, processes: int | None = None) -> RunPlan:
    """The same plan at another rate or number of users; `processes` None: as many as that needs.

    Raises BadBenchPlan for arrivals that are not of one load.
    """
    arrivals = plan.arrivals
    if isinstance(arrivals, Closed):
        arrivals = Closed(round(load))
    elif isinstance(arrivals, Constant | Poisson | Gamma):
        arrivals = replace(arrivals, rate=load)
    else:
        raise BadBenchPlan(
            "a ramp, steps or a trace have no one load that could be changed: give a rate or users"
        )
    return replace(plan, arrivals=arrivals, processes=processes or processes_for(arrivals))


def spaced(capacity: float, count: int, *, whole: bool) -> tuple[float, ...]:
    """So many loads from light to a little more than `capacity`, each by the same factor above the last."""
    low, high = LIGHT * capacity, BEYOND * capacity
    if count == 1:
        loads = [capacity]
    else:
        loads = [low * (high / low) ** (number / (count - 1)) for number in range(count)]
    return tuple(sorted({float(max(1, round(load))) if whole else float(f"{load:.3g}") for load in loads}))


async def sweep(
    plan: RunPlan, loads: Iterable[float], run_once: RunOnce, *, processes: int | None = None
) -> tuple[ReportedRun, ...]:
    """One run per load, lightest first."""
    runs = []
    wanted = sorted(loads)
    for number, load in enumerate(wanted, 1):
        name = f"{number} of {len(wanted)}, {load:g}{_unit(plan)}"
        runs.append(await run_once(at_load(plan, load, processes=processes), name))
        if runs[-1].record.stopped_early:
            break
    return tuple(runs)


async def find_capacity(
    plan: RunPlan, goal: Goal, run_once: RunOnce, *, processes: int | None = None
) -> tuple[Found, tuple[ReportedRun, ...]]:
    """The answer, and the trials in the order in which they were made. `goal.duration_s` is that of what counts.

    Each trial has a seed of its own, the same ones in each search with one seed.
    """
    search, runs = Search(goal), list[ReportedRun]()
    hopeless_s = hopeless_after_s(plan)
    again = 0
    while isinstance(wanted := search.next(), Trial):
        warmup_s = plan.warmup_s or TRIAL_WARMUP * wanted.duration_s
        trial = replace(
            at_load(plan, wanted.rate, processes=processes),
            duration_s=wanted.duration_s + warmup_s,
            warmup_s=warmup_s,
            timeout_s=min(plan.timeout_s, hopeless_s),
            seed=plan.seed + len(runs),
        )
        name = f"trial {len(runs) + 1}, {wanted.rate:g}{_unit(plan)}"
        run = await run_once(trial, f"{name}, again" if again else name)
        runs.append(run)
        if run.record.stopped_early:
            search.stop("it was stopped by hand")
        elif run.validity.verdict == "invalid" and again < AGAIN_MAX and not _holds(run, goal.share):
            again += 1
        else:
            search.tell(wanted, result_of(run))
            again = 0
    return _with_the_clients_limit(wanted, runs, goal.share), tuple(runs)


def hopeless_after_s(plan: RunPlan) -> float:
    """Seconds after which a request has missed the plan's SLO by far; infinite: that can't be told.

    Nobody need wait for it in a search: with a server far beyond its limit, that would take minutes per trial.
    """
    slo, workload = plan.slo, plan.workload
    limits_ms = [slo.e2e_ms] if slo.e2e_ms is not None else []
    if isinstance(workload, Synthetic) and slo.ttft_ms is not None and slo.itl_ms is not None:
        lengths = workload.output_tokens
        most = lengths.mean if lengths.spread == "fixed" else lengths.most
        if most is not None:
            limits_ms.append(slo.ttft_ms + slo.itl_ms * most)
    return HOPELESS_FACTOR * min(limits_ms) / 1000 + HOPELESS_SLACK_S if limits_ms else math.inf


def result_of(run: ReportedRun) -> Result:
    """What one trial says to a search."""
    plan = run.plan
    measured = [each for each in run.record.requests if not each.warmup and counts(each, plan.slo)]
    outcomes = [not missed(each, plan.slo) for each in sorted(measured, key=lambda each: each.due_s)]
    window = run.summary.window
    seconds = plan.duration_s - plan.warmup_s
    is_open = not isinstance(plan.arrivals, Closed)
    return Result(
        good=sum(outcomes),
        sent=len(outcomes),
        rate=run.summary.requests.due / seconds if is_open and outcomes else None,
        design_effect=design_effect(outcomes),
        stationary=window is None or window.stationary is not False or not is_open or _fell(run),
    )


def _fell(run: ReportedRun) -> bool:
    """Latencies that fall are a server that warms up: a longer trial would have been better, not worse."""
    window = run.summary.window
    trends = [] if window is None else [window.ttft_trend, window.e2e_trend]
    return not any(trend is not None and trend.matters and trend.z > 0 for trend in trends)


def _with_the_clients_limit(found: Found, runs: Iterable[ReportedRun], share: float) -> Found:
    """Not sure, if each trial that says where the limit is says too that it may be the client's."""
    above = [
        run
        for run in runs
        if run.load is not None
        and found.rate < run.load <= LIMIT_NEAR * found.rate
        and not _holds(run, share)
    ]
    if not above or any(run.validity.verdict != "invalid" for run in above):
        return found
    reason = above[0].validity.reasons[0] if above[0].validity.reasons else ""
    why = f"above it the client was the limit, so the server may carry more: {reason}"
    return replace(found, sure=False, high=None, why=why)


def _holds(run: ReportedRun, share: float) -> bool:
    return (run.summary.goodput.share or 0.0) >= share


def _unit(plan: RunPlan) -> str:
    return " users" if isinstance(plan.arrivals, Closed) else "/s"
