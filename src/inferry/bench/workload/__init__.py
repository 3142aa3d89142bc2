"""What is asked: the sequence of requests that a plan and its seed stand for, the same in every process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, repeat

from msgspec.structs import replace

from inferry.bench.arrivals import due_times
from inferry.bench.chance import stream
from inferry.bench.plan import Closed, FromFile, FromTrace, RunPlan, Sessions, Synthetic, TraceTimes
from inferry.bench.records import Ask
from inferry.bench.tokens import Wording, Writer
from inferry.bench.workload.check import check_plan
from inferry.bench.workload.from_file import file_outlines
from inferry.bench.workload.from_trace import trace_outlines
from inferry.bench.workload.outline import Outline, Script
from inferry.bench.workload.sessions import session_outlines
from inferry.bench.workload.synthetic import synthetic_outlines


def asks(
    plan: RunPlan, wording: Wording, *, nonce: str = "", process: int = 0, processes: int = 1
) -> Iterator[Ask]:
    """The requests of one of `processes` workers, in the order of their numbers; endless for a closed loop.

    Each worker has every so many of them, a session always whole. `nonce` is in all made-up text: two runs with
    different ones have no beginnings in common. Reads the workload's file at once. Raises BadBenchPlan for a plan
    or a file that can't be.
    """
    return (
        outline.make()
        for outline in outlines(plan, wording, nonce=nonce, process=process, processes=processes)
    )


def outlines(
    plan: RunPlan, wording: Wording, *, nonce: str = "", process: int = 0, processes: int = 1
) -> Iterator[Outline]:
    """The same, each to be written when it is needed: long conversations then take no room before."""
    check_plan(plan)
    script = Script(plan.seed, nonce, wording, Writer(wording))
    every = islice(_outlines(plan, script), plan.requests_max)
    return _share(plan, every, process, processes)


def _outlines(plan: RunPlan, script: Script) -> Iterator[Outline]:
    workload, arrivals = plan.workload, plan.arrivals
    dues: Iterator[float | None] | None
    match arrivals:
        case TraceTimes():
            dues = None
        case Closed():
            dues = repeat(None)
        case _:
            dues = due_times(arrivals, plan.duration_s, plan.seed)
    if isinstance(workload, FromTrace):
        speed = arrivals.speed if isinstance(arrivals, TraceTimes) else 1.0
        return trace_outlines(workload, script, dues, duration_s=plan.duration_s, speed=speed)
    assert dues is not None, "check_plan lets no other workload have a trace's times"
    match workload:
        case Synthetic():
            return synthetic_outlines(workload, script, dues)
        case FromFile():
            return file_outlines(workload, script, dues)
        case Sessions():
            return session_outlines(workload, script, dues)


def _share(plan: RunPlan, every: Iterator[Outline], process: int, processes: int) -> Iterator[Outline]:
    chance = stream(plan.seed, "abandon")
    for outline in every:
        # Drawn for each one, so that who leaves does not depend on how many processes there are.
        leaves, after_s = chance.random() < plan.abandon_share, chance.expovariate(1.0) * plan.abandon_after_s
        belongs = outline.number if outline.session is None else outline.session
        if belongs % processes == process:
            yield outline._replace(make=partial(_made, plan, outline.make, after_s if leaves else None))


def _made(plan: RunPlan, make: Callable[[], Ask], abandon_after_s: float | None) -> Ask:
    ask = make()
    if abandon_after_s is not None:
        ask = replace(ask, abandon_after_s=abandon_after_s)
    return replace(ask, output_tokens=None) if plan.target.api == "embeddings" else ask
