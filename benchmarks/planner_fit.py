"""Fits the constants of the performance model to published measurements, and writes them where the planner reads them.

    python -m benchmarks.planner_fit            fit and write src/inferry/planner/facts/performance.json
    python -m benchmarks.planner_fit --check    exit code 1 if the file isn't what the fit gives

log(time) = log(sum of exp(base + offsets) x ideal part). Bases and offsets have normal priors: bases around physical
guesses, offsets of engines and of pairs of engine and device family around zero. The loss is Huber's on the logarithm, so
that outliers count little; solved by iterated reweighted Gauss-Newton steps. Everything is deterministic.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planner_runs import Run, read_runs, read_table
from inferry.planner.first_token import burst_terms, first_token_terms
from inferry.planner.performance import predict, slots_of
from inferry.planner.speed_facts import Residuals, SpeedConstants, groups_of
from inferry.planner.step_work import decode_terms, prefill_terms, step_model

DATA = Path(__file__).parent / "data" / "throughput.csv.gz"
FACTS = Path(__file__).parents[1] / "src" / "inferry" / "planner" / "facts" / "performance.json"

STEP_PRIORS: Mapping[str, float] = {
    "weights": 1.3,
    "experts": 1.3,
    "kv": 1.3,
    "latent_kv": 1.5,
    "narrow_weights": 0.5,
    "compute": 1.5,
    "layers": 0.05,
    "moe_layers": 0.015,
    "latent_layers": 0.02,
    "linear_layers": 0.02,
    "parallel_layers": 0.01,
    "block_layers": 0.02,
    "reduce": 2.0,
    "sequences": 0.005,
    "step": 0.5,
    "burst": 0.03,
    "prefill_compute": 1.7,
    "prefill_attention": 2.0,
    "prefill_reduce": 2.0,
    "prefill_weights": 0.5,
    "prefill_layers": 0.05,
    "prefill_moe_layers": 0.05,
    "prefill_parallel_layers": 0.02,
}
"""Before any data: the maker's peaks are reached to 50-75 %, a layer launches in tens of microseconds. Times of layers,
sequences and steps in ms. `latent_kv` and `narrow_weights` come on top of `kv` and `weights`: latent caches and dense 4-bit
weights are read with less of the bandwidth."""
BURST_PRIORS: Mapping[str, float] = {"request": 30.0, "intake": 2.0, "prefill": 1.0, "slot_wait": 1.0}
TTFT_PRIORS: Mapping[str, float] = {
    "request": 30.0,
    "step": 1.0,
    "prefill": 1.0,
    "prefill_queue": 0.08,
    "slot_wait": 1.0,
}
"""`request`: ms of parsing, tokenizing and scheduling. `prefill_queue`: ten rounds of which the first is in step."""


@dataclass(frozen=True, slots=True)
class Stiffness:
    """Standard deviations of the priors, of natural logarithms; chosen on models left out. A term that `engine` or `pair`
    does not name has no offsets of that kind."""

    base: Mapping[str, float]
    """"" stands for all terms that it does not name."""
    engine: Mapping[str, float]
    pair: Mapping[str, float]
    """Of an engine and a family of devices."""

    def of(self, term: str, group: str) -> float:
        table = self.base if group == "" else self.pair if "|" in group else self.engine
        return table.get(term, table.get("", NO_OFFSET))


NO_OFFSET = 1e-4
STEP_STIFFNESS = Stiffness(base={"": 0.15}, engine={"": 0.1}, pair={})
TTFT_STIFFNESS = Stiffness(
    base={"": 0.4, "slot_wait": 0.03},
    engine={"request": 1.0, "prefill_queue": 1.0},
    pair={"request": 0.5},
)
"""Waiting for a slot is Little's law, nearly without freedom. What differs between engines is what a request costs before
its prefill, and in how far prompts queue; a prefill itself is known from how it delays the steps beside it."""
OFFSET_MIN = 1e-3
"""Smaller ones are not worth a line."""
BURST_STIFFNESS = Stiffness(base={"": 0.4, "slot_wait": 0.03}, engine={}, pair={})
"""Too few models were measured in bursts for more."""
BEND = 0.05
"""Where Huber's loss turns from square to straight."""
NOISE = 0.15
ITERATIONS = 25


