"""One policy on one trace, as a flow, and what of it is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil, inf
from typing import Any, TypeVar

from benchmarks.scaling.scenes import Scene
from inferry.policy.scaling.decision import Autoscaler
from inferry.simulate.flow import Flow, FlowResult, flow
from inferry.simulate.rivals.oracle import EVERY_S, schedule
from inferry.simulate.rivals.static import Static

Counts = Sequence[float]
PEAK_S = 600
ORACLE_MEANS_S = (300, 600, 60)
MARGINS = (0.95, 1.15)
"""Between these the oracle's least margin is looked for, to MARGIN_STEP."""
MARGIN_STEP = 0.0005

Found = TypeVar("Found")


def first_replicas(scene: Scene, counts: Counts) -> int:
    """To begin with, for everybody: for the first minute's load and a fifth more."""
    return max(ceil(1.2 * sum(counts[:60]) / 60 / scene.per_s), 1)


def trial(scene: Scene, counts: Counts, autoscaler: Autoscaler, replicas: int | None = None) -> FlowResult:
    return flow(scene.service, counts, autoscaler, replicas=replicas or first_replicas(scene, counts))


def static_peak(scene: Scene, counts: Counts) -> tuple[int, FlowResult]:
    """For the busiest ten minutes."""
    peak = max(sum(counts[at : at + PEAK_S]) for at in range(0, len(counts), PEAK_S)) / PEAK_S
    replicas = ceil(peak / scene.per_s)
    return replicas, trial(scene, counts, Static(replicas), replicas)


def oracle(scene: Scene, counts: Counts, attainment: float) -> tuple[dict[str, Any], FlowResult]:
    """The cheapest of its kind that keeps `attainment`."""
    return cheapest(
        counts,
        scene.per_s,
        lambda wanted: (found := _scheduled(scene, counts, wanted), found.attainment, found.gpu_hours),
        attainment=attainment,
        start_s=scene.service.start_s,
    )


def _scheduled(scene: Scene, counts: Counts, wanted: Sequence[int]) -> FlowResult:
    """What `trial` says of `Oracle(wanted)`, without the observations that it doesn't look at: in half the time."""
    state = Flow(scene.service, wanted[0])
    for count in counts:
        state.second(count)
        if state.now_s % EVERY_S == 0:
            to = wanted[min(state.now_s // EVERY_S, len(wanted) - 1)]
            if to != state.wanted:
                state.result.changes.append((float(state.now_s), state.wanted, to))
                state.scale(to)
    return state.finish()


def cheapest(
    counts: Counts,
    per_s: float,
    run: Callable[[list[int]], tuple[Found, float, float]],
    *,
    attainment: float,
    start_s: float,
    margins: tuple[float, float] = MARGINS,
    step: float = MARGIN_STEP,
) -> tuple[dict[str, Any], Found]:
    """Of the oracle's schedules that keep `attainment`: each mean with the least margin that does.

    `run` says what a schedule came to, what it kept and what it cost. Of a mean whose greatest margin that is known
    to be too little costs more than another mean's schedule, the least margin isn't looked for any further.
    """
    best: tuple[dict[str, Any], Found] | None = None
    best_cost = inf
    for mean_s in ORACLE_MEANS_S:
        low, high = margins
        while high - low > step:
            margin = (low + high) / 2
            found, kept, cost = run(schedule(counts, per_s, margin=margin, mean_s=mean_s, start_s=start_s))
            if kept >= attainment:
                high = margin
                if cost < best_cost:
                    best, best_cost = ({"mean_s": mean_s, "margin": round(margin, 4)}, found), cost
            else:
                low = margin
                if cost >= best_cost:
                    break
    if best is None:
        raise ValueError(f"no margin up to {margins[1]} keeps {attainment:.1%}")
    return best


def facts(result: FlowResult, from_day: int = 0) -> dict[str, Any]:
    """Of the days from `from_day` on."""
    hours = result.by_hour[from_day * 24 :]
    ended, kept = sum(each[0] for each in hours), sum(each[1] for each in hours)
    begin_s = from_day * 86_400
    changes = [each for each in result.changes if each[0] >= begin_s]
    turns = sum((one[2] > one[1]) != (two[2] > two[1]) for one, two in pairwise(changes))
    return {
        "attainment": round(kept / max(ended, 1), 5),
        "gpu_hours": round(sum(each[2] for each in hours) * result.gpus_per_replica / 3600, 1),
        "mean_replicas": round(sum(each[2] for each in hours) / max(len(hours) * 3600, 1), 3),
        "turns_per_hour": round(turns / max(len(hours), 1), 2),
    }
