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
from inferry.planner.first_token import first_token_terms
from inferry.planner.performance import slots_of
from inferry.planner.speed_facts import Residuals, SpeedConstants, groups_of
from inferry.planner.step_work import decode_terms, prefill_terms, step_model

DATA = Path(__file__).parent / "data" / "throughput.csv.gz"
FACTS = Path(__file__).parents[1] / "src" / "inferry" / "planner" / "facts" / "performance.json"

STEP_PRIORS: Mapping[str, float] = {
    "weights": 1.3,
    "experts": 1.3,
    "kv": 1.3,
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
    "prefill_compute": 1.7,
    "prefill_attention": 2.0,
    "prefill_reduce": 2.0,
    "prefill_weights": 0.5,
    "prefill_layers": 0.05,
    "prefill_moe_layers": 0.05,
    "prefill_parallel_layers": 0.02,
}
"""Before any data: the maker's peaks are reached to 50-75 %, a layer launches in tens of microseconds. Times of layers,
sequences and steps in ms."""
TTFT_PRIORS: Mapping[str, float] = {
    "request": 30.0,
    "step": 1.0,
    "prefill": 1.0,
    "prefill_queue": 0.08,
    "slot_wait": 1.0,
}
"""`request`: ms of parsing, tokenizing and scheduling. `prefill_queue`: ten rounds of which the first is in step."""


FIRM: Mapping[str, float] = {"slot_wait": 0.03}
"""Terms that are laws: waiting for a slot is Little's."""


@dataclass(frozen=True, slots=True)
class Stiffness:
    """Standard deviations of the priors, of natural logarithms. Chosen on models left out."""

    base: float
    engine: float
    pair: float | None
    """None: no offsets for pairs of engine and family."""

    def of(self, term: str, group: str) -> float:
        if term in FIRM:
            return FIRM[term]
        return (
            self.base if group == "" else self.engine if self.pair is None or "|" not in group else self.pair
        )


STEP_STIFFNESS = Stiffness(base=0.15, engine=0.1, pair=None)
TTFT_STIFFNESS = Stiffness(base=0.4, engine=0.3, pair=0.2)
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
    assert run.load.concurrency is not None
    decodes = min(run.load.concurrency, slots_of(run.arch, run.device, run.setup, run.load).count)
    context = run.load.input_tokens + run.load.output_tokens / 2
    prompts = decodes / run.load.output_tokens / run.setup.pipeline_parallel
    return Sample(
        run,
        groups_of(run.device, run.setup),
        decodes,
        run.load.concurrency - decodes,
        decode_terms(model, decodes, context),
        prefill_terms(model, run.load.input_tokens, prompts, min(1.0, prompts)),
        prefill_terms(model, run.load.input_tokens),
    )


def samples_of(runs: Sequence[Run]) -> list[Sample]:
    """Of closed loops with both times measured."""
    return [sample_of(run) for run in runs if run.kind == "closed_loop" and run.tpot_ms and run.ttft_ms]


def _offset_names(groups: tuple[str, ...], stiffness: Stiffness) -> tuple[str, ...]:
    engine, _, pair = groups
    return ("", engine) if stiffness.pair is None else ("", engine, pair)


def fit_quantity(
    samples: Sequence[Sample],
    parts: np.ndarray[Any, np.dtype[np.float64]],
    measured: np.ndarray[Any, np.dtype[np.float64]],
    priors: Mapping[str, float],
    stiffness: Stiffness,
) -> dict[str, dict[str, float]]:
    """Constants of one quantity as logarithms, by term and group. `parts`: a row per sample, a column per term."""
    terms = list(priors)
    names = sorted({name for sample in samples for name in _offset_names(sample.groups, stiffness)})
    member = np.array(
        [[name in _offset_names(s.groups, stiffness) for name in names] for s in samples], float
    )
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
    half = SpeedConstants({"step": step, "ttft": {}}, residuals or {})
    ttft_parts = np.array([ttft_row(sample, half) for sample in samples])
    ttft = np.array([sample.run.ttft_ms for sample in samples], float)
    return SpeedConstants(
        {"step": step, "ttft": fit_quantity(samples, ttft_parts, ttft, TTFT_PRIORS, TTFT_STIFFNESS)},
        residuals or {},
    )


def step_row(sample: Sample) -> list[float]:
    return [(sample.step | sample.beside)[term] for term in STEP_PRIORS]


