"""Whether the planner orders ways to run a model as measurements do, and whether the way that it would choose is a good one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
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


def order_agreement(runs: Sequence[Run], found: Sequence[Performance]) -> list[Figure]:
    """Spearman's rank correlation of tokens/s per GPU within each group, over configurations and loads; their mean.

    Most of that order is in the load, so that clients per GPU alone order nearly as well. At the same concurrency only the
    configurations are left to be told apart.
    """
    groups = [group for group in _groups(runs, found) if len(group) >= GROUP_MIN]
    alike = [group for group in _at_same_load(_groups(runs, found)) if len(group) >= GROUP_MIN]
    name = "order per model and GPU, mean Spearman"
    trivial = _mean_spearman(groups, lambda pair: (pair[0].load.concurrency or 0.0) / pair[0].setup.devices)
    fewest = _mean_spearman(alike, lambda pair: -pair[0].setup.devices)
    return [
        Figure(name, _mean_spearman(groups, _expected), "in groups", len(groups), 0.9, at_least=True),
        Figure(f"{name}, of clients per GPU alone", trivial, "in groups", len(groups)),
        Figure(f"{name}, at the same concurrency", _mean_spearman(alike, _expected), "in groups", len(alike)),
        Figure(f"{name}, at the same concurrency, of fewest GPUs first", fewest, "in groups", len(alike)),
    ]


def _at_same_load(groups: Sequence[list[Pair]]) -> list[list[Pair]]:
    split: dict[tuple[int, float | None], list[Pair]] = defaultdict(list)
    for place, group in enumerate(groups):
        for pair in group:
            split[place, pair[0].load.concurrency].append(pair)
    return [group for group in split.values() if len({_configuration(run) for run, _ in group}) > 1]


def _mean_spearman(groups: Sequence[list[Pair]], guess: Callable[[Pair], float]) -> float:
    values = [
        spearman([_measured(run) for run, _ in group], [guess(pair) for pair in group]) for group in groups
    ]
    return sum(values) / len(values) if values else float("nan")


def chosen_well(runs: Sequence[Run], found: Sequence[Performance]) -> list[Figure]:
    """Of groups and SLOs on TPOT under which two configurations or more can be used: the share in which the chosen one
    (most predicted tokens/s per GPU within the SLO) is within 10 % of the best; and what share of the best's tokens/s it
    has on average.

    A configuration's tokens/s at an SLO are read off its curve over the measured loads, straight between two of them.
    Beside it: what choosing by fewest GPUs would reach; and choosing by measurements, where a load was measured more
    than once: by the first of them, scored by the last. That one is a ceiling.
    """
    groups = _groups(runs, found)
    reached = _reached(groups, _measured_curve, _predicted_curve)
    fewest = _reached(groups, _measured_curve, lambda curve: [(0.0, 1 / curve[0][0].setup.devices)])
    repeated = [group for group in groups if any(_repeats(curve) for curve in _curves(group).values())]
    again = _reached(repeated, _last_curve, _first_curve)
    name, unit = f"{CHOSEN} within 10 % of the best", "% of groups and SLOs"
    rows = len(reached)
    return [
        Figure(name, _share_near(reached), unit, rows, 90.0, at_least=True),
        Figure(
            f"{CHOSEN}'s tokens/s, mean share of the best's", 100 * sum(reached) / max(1, rows), "%", rows
        ),
        Figure(f"{name}, if it were the one of fewest GPUs", _share_near(fewest), unit, len(fewest)),
        Figure(f"{name}, chosen by an earlier measurement", _share_near(again), unit, len(again)),
    ]


Curve = list[tuple[float, float]]


def _reached(
    groups: Sequence[list[Pair]],
    truth: Callable[[list[Pair]], Curve],
    guess: Callable[[list[Pair]], Curve],
) -> list[float]:
    """What share of the best's tokens/s the chosen configuration has, for each group and SLO."""
    reached = []
    for group in groups:
        curves = _curves(group)
        for slo in SLO_TPOT_MS:
            best = {name: _at_slo(truth(curve), slo) for name, curve in curves.items()}
            hoped = {name: _at_slo(guess(curve), slo) for name, curve in curves.items()}
            if sum(value > 0 for value in best.values()) >= 2 and any(hoped.values()):
                choice = max(hoped, key=lambda name: hoped[name])
                reached.append(best[choice] / max(best.values()))
    return reached


def _share_near(reached: Sequence[float]) -> float:
    return 100 * sum(one >= NEAR for one in reached) / max(1, len(reached))


def _curves(group: Sequence[Pair]) -> dict[tuple[object, ...], list[Pair]]:
    curves: dict[tuple[object, ...], list[Pair]] = defaultdict(list)
    for pair in group:
        curves[_configuration(pair[0])].append(pair)
    return curves


def _measured_curve(curve: list[Pair]) -> Curve:
    return [(run.tpot_ms or 0.0, _measured(run)) for run, _ in curve]


def _predicted_curve(curve: list[Pair]) -> Curve:
    return [(pair[1].itl_ms.value, _expected(pair)) for pair in curve]


def _first_curve(curve: list[Pair]) -> Curve:
    return _measured_curve(list({pair[0].load.concurrency: pair for pair in reversed(curve)}.values()))


def _last_curve(curve: list[Pair]) -> Curve:
    return _measured_curve(list({pair[0].load.concurrency: pair for pair in curve}.values()))


def _repeats(curve: list[Pair]) -> bool:
    return len({pair[0].load.concurrency for pair in curve}) < len(curve)


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
