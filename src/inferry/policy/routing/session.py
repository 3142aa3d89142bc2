"""Requests that belong together go to the same replica, unless it has more than its bounded share.

Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2018): with m requests under way, this one
included, no replica of weight w takes one beyond ceil(bound * m * w / W), W: all weights together; but FREE are
always welcome, so that two requests of one session don't part while everybody is idle. A session whose replica is
full goes to the next one on the ring that is not, always the same one while the loads are alike.

Worked: 4 replicas, bound 1.25, 19 requests under way: a replica takes its session's next request as long as it
holds less than ceil(1.25 * 20 / 4) = 7.

A replica that is away for a while gets its sessions back when it is ready again. Requests that belong to no session
go to the replica with the fewest.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import ceil

from inferry.policy.routing.facts import RouteFacts, Seen
from inferry.policy.routing.hash_ring import HashRing
from inferry.policy.routing.least_connections import LeastConnections
from inferry.policy.routing.policy import Fact, Policy
from inferry.policy.routing.slot import Slot

FREE = 4
"""So few requests at once are no load for an engine that batches."""


class Session(Policy):
    wants = frozenset[Fact](("session",))

    def __init__(self, load_bound: float) -> None:
        self._load_bound = load_bound
        self._ring = HashRing()
        self._without_session = LeastConnections()
        self._weights: dict[Slot, float] = {}
        """Of the candidates, as counted in the sum."""
        self._weight = 0.0
        self._held = 0
        """Requests under way at all candidates."""
        self._why = ""

    def set_candidates(self, slots: Sequence[Slot]) -> None:
        self._ring.add(slots)
        self._weights = {slot: slot.weight for slot in slots}
        self._weight = sum(self._weights.values())
        self._held = sum(slot.in_flight for slot in slots)
        self._without_session.set_candidates(slots)

    def pick(self, exclude: Collection[str], facts: RouteFacts, now_s: float) -> Slot | None:
        if facts.session is None:
            self._why = "no session"
            return self._without_session.pick(exclude, facts, now_s)
        per_weight = self._load_bound * (self._held + 1) / self._weight if self._weight else 0.0
        nearest: Slot | None = None
        passed = 0
        for slot in self._ring.way_from(facts.session):
            if slot not in self._weights or slot.id in exclude:
                continue
            if slot.in_flight < FREE or slot.in_flight < ceil(per_weight * slot.weight):
                self._why = f"its session's replica; {passed} before it on the ring are full"
                return slot
            passed += 1
            nearest = nearest or slot
        self._why = "its session's replica; all are full"
        return nearest

    def on_chosen(self, slot: Slot, facts: RouteFacts, now_s: float) -> None:
        if slot in self._weights:
            self._held += 1
        self._without_session.on_chosen(slot, facts, now_s)

    def on_released(self, slot: Slot, facts: RouteFacts, seen: Seen, now_s: float) -> None:
        if slot in self._weights:
            self._held -= 1
        self._without_session.on_released(slot, facts, seen, now_s)

    def on_load(self, slot: Slot) -> None:
        if slot in self._weights:
            self._weight += slot.weight - self._weights[slot]
            self._weights[slot] = slot.weight
        self._without_session.on_load(slot)

    def forget(self, slot: Slot) -> None:
        self._ring.discard(slot)

    def why(self, slot: Slot) -> str:
        return self._why
