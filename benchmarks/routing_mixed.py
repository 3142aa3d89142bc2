"""How routing policies do where replicas differ: TTFT on simulated replicas, two of eight a third as fast.

    python -m benchmarks.routing_mixed TRACE [--requests 3000] [--speed 0.85] [--seed 1]

TRACE is a Mooncake trace (.jsonl or .jsonl.gz; github.com/kvcache-ai/Mooncake, FAST25-release). Everything is
simulated but the policies, which are the real ones; see `inferry.simulate`. What `gpu_aware` goes by is not
simulated: it is least_connections here.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from inferry.core.load_traces import TracedRequest, read_mooncake
from inferry.policy.routing import Balancer, PolicyName
from inferry.simulate.fleet import SimulatedFleet
from inferry.simulate.replay import quantile
from inferry.simulate.timeline import Timeline
from inferry.simulate.timing import EngineTiming

REPLICAS = 8
SLOW = 2
FAST = EngineTiming()
A_THIRD = EngineTiming(FAST.prefill_tokens_per_s / 3, FAST.step_s * 3, FAST.step_s_per_sequence * 3)


def ttfts_s(
    trace: Sequence[TracedRequest], policy: PolicyName, speed: float, slow: int, seed: int
) -> list[float]:
    """Sorted; of all requests of `trace`, with `slow` slow replicas."""
    timeline = Timeline()
    balancer = Balancer(policy, random.Random(seed))
    fleet = SimulatedFleet([balancer], REPLICAS, FAST, timeline, [A_THIRD] * slow)
    fleet.expect(trace, speed)
    timeline.run()
    return sorted(request.ttft_s for request in fleet.requests)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("trace", type=Path)
    options.add_argument("--requests", type=int, default=3000)
    options.add_argument("--speed", type=float, default=0.85)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    trace = read_mooncake(given.trace)[: given.requests]
    print(
        f"SIMULATED. TTFT in s, p50 / p90 / p99; {len(trace)} requests, {given.speed:g} times as fast as they came.\n"
    )
    print(f"| policy | {REPLICAS} equal replicas | {SLOW} of them a third as fast |")
    print("|---|---:|---:|")
    for policy in get_args(PolicyName):
        cells = []
        for slow in (0, SLOW):
            found = ttfts_s(trace, policy, given.speed, slow, given.seed)
            cells.append(" / ".join(f"{quantile(found, share):.1f}" for share in (0.5, 0.9, 0.99)))
        print(f"| {policy} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
