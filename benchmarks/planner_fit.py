"""Fits the constants of the performance model to published measurements, and writes them where the planner reads them.

    python -m benchmarks.planner_fit            fit and write src/inferry/planner/facts/performance.json
    python -m benchmarks.planner_fit --check    exit code 1 if the file isn't what the fit gives

The steps first; what they give for steps and prefills are the parts of TTFT. The law and the loss: planner_shrunk.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.planner_runs import Run, read_runs, read_table
from benchmarks.planner_samples import (
    Sample,
    burst_ttft_parts,
    drain_ms,
    drain_parts,
    loop_ttft_parts,
    samples_of,
    step_parts,
)
from benchmarks.planner_shrunk import Stiffness, fit_quantity
from inferry.planner.performance import predict
from inferry.planner.speed_facts import Residuals, SpeedConstants, groups_of

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
    "replicated": 1.0,
    "step": 0.5,
    "burst": 0.03,
    "burst_prefill": 0.5,
    "prefill_compute": 1.7,
    "prefill_attention": 2.0,
    "prefill_reduce": 2.0,
    "prefill_replicated": 1.0,
    "prefill_weights": 0.5,
    "prefill_layers": 0.05,
    "prefill_moe_layers": 0.05,
    "prefill_parallel_layers": 0.02,
}
"""Before any data: the maker's peaks are reached to 50-75 %, a layer launches in tens of microseconds. Times of layers,
sequences and steps in ms. `latent_kv` and `narrow_weights` come on top of `kv` and `weights`: latent caches and dense 4-bit
weights are read with less of the bandwidth. In a closed loop the steps beside a prefill grow by less than a prefill takes, in
a burst by all of it: `burst_prefill` is the rest."""
BURST_PRIORS: Mapping[str, float] = {"request": 30.0, "intake": 2.0, "prefill": 1.0, "slot_wait": 1.0}
"""`intake`: ms of the front end per request. The times are known from the steps, so that one of each is the guess."""
DRAIN_PRIORS: Mapping[str, float] = {"intake": 2.0, "prefill": 1.0, "steps": 1.0, "tail": 0.5}
TTFT_PRIORS: Mapping[str, float] = {
    "request": 30.0,
    "step": 1.0,
    "prefill": 1.0,
    "prefill_queue": 0.08,
    "slot_wait": 1.0,
}
"""`request`: ms of parsing, tokenizing and scheduling. `prefill_queue`: ten rounds of which the first is in step."""


STEP_STIFFNESS = Stiffness(base={"": 0.15}, engine={"": 0.1}, pair={})
TTFT_STIFFNESS = Stiffness(
    base={"": 0.4, "slot_wait": 0.03},
    engine={"request": 1.0, "prefill_queue": 1.0},
    pair={"request": 0.5},
)
"""Waiting for a slot is Little's law, nearly without freedom. What differs between engines is what a request costs before
its prefill, and in how far prompts queue; a prefill itself is known from how it delays the steps beside it."""
BURST_STIFFNESS = Stiffness(base={"": 0.4, "slot_wait": 0.03}, engine={}, pair={})
"""Too few models were measured in bursts for more."""

Residual = dict[str, dict[str, Residuals]]


def fit(samples: Sequence[Sample], residuals: Residual | None = None) -> SpeedConstants:
    """TPOT first; the step and the prefill cost that it gives are the parts of TTFT."""
    parts = [step_parts(sample) for sample in samples]
    tpot = [sample.run.tpot_ms or 0.0 for sample in samples]
    step = fit_quantity([s.groups for s in samples], parts, tpot, STEP_PRIORS, STEP_STIFFNESS)
    half = SpeedConstants({"step": step}, {})
    loops = [sample for sample in samples if sample.run.load.all_at_once is None]
    bursts = [sample for sample in samples if sample.run.load.all_at_once is not None]
    drained = [sample for sample in bursts if drain_ms(sample.run)]

    def then(
        some: Sequence[Sample],
        parts_of: Callable[[Sample, SpeedConstants], dict[str, float]],
        measured: Callable[[Run], float | None],
        priors: Mapping[str, float],
        stiffness: Stiffness,
    ) -> dict[str, dict[str, float]]:
        rows = [parts_of(sample, half) for sample in some]
        times = [measured(sample.run) or 0.0 for sample in some]
        return fit_quantity([sample.groups for sample in some], rows, times, priors, stiffness)

    quantities = {
        "step": step,
        "ttft": then(loops, loop_ttft_parts, _ttft_ms, TTFT_PRIORS, TTFT_STIFFNESS),
        "burst": then(bursts, burst_ttft_parts, _ttft_ms, BURST_PRIORS, BURST_STIFFNESS),
        "drain": then(drained, drain_parts, drain_ms, DRAIN_PRIORS, BURST_STIFFNESS),
    }
    return SpeedConstants(quantities, residuals or {})


def _ttft_ms(run: Run) -> float | None:
    return run.ttft_ms


COVERAGE = 0.9
LEVELS = (0.9, 0.92, 0.94, 0.96, 0.97)
"""Beyond the last, single rows with wrong labels would say how wide a range is."""
MODELS_MIN = 5
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
