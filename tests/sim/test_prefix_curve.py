"""The simulated KV cache's hits on the Mooncake traces, against figures that were computed apart from this code.

Arrival order only: each request comes when the one before has ended, so that the size of the cache is all that
matters. The traces lie beside the repository (INFERRY_TEST_TRACES names another folder); without them these tests skip.
"""

from __future__ import annotations

import pytest

from inferry.core.load_traces import TracedRequest
from inferry.simulate.kv_pool import KvPool
from inferry.simulate.replica_model import ReplicaModel
from inferry.simulate.replica_request import SimulatedRequest
from inferry.simulate.timing import EngineTiming
from tests.sim.test_prefix_routing import trace

BLOCK = 512
HITS_PERCENT = {
    "conversation": {1_000_000: 5.42, 3_000_000: 13.82, 10_000_000: 29.08, 30_000_000: 36.58, 10**12: 37.36},
    "synthetic": {1_000_000: 14.21, 3_000_000: 31.51, 10_000_000: 57.68, 30_000_000: 65.12, 10**12: 65.12},
}
"""Share of the prompts' tokens that are found, by tokens of cache (10**12: all of it fits). Strictly by least recent
use, where a prompt's beginning was used before its end."""


def hits_percent(requests: tuple[TracedRequest, ...], kv_tokens: int, *, beginnings_first: bool) -> float:
    """Of a pool to which each request comes alone. `beginnings_first`: a prompt's blocks go in that order."""
    pool = KvPool(kv_tokens // BLOCK, BLOCK)
    hits = 0
    for request in requests:
        blocks = request.blocks
        known = pool.known(blocks)
        hits += min(known * BLOCK, request.prompt_tokens)
        pool.prompt_blocks += len(blocks)
        pool.hold(blocks, 0, known)
        pool.evict(0)
        pool.hold(blocks, known, len(blocks))
        pool.prompt_blocks -= len(blocks)
        if beginnings_first:
            for block in blocks:
                pool.let_go((block,), 1)
        else:
            pool.let_go(blocks, len(blocks))
    return 100 * hits / sum(request.prompt_tokens for request in requests)


@pytest.mark.parametrize("name", HITS_PERCENT)
def test_the_cache_has_the_hits_that_were_computed_elsewhere(name: str) -> None:
    """Within 0.1 point at each size, in the order of that computation."""
    for kv_tokens, expected in HITS_PERCENT[name].items():
        found = hits_percent(trace(name), kv_tokens, beginnings_first=True)
        assert found == pytest.approx(expected, abs=0.1), kv_tokens


@pytest.mark.parametrize(("name", "published"), [("conversation", 0.41), ("synthetic", 0.46)])
def test_a_small_cache_has_the_share_that_the_traces_authors_found(name: str, published: float) -> None:
    """The Mooncake paper (FAST'25): a local cache of 3M tokens has so much of the hits of one without bounds. Within 5
    points."""
    found = [hits_percent(trace(name), size, beginnings_first=False) for size in (3_000_000, 10**12)]
    assert found[0] / found[1] == pytest.approx(published, abs=0.05)


@pytest.mark.parametrize("name", ["synthetic"])
def test_ends_before_beginnings_lose_nothing(name: str) -> None:
    """As engines evict, and so does the replica: the same hits within 0.1 point, or more where the cache is small."""
    for kv_tokens, expected in HITS_PERCENT[name].items():
        found = hits_percent(trace(name), kv_tokens, beginnings_first=False)
        assert expected - 0.1 <= found <= expected + 0.35, kv_tokens


def test_a_whole_replica_has_them_too() -> None:
    """Steps, chunks and answers change nothing of it, where requests don't overlap."""

    class Nobody:
        def first_token(self, request: SimulatedRequest) -> None: ...

        def token(self, request: SimulatedRequest) -> None: ...

        def ended(self, request: SimulatedRequest) -> None: ...

        def preempted(self, request: SimulatedRequest) -> None: ...

    model = ReplicaModel(EngineTiming(kv_tokens=3_000_000), Nobody())
    for number, each in enumerate(trace("conversation")):
        model.advance(number * 1000.0)
        model.submit(SimulatedRequest(0.0, each.prompt_tokens, each.answer_tokens, each.blocks), model.now_s)
    assert 100 * model.cached_tokens / model.prompt_tokens == pytest.approx(13.82, abs=0.1)
