"""What no plan may be: found before anything is sent, in words that name the field."""

from __future__ import annotations

import math

from inferry.bench.arrivals import check_arrivals
from inferry.bench.dialects.form import TAKES_TOKEN_IDS
from inferry.bench.plan import FromFile, FromTrace, RunPlan, Sessions, Synthetic, TraceTimes, Workload
from inferry.bench.workload.lengths import check_lengths
from inferry.core.errors import BadBenchPlan


def check_plan(plan: RunPlan) -> None:
    """Raises BadBenchPlan for the first thing that is wrong with times, load or workload."""
    check_arrivals(plan.arrivals)
    _above(0, "duration_s", plan.duration_s)
    _above(0, "timeout_s", plan.timeout_s)
    _above(0, "abandon_after_s", plan.abandon_after_s)
    if not 0 <= plan.abandon_share <= 1:
        raise BadBenchPlan(
            f"abandon_share is {plan.abandon_share:g}: it must be from 0 to 1", param="abandon_share"
        )
    if plan.requests_max is not None and plan.requests_max < 1:
        raise BadBenchPlan(f"requests_max is {plan.requests_max}: it must be 1 or more", param="requests_max")
    if not 0 <= plan.warmup_s < plan.duration_s:
        raise BadBenchPlan(
            f"warmup_s is {plan.warmup_s:g}: it must be less than duration_s, {plan.duration_s:g}, of which it "
            "is a part",
            param="warmup_s",
        )
    _check_workload(plan.workload)
    if isinstance(plan.arrivals, TraceTimes) and not isinstance(plan.workload, FromTrace):
        raise BadBenchPlan(
            "the arrivals are a trace's, and the workload is none: give a trace, or other arrivals",
            param="arrivals",
        )
    by_ids = isinstance(plan.workload, Synthetic | FromTrace) and plan.workload.by_ids
    if by_ids and plan.target.api not in TAKES_TOKEN_IDS:
        raise BadBenchPlan(
            f"by_ids is set, and the API is {plan.target.api}: token ids are for "
            f"{' and '.join(sorted(TAKES_TOKEN_IDS))}",
            param="by_ids",
        )


def _check_workload(workload: Workload) -> None:
    match workload:
        case Synthetic():
            check_lengths("input_tokens", workload.input_tokens)
            check_lengths("output_tokens", workload.output_tokens)
            _at_least(0, "prefix_tokens", workload.prefix_tokens)
            _at_least(1, "prefix_groups", workload.prefix_groups)
        case FromFile():
            if workload.output_tokens is not None:
                check_lengths("output_tokens", workload.output_tokens)
        case FromTrace():
            _at_least(1, "block_tokens", workload.block_tokens)
            _above(0, "tokens_scale", workload.tokens_scale)
        case Sessions():
            check_lengths("turns", workload.turns)
            check_lengths("first_tokens", workload.first_tokens)
            check_lengths("turn_tokens", workload.turn_tokens)
            check_lengths("output_tokens", workload.output_tokens)
            _at_least(0, "prefix_tokens", workload.prefix_tokens)
            if not (math.isfinite(workload.think_s) and workload.think_s >= 0):
                raise BadBenchPlan(f"think_s is {workload.think_s:g}: it must be 0 or more", param="think_s")


def _above(bound: float, name: str, value: float) -> None:
    if not (math.isfinite(value) and value > bound):
        raise BadBenchPlan(f"{name} is {value:g}: it must be above {bound:g}", param=name)


def _at_least(bound: int, name: str, value: int) -> None:
    if value < bound:
        raise BadBenchPlan(f"{name} is {value}: it must be {bound} or more", param=name)
