"""How fast the simulator is: CPU time per simulated request, memory, and whether the same seed gives the same bytes.

    python -m benchmarks.simulator_speed [--requests 1000000] [--replicas 1000] [--policy least_connections]
        [--traces FOLDER] [--seed 1] [--json]

Made-up requests come, Poisson's, to one gateway with the classes of the real one, which spreads them over simulated
replicas; all that is kept of them is counts. With --traces, a day of Azure's conversations too: the hour of
azure_llm_2023_conv.csv.gz (github.com/Azure/AzurePublicDataset) 24 times, over 8 replicas. CPU time of this process, on
one core; other load on the machine counts little. Exit code 1: a goal was missed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import get_args

from inferry.core.routing_settings import PolicyName, Routing
from inferry.simulate.arrivals import Arrival, read_trace
from inferry.simulate.experiment import run
from inferry.simulate.service import Service
from inferry.simulate.timing import EngineTiming

REQUESTS_PER_S = 1.5
"""Per replica, of about 1,000 tokens in and 200 out: it computes for some 70 % of the time."""
SHORT = 20
"""A run with one request in so many comes first: twice, for its bytes, and for how memory grows with requests."""
AZURE = "azure_llm_2023_conv.csv.gz"
CPU_GOAL_S = 300.0
DAY_GOAL_S = 60.0
MEMORY_GOAL_MIB = 512.0


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one run."""

    what: str
    requests: int
    replicas: int
    cpu_s: float
    simulated_s: float
    peak_mib: float
    """Of this process up to the run's end."""
    digest: str
    """Of the result's bytes."""

    @property
    def us_per_request(self) -> float:
        return self.cpu_s / self.requests * 1e6


def made_up(count: int, replicas: int, seed: int) -> Iterator[Arrival]:
    """One by one: they are never in memory together."""
    rng = Random(seed)
    at_s = 0.0
    for _ in range(count):
        at_s += rng.expovariate(REQUESTS_PER_S * replicas)
        yield Arrival(at_s, int(rng.expovariate(1 / 1000)) + 1, int(rng.expovariate(1 / 200)) + 1)


def measure(
    what: str, arrivals: Callable[[], Iterator[Arrival]], replicas: int, policy: PolicyName, seed: int
) -> Speed:
    """One run from its begin to its result's bytes, the making or reading of its requests included."""
    service = Service(timing=EngineTiming(block_tokens=16), replicas=replicas, routing=Routing(policy=policy))
    began_s = time.process_time()
    result = run([service], arrivals(), seed=seed)
    data = result.to_json()
    cpu_s = time.process_time() - began_s
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    only = result.only
    assert only.completed == only.requests, "some were not answered"
    digest = hashlib.sha256(data).hexdigest()[:16]
    return Speed(what, only.requests, replicas, cpu_s, only.duration_s, peak_mib, digest)


def table(speeds: list[Speed]) -> str:
    """Markdown: one line per run."""
    lines = [
        f"SIMULATED requests, real CPU time; {platform.machine()}, Python {platform.python_version()}.",
        "",
        "| what | requests | replicas | CPU s | us/request | simulated / CPU time | peak MiB | result |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    lines.extend(
        f"| {each.what} | {each.requests:,} | {each.replicas:,} | {each.cpu_s:.1f} | {each.us_per_request:.1f} | "
        f"{each.simulated_s / each.cpu_s:,.0f} | {each.peak_mib:.0f} | {each.digest} |"
        for each in speeds
    )
    return "\n".join(lines)


def misses(speeds: list[Speed]) -> list[str]:
    """Goals that were missed, in words."""
    first, again, whole, *days = speeds
    found = []
    if first.digest != again.digest:
        found.append(f"the same seed gave two results: {first.digest} and {again.digest}")
    if whole.cpu_s > CPU_GOAL_S:
        found.append(f"{whole.requests:,} requests took {whole.cpu_s:.0f} s, wanted at most {CPU_GOAL_S:g}")
    if whole.peak_mib > MEMORY_GOAL_MIB:
        found.append(f"{whole.peak_mib:.0f} MiB of memory, wanted at most {MEMORY_GOAL_MIB:g}")
    found.extend(
        f"{day.what} took {day.cpu_s:.0f} s, wanted at most {DAY_GOAL_S:g}"
        for day in days
        if day.cpu_s > DAY_GOAL_S
    )
    return found


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--requests", type=int, default=1_000_000)
    options.add_argument("--replicas", type=int, default=1000)
    options.add_argument("--policy", choices=get_args(PolicyName), default="least_connections")
    options.add_argument("--traces", type=Path)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()

    def synthetic(what: str, count: int) -> Speed:
        return measure(
            what,
            lambda: made_up(count, given.replicas, given.seed),
            given.replicas,
            given.policy,
            given.seed,
        )

    speeds = [
        synthetic("made up, short", max(given.requests // SHORT, 1)),
        synthetic("the same again", max(given.requests // SHORT, 1)),
        synthetic("made up", given.requests),
    ]
    if given.traces is not None:
        path = given.traces / AZURE
        speeds.append(
            measure(
                "Azure's hour, 24 times", lambda: read_trace(path, repeat=24), 8, given.policy, given.seed
            )
        )
    if given.json:
        print(json.dumps([asdict(each) | {"us_per_request": each.us_per_request} for each in speeds]))
    else:
        print(table(speeds))
    missed = misses(speeds)
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
