"""The least of many items whose keys change all the time, in O(log n) amortised."""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from typing import Generic, TypeVar

Item = TypeVar("Item")

STALE_MAX = 64
"""Entries beyond twice the items, before they are swept out."""


class KeyedHeap(Generic[Item]):
    """Items by key; among equal keys, whoever got its place first. Items are compared by their hash.

    A key that grows costs nothing until its item comes to the top: the entry is then too low, and is put
    right there and then. A key that falls gets a second entry, and the first becomes stale.
    """

    def __init__(self) -> None:
        self._key: dict[Item, float] = {}
        self._entry: dict[Item, int] = {}
        """The number of each item's entry that counts; its key is never above the item's."""
        self._heap: list[tuple[float, int, Item]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._key)

    def put(self, item: Item, key: float) -> None:
        """Add `item`, or change its key."""
        before = self._key.get(item)
        self._key[item] = key
        if before is None or key < before:
            self._count += 1
            self._entry[item] = self._count
            heappush(self._heap, (key, self._count, item))
            if len(self._heap) > 2 * len(self._key) + STALE_MAX:
                self._sweep()

    def discard(self, item: Item) -> None:
        """Take `item` out, if it is in."""
        if self._key.pop(item, None) is not None:
            del self._entry[item]

    def least(self) -> Item | None:
        """The item with the lowest key; None if there is none. It stays in."""
        heap = self._heap
        while heap:
            key, number, item = heap[0]
            if self._entry.get(item) != number:
                heappop(heap)
            elif key != (now := self._key[item]):
                heapreplace(heap, (now, number, item))
            else:
                return item
        return None

    def _sweep(self) -> None:
        self._heap = [
            (self._key[item], number, item)
            for _, number, item in self._heap
            if self._entry.get(item) == number
        ]
        heapify(self._heap)
