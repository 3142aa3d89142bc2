"""Whether the planner orders ways to run a model as measurements do, and whether the way that it would choose is a good one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.planner_runs import Run
from benchmarks.planner_scores import Figure
from inferry.planner.answers import Performance

GROUP_MIN = 5
"""Fewer configurations have no order to speak of."""
SLO_TPOT_MS = (10.0, 15.0, 20.0, 30.0, 50.0, 100.0)
CHOSEN = "chosen configuration"
NEAR = 0.9
"""The chosen configuration is good if it reaches so much of the best one's tokens/s per GPU."""

Pair = tuple[Run, Performance]


def _groups(runs: Sequence[Run], found: Sequence[Performance]) -> list[list[Pair]]:
    """The same model on the same kind of GPU under prompts and answers of the same length."""
    groups: dict[tuple[object, ...], list[Pair]] = defaultdict(list)
    for run, performance in zip(runs, found, strict=True):
        if run.kind == "closed_loop" and run.tpot_ms and run.output_tokens_per_s:
            key = (run.base, run.device.name, run.load.input_tokens, run.load.output_tokens)
            groups[key].append((run, performance))
    return list(groups.values())


def _configuration(run: Run) -> tuple[object, ...]:
    setup = run.setup
    parallel = (setup.tensor_parallel, setup.expert_parallel, setup.data_parallel, setup.pipeline_parallel)
    return (setup.engine, setup.weights, *parallel)


def _measured(run: Run) -> float:
    return (run.output_tokens_per_s or 0.0) / run.setup.devices


def _expected(pair: Pair) -> float:
    return pair[1].output_tokens_per_s.value / pair[0].setup.devices


def order_agreement(runs: Sequence[Run], found: Sequence[Performance]) -> Figure:
    """Spearman's rank correlation of tokens/s per GPU within each group, over configurations and loads; their mean."""
    values = [
        spearman([_measured(run) for run, _ in group], [_expected(pair) for pair in group])
        for group in _groups(runs, found)
        if len(group) >= GROUP_MIN
    ]
    mean = sum(values) / len(values) if values else float("nan")
    return Figure(
        "order per model and GPU, mean Spearman", mean, "in groups", len(values), 0.9, at_least=True
    )


def chosen_well(runs: Sequence[Run], found: Sequence[Performance]) -> tuple[Figure, Figure]:
    """Of groups and SLOs on TPOT under which two configurations or more can be used: the share in which the chosen
    one (most predicted tokens/s per GPU within the SLO) is within 10 % of the best; and what share of the best's tokens/s it has on average. A configuration's tokens/s at an SLO
    are read off its curve over the measured loads, straight between two of them."""
    reached: list[float] = []
    for group in _groups(runs, found):
        curves: dict[tuple[object, ...], list[Pair]] = defaultdict(list)
        for pair in group:
            curves[_configuration(pair[0])].append(pair)
        for slo in SLO_TPOT_MS:
            best = {
                name: _at_slo([(run.tpot_ms or 0, _measured(run)) for run, _ in curve], slo)
                for name, curve in curves.items()
            }
            hoped = {
                name: _at_slo([(p[1].itl_ms.value, _expected(p)) for p in curve], slo)
                for name, curve in curves.items()
            }
            if sum(value > 0 for value in best.values()) >= 2 and any(hoped.values()):
                choice = max(hoped, key=lambda name: hoped[name])
                reached.append(best[choice] / max(best.values()))
    rows = max(1, len(reached))
    share = 100 * sum(one >= NEAR for one in reached) / rows
    return (
        Figure(f"{CHOSEN} within 10 % of the best", share, "% of groups and SLOs", rows, 90.0, at_least=True),
        Figure(f"{CHOSEN}'s tokens/s, mean share of the best's", 100 * sum(reached) / rows, "%", rows),
    )


def _at_slo(curve: Sequence[tuple[float, float]], slo: float) -> float:
    """Most tokens/s per GPU with a TPOT of at most `slo`; 0 where even the smallest load takes longer."""
    ordered = sorted(curve)
    most = max((rate for tpot, rate in ordered if tpot <= slo), default=0.0)
    for (tpot, rate), (next_tpot, next_rate) in pairwise(ordered):
        if tpot <= slo < next_tpot:
            most = max(most, rate + (next_rate - rate) * (slo - tpot) / (next_tpot - tpot))
    return most


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson's correlation of ranks, ties sharing their mean rank."""
    one, two = _ranks(first), _ranks(second)
    middle = (len(one) - 1) / 2
    product = sum((a - middle) * (b - middle) for a, b in zip(one, two, strict=True))
    spread = (sum((a - middle) ** 2 for a in one) * sum((b - middle) ** 2 for b in two)) ** 0.5
    return product / spread if spread else 1.0


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [(ordered.index(value) + len(ordered) - 1 - ordered[::-1].index(value)) / 2 for value in values]
