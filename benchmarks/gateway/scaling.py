"""Requests/s of several gateway workers against one, each with a core of its own where there are enough."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.gateway.contenders import Plan, run
from benchmarks.gateway.cores import share_out
from benchmarks.gateway.inferry import start_inferry
from benchmarks.gateway.processes import cpu_s
from benchmarks.gateway.tools import Load, Tools, run_load, run_upstream

TARGET = 1.7
CORES_BESIDE = 2
"""For the upstream and the client."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Requests/s by number of workers; the best of the rounds."""

    workers: int
    requests_per_s: dict[int, float]
    serving: dict[int, int]
    cpu_us: dict[int, float]
    cores: int

    @property
    def enough_cores(self) -> bool:
        return self.cores >= self.workers + CORES_BESIDE

    def lines(self) -> Iterator[str]:
        for count, rate in self.requests_per_s.items():
            yield f"{count} worker(s): {rate:,.0f} requests/s, {self.cpu_us[count]:.1f} CPU us per request, {self.serving[count]} process(es) serve"
        factor = self.requests_per_s[self.workers] / self.requests_per_s[1]
        if self.serving[self.workers] < self.workers:
            yield f"This Inferry started {self.serving[self.workers]} gateway process(es) for {self.workers} workers: nothing to compare."
        elif not self.enough_cores:
            yield (
                f"factor {factor:.2f}, which says nothing: {self.workers} workers, the upstream and the client share "
                f"{self.cores} cores, and {self.workers + CORES_BESIDE} are needed."
            )
        else:
            wanted = TARGET * self.workers / 2
            yield f"factor {factor:.2f}, target {wanted:.2f}: {'met' if factor >= wanted else 'NOT MET'}"


def measure_scaling(
    tools: Tools, cache: Path, folder: Path, workers: int, rounds: int, requests: int
) -> Scaling:
    """Both sizes take turns; the first round is thrown away."""
    rates: dict[int, float] = {1: 0.0, workers: 0.0}
    costs: dict[int, float] = {1: float("inf"), workers: float("inf")}
    served: dict[int, int] = {}
    cores = share_out(workers)
    with run_upstream(tools, cores) as upstream:
        plan = Plan(upstream.ports, cache, folder, cores)
        with (
            run("one", start_inferry, replace(plan, folder=folder / "one")) as one,
            run("many", start_inferry, replace(plan, folder=folder / "many", workers=workers)) as many,
        ):
            pids = {1: one.serving_pids(), workers: many.serving_pids()}
            for number in range(rounds + 1):
                for count, running in ((1, one), (workers, many)):
                    sys.stderr.write(f"round {number} of {rounds}: {count} worker(s)\n")
                    served[count] = len(pids[count])
                    before = cpu_s(pids[count])
                    result = run_load(
                        tools, cores, running.port, running.headers, Load(64 * workers, requests)
                    )
                    if result.failed:
                        raise RuntimeError(f"{result.failed} answers were not whole: {result.first_failure}")
                    if number:
                        rates[count] = max(rates[count], requests / result.wall_s)
                        costs[count] = min(costs[count], (cpu_s(pids[count]) - before) / requests * 1e6)
    return Scaling(workers, rates, served, costs, len(os.sched_getaffinity(0)))