@dataclass(slots=True)
class Sample:
    """A run with what the fit needs of it: ideal parts at its operating point."""

    run: Run
    groups: tuple[str, ...]
    decodes: float
    waiting: float
    step: dict[str, float]
    beside: dict[str, float]
    """Prefills of others within a step."""
    prefill: dict[str, float]
    """Of one prompt alone."""


def sample_of(run: Run) -> Sample:
    model = step_model(run.arch, run.device, run.setup)
    at_once = run.load.concurrency or float(run.load.all_at_once or 0)
    decodes = min(at_once, slots_of(run.arch, run.device, run.setup, run.load).count)
    context = run.load.input_tokens + run.load.output_tokens / 2
    prompts = decodes / run.load.output_tokens / run.setup.pipeline_parallel
    return Sample(
        run,
        groups_of(run.device, run.setup),
        decodes,
        at_once - decodes,
        decode_terms(model, decodes, context) | {"burst": decodes if run.load.all_at_once else 0.0},
        prefill_terms(model, run.load.input_tokens, prompts, min(1.0, prompts)),
        prefill_terms(model, run.load.input_tokens),
    )


def samples_of(runs: Sequence[Run]) -> list[Sample]:
    """Of closed loops and bursts with both times measured."""
    kinds = ("closed_loop", "all_at_once")
    return [sample_of(run) for run in runs if run.kind in kinds and run.tpot_ms and run.ttft_ms]


