"""The index of prefixes: it finds the longest common beginning, and stays within its bounds."""

from __future__ import annotations

import gc
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from inferry.policy.routing.prefix_index import ENTRIES_MAX, EVICTED_MORE, PrefixIndex, Shelf

ANY = 10**9
PROMPTS = st.lists(st.integers(0, 3), min_size=1, max_size=8)


def chained(letters: list[int]) -> list[int]:
    """Hashes of a prompt's blocks: two are equal if the prompts are equal up to there."""
    return [hash(tuple(letters[: end + 1])) for end in range(len(letters))]


def depth_of(index: PrefixIndex, shelf: Shelf, blocks: list[int]) -> int:
    found = index.depths(blocks, shelf.bit)
    return found[0][0] if found else 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), PROMPTS), max_size=20), PROMPTS)
def test_depths_are_the_longest_common_beginnings(
    learned: list[tuple[int, list[int]]], asked: list[int]
) -> None:
    """For each replica: as many blocks as the most similar prompt that it has seen has in common with this one."""
    index = PrefixIndex()
    shelves = [index.add(ANY) for _ in range(4)]
    longest = [0, 0, 0, 0]
    for owner, letters in learned:
        index.learn(shelves[owner], chained(letters), 10)
        common = next(
            (at for at, (a, b) in enumerate(zip(letters, asked, strict=False)) if a != b),
            min(len(letters), len(asked)),
        )
        longest[owner] = max(longest[owner], common)
    groups = index.depths(chained(asked), sum(shelf.bit for shelf in shelves))
    found = [next((depth for depth, bits in groups if bits & shelf.bit), 0) for shelf in shelves]
    assert found == longest
    assert [depth for depth, _ in groups] == sorted({depth for depth in longest if depth})


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), PROMPTS), max_size=40))
def test_no_replica_holds_more_than_its_cache(learned: list[tuple[int, list[int]]]) -> None:
    """After each request, the blocks of a replica fit its cache, and the index knows no owner that has not the block."""
    index = PrefixIndex()
    shelves = [index.add(50) for _ in range(3)]
    for owner, letters in learned:
        index.learn(shelves[owner], chained(letters), 10)
        for shelf in shelves:
            assert len(shelf.blocks) <= 5
            assert shelf.held_tokens == 10 * len(shelf.blocks)
            for block in shelf.blocks:
                assert index.depths([block], shelf.bit) == [(1, shelf.bit)]
    assert len(index) == sum(len(shelf.blocks) for shelf in shelves)


def test_the_oldest_goes_first_and_a_prompts_end_before_its_beginning() -> None:
    """What was used last stays; of one prompt, the beginning, without which the rest is of no use."""
    index = PrefixIndex()
    shelf = index.add(60)
    old, kept = [1, 2, 3], [11, 12, 13]
    index.learn(shelf, old, 10)
    index.learn(shelf, kept, 10)
    index.learn(shelf, old, 10)
    index.learn(shelf, [21, 22], 10)
    assert depth_of(index, shelf, old) == 3
    assert depth_of(index, shelf, kept) == 1


def test_evicting_takes_nothing_from_other_replicas() -> None:
    """A block that one replica loses is still known of the others."""
    index = PrefixIndex()
    small, large = index.add(20), index.add(ANY)
    index.learn(small, [1, 2], 10)
    index.learn(large, [1, 2], 10)
    index.learn(small, [3, 4], 10)
    assert depth_of(index, small, [1, 2]) == 0
    assert depth_of(index, large, [1, 2]) == 2


def test_a_cleared_or_removed_replica_has_nothing_and_its_bit_is_given_anew() -> None:
    """Nothing of a replica that is gone is left to be taken for another one's."""
    index = PrefixIndex()
    first, second = index.add(ANY), index.add(ANY)
    for shelf in (first, second):
        index.learn(shelf, [1, 2], 10)
    index.clear(second)
    assert index.depths([1], first.bit | second.bit) == [(1, first.bit)]
    index.remove(first)
    assert len(index) == 0
    assert index.add(ANY).bit == first.bit
    assert index.depths([1], first.bit | second.bit) == []


def test_unlearned_blocks_are_not_expected_again() -> None:
    """What a replica says that it has not is taken from it, and from it alone."""
    index = PrefixIndex()
    shelf = index.add(ANY)
    index.learn(shelf, [1, 2, 3], 10)
    index.unlearn(shelf, [2, 3, 4])
    assert depth_of(index, shelf, [1, 2, 3]) == 1
    assert shelf.held_tokens == 10


def test_entries_are_bounded_however_many_replicas_there_are() -> None:
    """All replicas together hold at most `entries_max` blocks, also right after another one has come."""
    index = PrefixIndex(entries_max=100)
    for number in range(7):
        shelf = index.add(ANY)
        index.learn(shelf, range(number * 1000, number * 1000 + 200), 1)
        assert len(index) <= 100


def test_one_request_never_pays_for_many_evictions() -> None:
    """A cache that turns out to be much smaller is emptied bit by bit: each request evicts a bounded number."""
    index = PrefixIndex()
    shelf = index.add(ANY)
    index.learn(shelf, range(1000), 1)
    shelf.capacity_tokens = 10
    index.learn(shelf, [2000, 2001], 1)
    assert len(shelf.blocks) == 1002 - 2 - EVICTED_MORE


def test_the_memory_bound_is_what_it_is_said_to_be() -> None:
    """A full index takes at most 250 bytes for a block at a replica: 100 MB in all."""
    entries = 20_000
    hashes = [hash((number, "block")) for number in range(entries + 5000)]
    gc.collect()
    tracemalloc.start()
    try:
        index = PrefixIndex(entries)
        shelf = index.add(ANY)
        for start in range(0, len(hashes), 50):
            index.learn(shelf, [hash((each, "chained")) for each in hashes[start : start + 50]], 10.0)
        used_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(index) == entries
    assert used_bytes / entries <= 250
    assert 250 * ENTRIES_MAX == 100e6
