"""Does what `inferry bench` was asked for: looks at the server, makes the runs, and puts their report together."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from msgspec.structs import replace

from inferry.bench.calibration import calibrate
from inferry.bench.capacity import Goal
from inferry.bench.engine_view import Look, find_page, pages, readings, watching
from inferry.bench.environment import environment
from inferry.bench.fitting import fit_wording
from inferry.bench.live import Live
from inferry.bench.plan import Closed, Constant, Gamma, Lengths, Poisson, RunPlan, Synthetic, Target
from inferry.bench.records import Calibration, Progress, RunRecord, Verdict
from inferry.bench.report import Capacity, Report, ReportedRun
from inferry.bench.resilience import Blow, look, striking, words
from inferry.bench.runner import run
from inferry.bench.summary import summarise
from inferry.bench.sweep import find_capacity, spaced, sweep
from inferry.bench.tokens import Wording
from inferry.bench.validity import judge
from inferry.cli.bench_beside import run_both
from inferry.cli.bench_target import Asked
from inferry.core.clock import SystemClock
from inferry.core.errors import ConfigError

CLIMB_LEAST_S, CLIMB_SHARE = 6.0, 0.2
"""Of a trial's duration, on the way up."""
FIRST_TOKENS = 4
FIRST_TIMEOUT_S = 120.0
"""For the one request before everything else: a model that is loaded on demand takes its time."""

