"""How near predicted speeds come to published measurements, each model predicted by a fit that never saw it.

The fit for a model uses the training data without all rows of a model of the same shape: other names, formats and fine-tunes
of it are left out too. A plain roofline stands beside it. Called by `benchmarks/planner_accuracy.py --throughput`.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.planner_fit import DATA, all_ratios, fit, residuals_of
from benchmarks.planner_ranking import chosen_well, order_agreement
from benchmarks.planner_roofline import roofline
from benchmarks.planner_runs import Run, read_runs, read_table
from benchmarks.planner_samples import Sample, samples_of
from benchmarks.planner_scores import Figure, Scores, median, quantile
from inferry.planner.answers import Performance
from inferry.planner.performance import predict
from inferry.planner.speed_facts import SpeedConstants, groups_of

TARGETS = {"TPOT": 15.0, "output tokens/s": 15.0, "TTFT": 25.0}
"""Of the median error in percent."""
DRAWS, SEED = 300, 1


@dataclass(frozen=True, slots=True)
class Quantity:
    name: str
    measured: Callable[[Run], float | None]
    predicted: Callable[[Performance], Any]
    place: int
    """In what `roofline` gives."""


QUANTITIES = (
    Quantity("TPOT", lambda run: run.tpot_ms, lambda found: found.itl_ms, 0),
    Quantity(
        "output tokens/s", lambda run: run.output_tokens_per_s, lambda found: found.output_tokens_per_s, 2
    ),
    Quantity("TTFT", lambda run: run.ttft_ms, lambda found: found.ttft_ms, 1),
)


def score(path: Path) -> Scores:
    runs, left = read_runs(read_table(path))
    training, _ = read_runs(read_table(DATA))
    samples = samples_of(training)
    constants = constants_by_model(samples, training, {run.base for run in runs})
    found = [
        predict(run.arch, run.device, run.setup, run.load, constants=constants[run.base]) for run in runs
    ]
    plain = [roofline(run) for run in runs]
    figures: list[Figure] = []
    for quantity in QUANTITIES:
        figures += _figures(quantity, runs, found, plain)
    figures += [*order_agreement(runs, found), *chosen_well(runs, found)]
    loops = [(run, now) for run, now in zip(runs, found, strict=True) if run.kind == "closed_loop"]
    for quantity in QUANTITIES:
        pairs = [(quantity.predicted(now).value, quantity.measured(run)) for run, now in loops]
        errors = [100 * abs(value / truth - 1) for value, truth in pairs if truth]
        figures.append(
            Figure(f"{quantity.name}, closed loops alone, median error", median(errors), "%", len(errors))
        )
    for quantity in QUANTITIES:
        by_model = _errors_by_model(quantity, runs, found)
        name = f"{quantity.name}, median of the {len(by_model)} models' medians"
        rows = sum(len(errors) for errors in by_model.values())
        figures.append(Figure(name, median([median(errors) for errors in by_model.values()]), "%", rows))
        low, high = drawn_anew(list(by_model.values()))
        name = f"{quantity.name}, median error of other models drawn from these"
        figures.append(Figure(f"{name}, 5th percentile", low, "%", rows))
        figures.append(Figure(f"{name}, 95th percentile", high, "%", rows))
    elsewhere = _without_family(samples, runs)
    for quantity in QUANTITIES:
        name = f"{quantity.name}, median error without the model and the family of GPUs"
        errors = [each for own in _errors_by_model(quantity, runs, elsewhere).values() for each in own]
        figures.append(Figure(name, median(errors), "%", len(errors)))
    about = (
        f"Speed: {len(runs)} rows of {path.name}; each model predicted by constants fitted without it "
        f"({len(samples)} training rows of {len({sample.run.base for sample in samples})} models)"
    )
    return Scores(about, tuple(figures), tuple(_table(runs, found, plain)), tuple(left), _notes(left))


def constants_by_model(
    samples: Sequence[Sample], training: Sequence[Run], models: Iterable[str]
) -> dict[str, SpeedConstants]:
    """A fit for each model, without it; ranges from the other models' own left-out residuals."""
    without = all_ratios(samples, training)
    known: dict[str, SpeedConstants] = {}
    for model in sorted(models):
        kept = [place for place, run in enumerate(training) if run.base != model]
        first, second, third = ([table[place] for place in kept] for table in without)
        residuals = residuals_of([training[place] for place in kept], (first, second, third))
        known[model] = fit([sample for sample in samples if sample.run.base != model], residuals)
    return known


