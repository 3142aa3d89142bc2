"""Whose is a key? Points of all replicas on a ring, and the way along it from the key's own point.

When a replica comes or goes, only the keys next to its points change hands. All gateway processes have the same
ring: points come from the replicas' ids.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import chain
from struct import unpack

from inferry.policy.routing.slot import Slot

POINTS = 64
"""Of a replica of weight 1: with 10 replicas, their parts of the ring differ by a sixth or so (1 / sqrt(points))."""
POINTS_MAX = 1024
_POINTS_PER_HASH = 8


class HashRing:
    """Built when it is first asked after a change: some 30 ms for 1,000 replicas, in proportion."""

    def __init__(self) -> None:
        self._points_of: dict[Slot, list[tuple[int, Slot]]] = {}
        self._points: list[int] | None = None
        self._owners: list[Slot] = []

    def add(self, slots: Iterable[Slot]) -> None:
        """Those that are on it already keep their points, whatever their weights are now."""
        for slot in slots:
            if slot not in self._points_of:
                self._points_of[slot] = [(point, slot) for point in _points(slot)]
                self._points = None

    def discard(self, slot: Slot) -> None:
        if self._points_of.pop(slot, None) is not None:
            self._points = None

    def way_from(self, key: str) -> Iterator[Slot]:
        """All replicas, each once, in the order in which `key` comes to them."""
        if self._points is None:
            self._build()
        assert self._points is not None
        owners = self._owners
        start = bisect_right(self._points, _hash(key))
        seen = set()
        for index in chain(range(start, len(owners)), range(start)):
            slot = owners[index]
            if slot not in seen:
                seen.add(slot)
                yield slot

    def _build(self) -> None:
        ring = sorted(chain.from_iterable(self._points_of.values()), key=_point_of)
        self._points = [point for point, _ in ring]
        self._owners = [slot for _, slot in ring]


def _point_of(entry: tuple[int, Slot]) -> int:
    return entry[0]


def _hash(key: str) -> int:
    # A client's header may hold anything; surrogates are what undecodable bytes became.
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def _points(slot: Slot) -> list[int]:
    wanted = min(max(round(POINTS * slot.weight), 1), POINTS_MAX)
    found: list[int] = []
    for number in range(-(-wanted // _POINTS_PER_HASH)):
        found += unpack("<8Q", blake2b(f"{slot.id}#{number}".encode()).digest())
    return found[:wanted]
