"""Whose is a key? Points of all replicas on a ring, and the way along it from the key's own point.

When a replica comes or goes, only the keys next to its points change hands. All gateway processes have the same
ring: points come from the replicas' ids.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import chain
from operator import itemgetter
from struct import unpack

from inferry.policy.routing.slot import Slot

POINTS = 64
"""Of a replica of weight 1: with 10 replicas, their parts of the ring differ by a sixth or so (1 / sqrt(points))."""
POINTS_MAX = 1024
_POINTS_PER_HASH = 8


AT_ONCE_MAX = 8
"""More new replicas than these, and the ring is sorted anew, in some 0.1 s for 1,000 replicas. Up to these, their
points are put between the others, in 2 ms for each of them then."""


class HashRing:
    """Points and their owners, side by side, in the order of the points."""

    def __init__(self) -> None:
        self._known: set[Slot] = set()
        self._points: list[int] = []
        self._owners: list[Slot] = []

    def add(self, slots: Iterable[Slot]) -> None:
        """Those that are on it already keep their points, whatever their weights are now."""
        new = [slot for slot in slots if slot not in self._known]
        self._known.update(new)
        if len(new) > AT_ONCE_MAX:
            ring = list(zip(self._points, self._owners, strict=True))
            ring += [(point, slot) for slot in new for point in _points(slot)]
            ring.sort(key=_point_of)
            self._points = [point for point, _ in ring]
            self._owners = [slot for _, slot in ring]
            return
        for slot in new:
            for point in _points(slot):
                at = bisect_right(self._points, point)
                self._points.insert(at, point)
                self._owners.insert(at, slot)

    def discard(self, slot: Slot) -> None:
        """Take it off, if it is on."""
        if slot in self._known:
            self._known.remove(slot)
            kept = [at for at, owner in enumerate(self._owners) if owner is not slot]
            self._points = [self._points[at] for at in kept]
            self._owners = [self._owners[at] for at in kept]

    def way_from(self, key: str) -> Iterator[Slot]:
        """All replicas, each once, in the order in which `key` comes to them."""
        owners = self._owners
        start = bisect_right(self._points, _hash(key))
        seen = set()
        for index in chain(range(start, len(owners)), range(start)):
            slot = owners[index]
            if slot not in seen:
                seen.add(slot)
                yield slot


_point_of = itemgetter(0)


def _hash(key: str) -> int:
    # A client's header may hold anything; surrogates are what undecodable bytes became.
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def _points(slot: Slot) -> list[int]:
    wanted = min(max(round(POINTS * slot.weight), 1), POINTS_MAX)
    found: list[int] = []
    for number in range(-(-wanted // _POINTS_PER_HASH)):
        found += unpack("<8Q", blake2b(f"{slot.id}#{number}".encode()).digest())
    return found[:wanted]