def _without_family(samples: Sequence[Sample], runs: Sequence[Run]) -> list[Performance]:
    """Predictions by fits that saw neither the model nor any GPU of the same family."""
    known: dict[tuple[str, str], SpeedConstants] = {}
    found = []
    for run in runs:
        family = groups_of(run.device, run.setup)[1]
        if (run.base, family) not in known:
            kept = [each for each in samples if each.run.base != run.base and each.groups[1] != family]
            known[run.base, family] = fit(kept)
        found.append(predict(run.arch, run.device, run.setup, run.load, constants=known[run.base, family]))
    return found


def _errors_by_model(
    quantity: Quantity, runs: Sequence[Run], found: Sequence[Performance]
) -> dict[str, list[float]]:
    """In percent."""
    errors: dict[str, list[float]] = defaultdict(list)
    for run, performance in zip(runs, found, strict=True):
        if truth := quantity.measured(run):
            errors[run.base].append(100 * abs(quantity.predicted(performance).value / truth - 1))
    return errors


def drawn_anew(errors: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The 5th and 95th percentile of the median error if as many models were drawn again from these (bootstrap by model):
    what another set of models may bring."""
    draw = random.Random(SEED)
    medians = []
    for _ in range(DRAWS):
        medians.append(median([each for own in draw.choices(errors, k=len(errors)) for each in own]))
    return quantile(medians, 0.05), quantile(medians, 0.95)


def _figures(
    quantity: Quantity,
    runs: Sequence[Run],
    found: Sequence[Performance],
    plain: Sequence[tuple[float, float, float]],
) -> list[Figure]:
    errors, inside, naive, widths = [], [], [], []
    for run, performance, line in zip(runs, found, plain, strict=True):
        truth = quantity.measured(run)
        if not truth:
            continue
        interval = quantity.predicted(performance)
        errors.append(100 * abs(interval.value / truth - 1))
        inside.append(interval.low <= truth <= interval.high)
        if math.isfinite(interval.high):
            widths.append(interval.high / interval.low)
        naive.append(100 * abs(line[quantity.place] / truth - 1))
    rows = len(errors)
    return [
        Figure(f"{quantity.name}, median error", median(errors), "%", rows, TARGETS[quantity.name]),
        Figure(f"{quantity.name}, 90th percentile", quantile(errors, 0.9), "%", rows),
        Figure(f"{quantity.name}, plain roofline's median error", median(naive), "%", rows),
        Figure(f"{quantity.name}, inside of the 90 % interval", 100 * sum(inside) / max(1, rows), "%", rows),
        Figure(
            f"{quantity.name}, width of that interval, median",
            median(widths),
            "x from end to end",
            len(widths),
        ),
    ]


def _table(
    runs: Sequence[Run], found: Sequence[Performance], plain: Sequence[tuple[float, float, float]]
) -> list[dict[str, Any]]:
    """Median errors by engine, model, GPU and format: where the model is good, and where it isn't."""
    groups: dict[tuple[str, ...], list[tuple[Run, Performance]]] = defaultdict(list)
    for run, performance in zip(runs, found, strict=True):
        name = run.arch.name.rsplit("/", 1)[-1]
        groups[(run.setup.engine, name, run.device.name, run.setup.weights, run.kind)].append(
            (run, performance)
        )
    table: list[dict[str, Any]] = []
    for key, members in sorted(groups.items()):
        line: dict[str, Any] = dict(zip(("engine", "model", "GPU", "weights", "load"), key, strict=True))
        line["rows"] = len(members)
        for quantity in QUANTITIES:
            pairs = [
                (quantity.predicted(performance).value, quantity.measured(run))
                for run, performance in members
            ]
            errors = [100 * abs(value / truth - 1) for value, truth in pairs if truth]
            line[f"{quantity.name} %"] = median(errors) if errors else None
        table.append(line)
    return table


def _notes(left: Sequence[Any]) -> tuple[str, ...]:
    return (f"{len(left)} rows left out by the rules at the head of benchmarks/planner_runs.py.",)