def ttft_row(sample: Sample, constants: SpeedConstants) -> list[float]:
    known = constants.constants("step", sample.groups)
    step_ms = sum(known[term] * ideal for term, ideal in zip(STEP_PRIORS, step_row(sample), strict=True))
    prefill_ms = sum(known[term] * ideal for term, ideal in sample.prefill.items())
    slot_wait = sample.run.load.output_tokens * step_ms * sample.waiting / sample.decodes
    terms = first_token_terms(step_ms, prefill_ms, sample.decodes, slot_wait)
    return [terms[term] for term in TTFT_PRIORS]


def predicted(sample: Sample, constants: SpeedConstants) -> dict[str, float]:
    """TPOT and TTFT in ms and the rate in tokens/s, as `predict` gives them."""
    known = constants.constants("step", sample.groups)
    step_ms = sum(known[term] * ideal for term, ideal in zip(STEP_PRIORS, step_row(sample), strict=True))
    first = constants.constants("ttft", sample.groups)
    ttft_ms = sum(first[t] * part for t, part in zip(TTFT_PRIORS, ttft_row(sample, constants), strict=True))
    load = sample.run.load
    busy_ms = step_ms * load.output_tokens if sample.waiting else ttft_ms + step_ms * (load.output_tokens - 1)
    rate = 1e3 * sample.decodes * load.output_tokens / busy_ms
    return {"step": step_ms, "ttft": ttft_ms, "rate": rate}


Kinship = Callable[[Sample], tuple[str, ...]]


def ratios(samples: Sequence[Sample], kinship: Kinship) -> list[dict[str, float]]:
    """Measured over predicted, each sample by a fit without all that share any part of its kinship."""
    found: dict[int, dict[str, float]] = {}
    for kin in sorted({kinship(sample) for sample in samples}):
        constants = fit([each for each in samples if not set(kinship(each)) & set(kin)])
        for place, sample in enumerate(samples):
            if kinship(sample) == kin:
                now = predicted(sample, constants)
                run = sample.run
                assert run.tpot_ms
                assert run.ttft_ms
                assert run.load.concurrency
                out = run.load.output_tokens
                rate = run.output_tokens_per_s or (
                    1e3 * run.load.concurrency * out / (run.ttft_ms + run.tpot_ms * (out - 1))
                )
                found[place] = {
                    "step": run.tpot_ms / now["step"],
                    "ttft": run.ttft_ms / now["ttft"],
                    "rate": rate / now["rate"],
                }
    return [found[place] for place in range(len(samples))]


COVERAGE = 0.9
MODELS_MIN = 3
"""A pair of engine and family has a range of its own if so many models speak for it, else that of its engine."""


def bounds(values: Sequence[float]) -> Residuals:
    """The range that holds COVERAGE of them, a little wider for few (split conformal: (n + 1) / n)."""
    tail = max(0.0, (1 - COVERAGE) / 2 * (1 - 1 / (len(values) + 1)))
    low, high = np.quantile(values, [tail, 1 - tail])
    return Residuals(round(float(low), 3), round(float(high), 3))


def residuals_of(samples: Sequence[Sample]) -> Residual:
    """From fits without the model, and besides that without its family of devices, or without its engine."""
    by_model = ratios(samples, lambda sample: (sample.run.base,))
    by_device = ratios(samples, lambda sample: (sample.run.base, sample.groups[1]))
    by_engine = ratios(samples, lambda sample: (sample.run.base, sample.groups[0]))
    return collect(samples, by_model, by_device, by_engine)


def collect(
    samples: Sequence[Sample],
    by_model: Sequence[dict[str, float]],
    by_device: Sequence[dict[str, float]],
    by_engine: Sequence[dict[str, float]],
) -> Residual:
    found: Residual = {}
    for quantity in ("step", "ttft", "rate"):
        table = {
            "new device": bounds([each[quantity] for each in by_device]),
            "new engine": bounds([each[quantity] for each in by_engine]),
        }
        for place in (0, 2):
            for name in sorted({sample.groups[place] for sample in samples}):
                engine = name.partition("|")[0]
                inside = [i for i, sample in enumerate(samples) if sample.groups[place] == name]
                if len({samples[i].run.base for i in inside}) < MODELS_MIN:
                    inside = [i for i, sample in enumerate(samples) if sample.groups[0] == engine]
                table[name] = bounds([by_model[i][quantity] for i in inside])
        found[quantity] = table
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
    return as_text(fit(samples, residuals_of(samples)))


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