def fit_quantity(
    samples: Sequence[Sample],
    parts: np.ndarray[Any, np.dtype[np.float64]],
    measured: np.ndarray[Any, np.dtype[np.float64]],
    priors: Mapping[str, float],
    stiffness: Stiffness,
) -> dict[str, dict[str, float]]:
    """Constants of one quantity as logarithms, by term and group. `parts`: a row per sample, a column per term."""
    terms = list(priors)
    names = ["", *sorted({name for sample in samples for name in (sample.groups[0], sample.groups[2])})]
    member = np.array([[name in ("", s.groups[0], s.groups[2]) for name in names] for s in samples], float)
    width, count = len(names), len(terms) * len(names)
    center = np.zeros(count)
    weight = np.zeros(count)
    for t, term in enumerate(terms):
        for n, name in enumerate(names):
            weight[t * width + n] = 1 / stiffness.of(term, name) ** 2
            if name == "":
                center[t * width + n] = np.log(priors[term])
    log_measured = np.log(measured)

    def pieces(x: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return parts * np.exp(member @ x.reshape(len(terms), width).T)

    def cost(x: np.ndarray[Any, np.dtype[np.float64]]) -> float:
        off = np.abs(log_measured - np.log(pieces(x).sum(1)))
        huber = np.where(off < BEND, off * off / (2 * BEND), off - BEND / 2)
        return float(huber.sum() / NOISE + 0.5 * (weight * (x - center) ** 2).sum())

    x, damping = center.copy(), 1e-3
    best = cost(x)
    for _ in range(ITERATIONS):
        now = pieces(x)
        total = now.sum(1)
        off = log_measured - np.log(total)
        share = now / total[:, None]
        slope = (share[:, :, None] * member[:, None, :]).reshape(len(samples), count)
        pull = 1 / (np.maximum(np.abs(off), BEND) * NOISE)
        curve = (slope * pull[:, None]).T @ slope + np.diag(weight)
        push = slope.T @ (pull * off) - weight * (x - center)
        before = best
        for _ in range(8):
            step = np.clip(np.linalg.solve(curve + damping * np.diag(np.diag(curve)), push), -1, 1)
            found = cost(x + step)
            if found < best:
                x, best, damping = x + step, found, max(damping / 3, 1e-6)
                break
            damping = damping * 5 + 1e-4
        if before - best < 1e-4 * before:
            break
    table = x.reshape(len(terms), width)
    return {
        term: {name: round(float(table[t, n]), 5) for n, name in enumerate(names)}
        for t, term in enumerate(terms)
    }


Residual = dict[str, dict[str, Residuals]]


def fit(samples: Sequence[Sample], residuals: Residual | None = None) -> SpeedConstants:
    """TPOT first; the step and the prefill cost that it gives are the parts of TTFT."""
    parts = np.array([step_row(sample) for sample in samples])
    tpot = np.array([sample.run.tpot_ms for sample in samples], float)
    step = fit_quantity(samples, parts, tpot, STEP_PRIORS, STEP_STIFFNESS)
    half = SpeedConstants({"step": step}, {})
    loops = [sample for sample in samples if sample.run.load.all_at_once is None]
    bursts = [sample for sample in samples if sample.run.load.all_at_once is not None]
    ttft = _fit_ttft(loops, half, ttft_row, TTFT_PRIORS, TTFT_STIFFNESS)
    burst = _fit_ttft(bursts, half, burst_row, BURST_PRIORS, BURST_STIFFNESS)
    return SpeedConstants({"step": step, "ttft": ttft, "burst": burst}, residuals or {})


def _fit_ttft(
    samples: Sequence[Sample],
    known: SpeedConstants,
    row: Callable[[Sample, SpeedConstants], list[float]],
    priors: Mapping[str, float],
    stiffness: Stiffness,
) -> dict[str, dict[str, float]]:
    parts = np.array([row(sample, known) for sample in samples])
    ttft = np.array([sample.run.ttft_ms for sample in samples], float)
    return fit_quantity(samples, parts, ttft, priors, stiffness)


def step_row(sample: Sample) -> list[float]:
    return [(sample.step | sample.beside)[term] for term in STEP_PRIORS]


def _known_ms(sample: Sample, constants: SpeedConstants) -> tuple[float, float]:
    """Of a step, and of the sample's own prefill."""
    known = constants.constants("step", sample.groups)
    step_ms = sum(known[term] * ideal for term, ideal in zip(STEP_PRIORS, step_row(sample), strict=True))
    return step_ms, sum(known[term] * ideal for term, ideal in sample.prefill.items())


def ttft_row(sample: Sample, constants: SpeedConstants) -> list[float]:
    step_ms, prefill_ms = _known_ms(sample, constants)
    slot_wait = sample.run.load.output_tokens * step_ms * sample.waiting / sample.decodes
    terms = first_token_terms(step_ms, prefill_ms, sample.decodes, slot_wait)
    return [terms[term] for term in TTFT_PRIORS]


def burst_row(sample: Sample, constants: SpeedConstants) -> list[float]:
    step_ms, prefill_ms = _known_ms(sample, constants)
    cycle_ms = sample.run.load.output_tokens * step_ms
    terms = burst_terms(prefill_ms, cycle_ms, sample.decodes, sample.waiting)
    return [terms[term] for term in BURST_PRIORS]


COVERAGE = 0.9
LEVELS = (0.9, 0.92, 0.94, 0.96, 0.97, 0.98, 0.99, 1.0)
MODELS_MIN = 3
"""A group has a range of its own if so many models speak for it."""
Kinship = Callable[[Run], tuple[str, ...]]
Ratios = list[dict[str, float]]


def ratios(samples: Sequence[Sample], runs: Sequence[Run], kinship: Kinship) -> Ratios:
    """Measured over predicted of each run, by a fit without all samples that share any part of its kinship."""
    found: dict[int, dict[str, float]] = {}
    for kin in sorted({kinship(run) for run in runs}):
        constants = fit([each for each in samples if not set(kinship(each.run)) & set(kin)])
        for place, run in enumerate(runs):
            if kinship(run) == kin:
                now = predict(run.arch, run.device, run.setup, run.load, constants=constants)
                pairs = {
                    "step": (run.tpot_ms, now.itl_ms.value),
                    "ttft": (run.ttft_ms, now.ttft_ms.value),
                    "rate": (run.output_tokens_per_s, now.output_tokens_per_s.value),
                }
                found[place] = {name: truth / value for name, (truth, value) in pairs.items() if truth}
    return [found[place] for place in range(len(runs))]


def all_ratios(samples: Sequence[Sample], runs: Sequence[Run]) -> tuple[Ratios, Ratios, Ratios]:
    """Without the model; and besides that without its family of devices; or without its engine."""
    return (
        ratios(samples, runs, lambda run: (run.base,)),
        ratios(samples, runs, lambda run: (run.base, groups_of(run.device, run.setup)[1])),
        ratios(samples, runs, lambda run: (run.base, groups_of(run.device, run.setup)[0])),
    )


def bounds(values: Sequence[tuple[str, float]]) -> Residuals:
    """The narrowest quantiles that, taken from all other models, hold COVERAGE of the ratios of models left out: of all
    rows, and on average of each model's rows, since the next model is a new one."""
    by_model: dict[str, list[float]] = {}
    for model, ratio in values:
        by_model.setdefault(model, []).append(ratio)
    for level in LEVELS:
        shares, inside = [], 0
        for model, own in by_model.items():
            low, high = _quantiles([ratio for other, ratio in values if other != model], level)
            held = sum(low <= ratio <= high for ratio in own)
            shares.append(held / len(own))
            inside += held
        if inside >= COVERAGE * len(values) and sum(shares) >= COVERAGE * len(shares):
            break
    low, high = _quantiles([ratio for _, ratio in values], level)
    return Residuals(round(low, 3), round(high, 3))


def _quantiles(values: Sequence[float], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def residuals_of(runs: Sequence[Run], without: tuple[Ratios, Ratios, Ratios]) -> Residual:
    """Ranges by quantity and group; groups of too few models are left to the more general ones."""
    by_model, by_device, by_engine = without
    found: Residual = {}
    for quantity in ("step", "ttft", "rate"):
        members: dict[str, list[tuple[str, float]]] = {}
        for run, model, device, engine in zip(runs, by_model, by_device, by_engine, strict=True):
            if quantity not in model:
                continue
            groups = groups_of(run.device, run.setup)
            named = {"all at once": model} if run.kind == "all_at_once" else {}
            named |= {"saturated": model} if run.kind == "saturated_offline" else {}
            if not named:
                named = {
                    "": model,
                    groups[0]: model,
                    groups[2]: model,
                    "new device": device,
                    "new engine": engine,
                }
            for group, values in named.items():
                members.setdefault(group, []).append((run.base, values[quantity]))
        found[quantity] = {
            group: bounds(values)
            for group, values in sorted(members.items())
            if len({model for model, _ in values}) >= MODELS_MIN
        }
    return found


def as_text(constants: SpeedConstants) -> str:
    table = {
        "source": "fitted by benchmarks/planner_fit.py on benchmarks/data/throughput.csv.gz; its sources: SOURCES.md there",
        "quantities": constants.quantities,
        "residuals": {
            quantity: {group: [each.low, each.high] for group, each in groups.items()}
            for quantity, groups in constants.residuals.items()
        },
    }
    return json.dumps(table, indent=1) + "\n"


def fit_text(path: Path = DATA) -> str:
    runs, _ = read_runs(read_table(path))
    samples = samples_of(runs)
    return as_text(fit(samples, residuals_of(runs, all_ratios(samples, runs))))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the file differs")
    wanted = parser.parse_args()
    text = fit_text()
    if wanted.check:
        return int(FACTS.read_text(encoding="utf-8") != text)
    FACTS.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
