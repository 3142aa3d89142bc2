"""One policy on one trace, as a flow, and what of it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from typing import Any

from benchmarks.scaling.scenes import START_S, Scene
from inferry.policy.scaling.decision import Autoscaler
from inferry.simulate.flow import FlowResult, flow
from inferry.simulate.rivals.oracle import Oracle, schedule
from inferry.simulate.rivals.static import Static

Counts = Sequence[float]
PEAK_S = 600
ORACLE_MEANS_S = (60, 300, 600)


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
    """The cheapest of its kind that keeps `attainment`: each mean with the least margin that does."""
    best: tuple[dict[str, Any], FlowResult] | None = None
    for mean_s in ORACLE_MEANS_S:
        low, high = 0.95, 1.15
        kept: tuple[dict[str, Any], FlowResult] | None = None
        for _ in range(5):
            margin = (low + high) / 2
            wanted = schedule(counts, scene.per_s, margin=margin, mean_s=mean_s, start_s=START_S)
            result = trial(scene, counts, Oracle(wanted), wanted[0])
            if result.attainment >= attainment:
                high, kept = margin, ({"mean_s": mean_s, "margin": round(margin, 4)}, result)
            else:
                low = margin
        if kept is not None and (best is None or kept[1].gpu_hours < best[1].gpu_hours):
            best = kept
    assert best is not None, "no margin was enough"
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
