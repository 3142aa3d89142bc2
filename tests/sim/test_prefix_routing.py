"""What prefix_aware promises, on published traces replayed on simulated replicas: cache hits, even work, short waits.

The traces lie beside the repository (INFERRY_TEST_TRACES names another folder); without them these tests skip.
All figures are of simulations.
"""

from __future__ import annotations

import os
import random
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from inferry.core.load_traces import TracedRequest, read_azure, read_mooncake
from inferry.core.routing_settings import PolicyName, Routing
from inferry.policy.routing import Balancer
from inferry.simulate.replay import Replay, hit_ratio_bound, replay, saturation_speed
from inferry.simulate.timing import EngineTiming

TRACES = Path(os.environ.get("INFERRY_TEST_TRACES") or Path(__file__).parents[3] / "shared/data/traces")
LOADS = (pytest.param(0.4, marks=pytest.mark.slow), 0.8, pytest.param(1.0, marks=pytest.mark.slow))
"""Of the load that saturates round_robin."""
IMBALANCE_MAX = {"conversation": 1.15, "synthetic": 1.3}


@cache
def trace(name: str) -> tuple[TracedRequest, ...]:
    path = TRACES / f"mooncake_fast25_{name}_trace.jsonl.gz"
    if not path.exists():
        pytest.skip(f"needs {path.name} in {TRACES}: set INFERRY_TEST_TRACES to the folder that has it")
    return tuple(read_mooncake(path))


@cache
def saturation(name: str) -> float:
    return saturation_speed(trace(name), Balancer("round_robin"))


@cache
def replayed(name: str, policy: PolicyName, load: float) -> Replay:
    return replay(trace(name), Balancer(policy, random.Random(1)), speed=load * saturation(name))


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("name", ["conversation", "synthetic"])
def test_hits_come_close_to_the_bound_and_work_stays_even(name: str, load: float) -> None:
    """With private caches of 3M tokens on 8 replicas, at least 92 % of the hits that one cache without bounds would
    have; and no replica computes much more than the mean."""
    result = replayed(name, "prefix_aware", load)
    assert result.hit_ratio >= 0.92 * hit_ratio_bound(trace(name))
    assert result.imbalance <= IMBALANCE_MAX[name]


@pytest.mark.parametrize("name", ["conversation", "synthetic"])
def test_first_tokens_come_in_half_of_round_robins_time(name: str) -> None:
    """TTFT p90 at 80 % of the load that saturates round_robin."""
    assert (
        replayed(name, "prefix_aware", 0.8).ttft_p90_s <= 0.5 * replayed(name, "round_robin", 0.8).ttft_p90_s
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("load", [0.4, 0.8, 1.0])
@pytest.mark.parametrize("name", ["conversation", "synthetic"])
def test_no_other_policy_has_shorter_waits(name: str, load: float) -> None:
    """TTFT p99 and p50 are the lowest of all policies, `session` included, which is told conversations apart."""
    best = replayed(name, "prefix_aware", load)
    for policy in get_args(PolicyName):
        other = replayed(name, policy, load)
        assert best.ttft_p99_s <= other.ttft_p99_s, policy
        assert best.ttft_p50_s <= other.ttft_p50_s, policy


@pytest.mark.parametrize(("assumed", "real"), [(3_000_000, 1_000_000), (10_000_000, 1_000_000)])
def test_a_wrong_idea_of_the_caches_size_is_corrected(assumed: int, real: int) -> None:
    """Told too large a cache, it learns from what engines report: nearly the hits that the right size has."""
    timing = EngineTiming(kv_tokens=real)
    hits = [
        replay(
            trace("synthetic"),
            Balancer(Routing(policy="prefix_aware", cache_tokens=size)),
            speed=0.8 * saturation("synthetic"),
            timing=timing,
        ).hit_ratio
        for size in (real, assumed)
    ]
    assert hits[1] >= 0.97 * hits[0]


def test_one_prompt_that_all_share_does_not_crowd_one_replica() -> None:
    """Every request begins with the same 10,000 tokens: all replicas come to hold it, and nobody waits longer than by
    least_connections."""
    rng = random.Random(5)
    shared = tuple(range(20))
    arrivals = []
    at_s = 0.0
    for number in range(3000):
        at_s += rng.expovariate(40)
        arrivals.append(TracedRequest(at_s, 20 * 512 + 300, 150, (*shared, 1000 + number)))
    crowd, spread = (replay(arrivals, Balancer(policy)) for policy in ("prefix_aware", "least_connections"))
    assert crowd.imbalance <= 1.15
    assert crowd.ttft_p90_s <= 1.2 * spread.ttft_p90_s
    assert crowd.ttft_p99_s <= 1.2 * spread.ttft_p99_s


def test_a_replay_is_the_same_each_time() -> None:
    """Nothing depends on the machine, its load or the order of a dict."""
    first, second = (replay(trace("synthetic")[:500], Balancer("prefix_aware"), speed=1.5) for _ in range(2))
    assert first == second


def test_the_traces_are_read_as_they_were_published() -> None:
    """Counts, lengths and duration as the publishers' tables have them."""
    conversation = trace("conversation")
    assert len(conversation) == 12_031
    assert conversation[-1].at_s == pytest.approx(3537, abs=1)
    assert sum(each.prompt_tokens for each in conversation) / 12_031 == pytest.approx(12_035, abs=1)
    assert len({block for each in conversation for block in each.blocks}) == 182_790
    azure = TRACES / "azure_llm_2023_conv.csv.gz"
    if not azure.exists():
        pytest.skip(f"needs {azure.name} in {TRACES}")
    rows = read_azure(azure)
    assert (len(rows), round(rows[-1].at_s)) == (19_366, 3502)
    assert sum(row.prompt_tokens for row in rows) / len(rows) == pytest.approx(1155, abs=1)
