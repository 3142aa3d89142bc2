"""The simulated KV cache: what answers need is computed, not counted; it is the same as if it were."""

from __future__ import annotations

import random

import pytest

from inferry.simulate.kv_pool import KvPool


@pytest.mark.parametrize("block_tokens", [1, 3, 16])
def test_what_answers_hold_is_as_if_it_were_counted(block_tokens: int) -> None:
    """Through 2,000 steps with answers that begin and end, against a count of each answer's blocks."""
    rng = random.Random(block_tokens)
    pool = KvPool(100, block_tokens)
    bases: list[int] = []
    full = 0
    for step in range(2000):
        if rng.random() < 0.3:
            base = rng.randrange(1, 100) - step
            pool.grow(base)
            bases.append(base)
        if bases and rng.random() < 0.25:
            pool.stop_growing(bases.pop(rng.randrange(len(bases))))
        counted = sum(-(-(base + step) // block_tokens) for base in bases)
        assert pool.used(step) == counted
        assert pool.context_tokens(step) == sum(base + step for base in bases)
        assert pool.has_room(step) == (counted <= 100)
        full += counted > 100
    assert 0 < full < 2000


def take(pool: KvPool, blocks: range) -> None:
    """As a request that comes, computes its prompt, and goes."""
    known = pool.known(blocks)
    pool.prompt_blocks += len(blocks)
    pool.hold(blocks, 0, known)
    pool.evict(0)
    pool.hold(blocks, known, len(blocks))
    pool.prompt_blocks -= len(blocks)
    pool.let_go(blocks, len(blocks))


def test_what_was_used_last_is_kept_and_beginnings_before_ends() -> None:
    """Ten blocks fit; of the least recently used prompt, the end goes first."""
    pool = KvPool(10, 100)
    for blocks in (range(10, 16), range(20, 24), range(10, 16), range(30, 33)):
        take(pool, blocks)
    assert pool.cached == 10
    assert pool.known(range(20, 24)) == 1
    assert pool.known(range(10, 16)) == 6


def test_blocks_that_somebody_holds_stay() -> None:
    """Whatever else comes: only what nobody holds is forgotten."""
    pool = KvPool(10, 100)
    held = range(6)
    pool.prompt_blocks += 6
    pool.hold(held, 0, 6)
    for number in range(1, 20):
        take(pool, range(number * 100, number * 100 + 3))
    assert pool.known(held) == 6
    assert pool.used(0) == 6
    assert pool.cached == 4


def test_two_that_begin_alike_hold_one_copy() -> None:
    """Four blocks each, three of them the same: five."""
    pool = KvPool(10, 100)
    for last in (4, 5):
        pool.prompt_blocks += 4
        pool.hold((1, 2, 3, last), 0, 4)
    assert pool.used(0) == 5
    pool.prompt_blocks -= 4
    pool.let_go((1, 2, 3, 4), 4)
    assert (pool.used(0), pool.cached) == (4, 1)


def test_an_answers_blocks_can_be_kept_for_the_next_turn() -> None:
    """The next prompt begins with what was said: its blocks are there, after those of the prompt."""
    pool = KvPool(10, 100)
    take(pool, range(3))
    pool.keep((3, 4))
    assert pool.known((0, 1, 2, 3, 4, 5)) == 5
