"""What a routing decision costs: CPU time of `Balancer.choose`, and of all that a policy does for a request.

    python -m benchmarks.routing_cost [--replicas 10 1000] [--seed 1] [--json]

Each policy has four requests under way per replica, readings of every engine, and prompts that begin alike in
families, as chats do. One round is a thousand requests chosen, then their first bytes, then their ends; the table
shows the median round. CPU time of this thread only, so other load on the machine counts little. Measured are pure
policies, without the gateway around them; what the facts cost (hashing a prompt, finding its session) is theirs. Exit code 1: a goal was missed.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from inferry.core.replica import ReplicaLoad, ReplicaState
from inferry.policy.routing import Balancer, PolicyName, RouteFacts, Seen, Slot

ROUND = 1000
ROUNDS = 15
HELD_PER_REPLICA = 4
FAMILIES = 200
BLOCK_TOKENS = 500
"""Of what the gateway takes for a block, 2 KB of text."""
BLOCKS = 4
"""Of a prompt; some 2,000 tokens."""
GOAL_US = {10: 5.0, 1000: 50.0}


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of CPU time per request, in the median round."""

    policy: str
    replicas: int
    choose_us: float
    choose_worst_us: float
    """Of the slowest round."""
    request_us: float
    """With first byte and release."""


def facts_of(rng: random.Random, family: int) -> RouteFacts:
    """A prompt that begins as all of its family, and ends as none."""
    shared = rng.randrange(1, max(BLOCKS, 2))
    blocks = tuple(family * 1000 + at if at < shared else rng.getrandbits(60) for at in range(BLOCKS))
    return RouteFacts(BLOCK_TOKENS * BLOCKS, rng.randrange(50, 500), blocks, f"s{rng.randrange(5000)}")


def measure(policy: PolicyName, replicas: int, seed: int) -> Cost:
    """Of one policy, over ROUNDS rounds."""
    rng = random.Random(seed)
    balancer = Balancer(policy, random.Random(seed), shared=True)
    for number in range(replicas):
        balancer.put(f"chat-{number}", ReplicaState.READY)
    now_s = 1000.0
    held = [
        hold(balancer, facts_of(rng, rng.randrange(FAMILIES)), now_s)
        for _ in range(HELD_PER_REPLICA * replicas)
    ]
    choosing, whole = [], []
    for _ in range(ROUNDS):
        for number in range(replicas):
            told = ReplicaLoad(f"chat-{number}", now_s, rng.randrange(8), rng.randrange(3), rng.random())
            balancer.learn(told, now_s)
        coming = [facts_of(rng, rng.randrange(FAMILIES)) for _ in range(ROUND)]
        began = time.thread_time()
        for facts in coming:
            now_s += 0.001
            held.append(hold(balancer, facts, now_s))
        chosen = time.thread_time()
        leaving, held = held[:ROUND], held[ROUND:]
        first = time.thread_time()
        for slot, facts in leaving:
            balancer.first_byte(slot, facts, 0.2, now_s)
        for slot, facts in leaving:
            balancer.release(slot, facts, Seen(True, False, 0.2, 3.0, facts.prompt_tokens, 500, 100), now_s)
        ended = time.thread_time()
        choosing.append((chosen - began) / ROUND * 1e6)
        whole.append((chosen - began + ended - first) / ROUND * 1e6)
        now_s += 1.0
    return Cost(policy, replicas, statistics.median(choosing), max(choosing), statistics.median(whole))


def hold(balancer: Balancer, facts: RouteFacts, now_s: float) -> tuple[Slot, RouteFacts]:
    slot = balancer.choose((), facts, now_s)
    assert isinstance(slot, Slot)
    return slot, facts


def table(costs: Sequence[Cost], sizes: Sequence[int]) -> str:
    """Markdown: one line per policy."""
    head = "| policy |" + "".join(f" choose, {size} | slowest | request, {size} |" for size in sizes)
    lines = [
        f"CPU microseconds, by number of replicas; {platform.machine()}, Python {platform.python_version()}."
    ]
    lines += ["", head, "|---|" + "---:|---:|---:|" * len(sizes)]
    for policy in dict.fromkeys(cost.policy for cost in costs):
        cells = [
            f" {cost.choose_us:.1f} | {cost.choose_worst_us:.1f} | {cost.request_us:.1f} |"
            for size in sizes
            for cost in costs
            if cost.policy == policy and cost.replicas == size
        ]
        lines.append(f"| {policy} |" + "".join(cells))
    return "\n".join(lines)


def misses(costs: Sequence[Cost]) -> list[str]:
    """Goals that were missed, in words."""
    return [
        f"{cost.policy} with {cost.replicas} replicas: {cost.choose_us:.1f} us, wanted at most {goal:g}"
        for cost in costs
        if (goal := GOAL_US.get(cost.replicas)) is not None and cost.choose_us > goal
    ]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--replicas", type=int, nargs="+", default=sorted(GOAL_US))
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    costs = [
        measure(policy, replicas, given.seed)
        for policy in get_args(PolicyName)
        for replicas in given.replicas
    ]
    if given.json:
        print(json.dumps([{name: getattr(cost, name) for name in Cost.__slots__} for cost in costs]))
    else:
        print(table(costs, given.replicas))
    missed = misses(costs)
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
