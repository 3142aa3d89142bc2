"""The heap whose keys change."""

from __future__ import annotations

import random

from inferry.policy.keyed_heap import STALE_MAX, KeyedHeap


def test_least_is_the_least_whatever_changed() -> None:
    """After thousands of random additions, changes and removals, `least` is what a full search finds."""
    rng = random.Random(1)
    heap: KeyedHeap[int] = KeyedHeap()
    keys: dict[int, float] = {}
    for _ in range(20_000):
        item = rng.randrange(50)
        if rng.random() < 0.3:
            heap.discard(item)
            keys.pop(item, None)
        else:
            keys[item] = rng.random()
            heap.put(item, keys[item])
        least = heap.least()
        assert len(heap) == len(keys)
        assert (least is None) == (not keys)
        if least is not None:
            assert keys[least] == min(keys.values())


def test_equals_in_order_of_arrival() -> None:
    """Among equal keys, the one that was put first comes first."""
    heap: KeyedHeap[str] = KeyedHeap()
    for name in "cab":
        heap.put(name, 1.0)
    order = []
    while (least := heap.least()) is not None:
        order.append(least)
        heap.discard(least)
    assert order == ["c", "a", "b"]


def test_memory_follows_the_items() -> None:
    """Keys that fall a hundred thousand times leave no more entries than twice the items and a few."""
    heap: KeyedHeap[int] = KeyedHeap()
    for number in range(100_000):
        heap.put(number % 10, -float(number))
    assert len(heap._heap) <= 2 * 10 + STALE_MAX + 1