_clock = SystemClock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be measured."""

    plan: RunPlan
    asked: Asked
    processes: int | None = None
    """As written; None: as many as each load needs."""
    goal_share: float | None = None
    """Search for the highest load with that share of good requests."""
    loads: tuple[float, ...] = ()
    loads_count: int | None = None
    """After a search: so many loads, up to the capacity that it found."""
    beside: tuple[tuple[str, str], Target] | None = None
    """Another place for the same load, and names for both."""
    blow: Blow | None = None
    engine: str | None = None
    calibrate: bool = True
    quiet: bool = False


async def measure(wish: Wish) -> Report:
    """All runs, in order. Raises ConfigError where the server refuses, EngineUnreachable where nobody is there."""
    await _ask_first(wish.plan)
    if wish.beside is not None:
        await _ask_first(replace(wish.plan, target=wish.beside[1]))
    wording = await asyncio.to_thread(fit_wording, wish.plan.target)
    async with _looking(wish) as view:
        bench = Bench(wording, view, quiet=wish.quiet)
        if wish.goal_share is not None:
            return await _search(wish, bench, wish.goal_share)
        if wish.loads:
            runs = await sweep(wish.plan, wish.loads, bench.run_once, processes=wish.processes)
            return Report(runs=runs, environment=environment())
        if wish.beside is not None:
            both = await run_both(wish.plan, *wish.beside, bench.run_once)
            return Report(runs=both, environment=environment())
        own = await calibrate(wish.plan, wording=wording) if wish.calibrate else None
        one = await bench.run_once(wish.plan, "", calibration=own, blow=wish.blow)
        return Report(runs=(one,), calibration=own, environment=environment())


async def _search(wish: Wish, bench: Bench, share: float) -> Report:
    plan = wish.plan
    is_closed = isinstance(plan.arrivals, Closed)
    goal = Goal(
        start=_start(plan),
        duration_s=plan.duration_s - plan.warmup_s,
        climb_s=max(CLIMB_LEAST_S, (plan.duration_s - plan.warmup_s) * CLIMB_SHARE),
        whole=is_closed,
        share=share,
    )
    found, runs = await find_capacity(plan, goal, bench.run_once, processes=wish.processes)
    if wish.loads_count is not None and found.rate and not runs[-1].record.stopped_early:
        loads = spaced(found.rate, wish.loads_count, whole=is_closed)
        runs += await sweep(plan, loads, bench.run_once, processes=wish.processes)
    return Report(runs=runs, capacity=Capacity(goal=goal, found=found), environment=environment())


def _start(plan: RunPlan) -> float:
    arrivals = plan.arrivals
    if isinstance(arrivals, Closed):
        return float(arrivals.concurrency)
    assert isinstance(arrivals, Constant | Poisson | Gamma), "a search was given something else to vary"
    return arrivals.rate


async def _ask_first(plan: RunPlan) -> None:
    """One small request: what is refused now would be refused a thousand times. It also opens what is lazy."""
    tokens = Synthetic(input_tokens=Lengths(mean=16), output_tokens=Lengths(mean=FIRST_TOKENS))
    first = replace(
        plan, arrivals=Closed(1), workload=tokens, duration_s=1.0, requests_max=1, warmup_s=0.0, processes=1,
        abandon_share=0.0, timeout_s=max(plan.timeout_s, FIRST_TIMEOUT_S),
    )  # fmt: skip
    record = await run(first)
    if record.stopped_early:
        raise KeyboardInterrupt
    for request in record.requests:
        if request.verdict is Verdict.HTTP_ERROR and request.status is not None and request.status < 500:
            raise ConfigError(
                f"{plan.target.base_url} refuses the first request ({request.status}): {request.reason}"
            )


@asynccontextmanager
async def _looking(wish: Wish) -> AsyncIterator[Look | None]:
    asked = wish.asked
    if wish.engine == "none":
        yield None
    elif asked.socket is not None and asked.deployment is not None:
        async with readings(asked.socket, asked.deployment) as look:
            yield look
    elif (engine := await find_page(asked.base_url, wish.engine, asked.headers)) is not None:
        async with pages([engine], asked.headers) as look:
            yield look
    else:
        yield None


class Bench:
    """Does one run after the other against one target, and judges each."""

    def __init__(self, wording: Wording, look: Look | None, *, quiet: bool) -> None:
        self._wording = wording
        self._look = look
        self._quiet = quiet

    async def run_once(
        self, plan: RunPlan, name: str, calibration: Calibration | None = None, blow: Blow | None = None
    ) -> ReportedRun:
        """With all figures, and judged. `blow`: is dealt during the run."""
        live = Live(sys.stderr, plan.duration_s, name)
        began = _Began()
        async with watching(self._look) as watched:
            with striking(blow) as striker:

                def show(now: Progress) -> None:
                    began.note(now)
                    if striker is not None:
                        striker.note(now.at_s)
                    if not self._quiet:
                        live.show(now)

                try:
                    record = await run(plan, wording=self._wording, progress=show)
                finally:
                    live.close()
        record = replace(
            record,
            samples=watched.from_start(began.start_s),
            notes=(*record.notes, f"prompts: {self._wording.source}"),
        )
        found = None
        if blow is not None and striker is not None and striker.landed_s is not None:
            found = look(blow, striker.landed_s - began.start_s, record)
            record = replace(record, notes=(*record.notes, words(found)))
        missed = "" if blow is None or found is not None else _missed(blow, record)
        if missed:
            record = replace(record, notes=(*record.notes, missed))
        summary = summarise(plan, record)
        validity = judge(plan, record, summary, calibration)
        if missed:
            verdict = "suspect" if validity.verdict == "valid" else validity.verdict
            validity = replace(validity, verdict=verdict, reasons=(*validity.reasons, missed))
        return ReportedRun(plan=plan, record=record, summary=summary, validity=validity, resilience=found)


def _missed(blow: Blow, record: RunRecord) -> str:
    """Why a blow did not land, for people: else it would look as if nobody had noticed it."""
    done = "killed" if blow.kind == "kill" else "stopped"
    if record.duration_s < blow.after_s:
        why = f"the run was over after {record.duration_s:.1f} s, before the {blow.after_s:g} s at which it was to be"
    else:
        why = f"its process (pid {blow.pid}) had ended by itself"
    return f"{blow.replica} was not {done}: {why}; nothing here says what its loss does"


class _Began:
    """When a run began, on the monotonic clock: known from its first word."""

    def __init__(self) -> None:
        self.start_s = _clock.now_s()

    def note(self, now: Progress) -> None:
        self.start_s = _clock.now_s() - now.at_s
