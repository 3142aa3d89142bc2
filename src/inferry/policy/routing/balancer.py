"""The replicas of one deployment, and the policy that spreads requests over them.

The state is one Slot per replica: its health as last published, and the requests it holds through this
gateway, which is exact at every moment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from operator import attrgetter
from typing import Literal

from inferry.core.replica import ReplicaState
from inferry.policy.routing.facts import NO_FACTS, NOTHING_SEEN, RouteFacts, Seen
from inferry.policy.routing.least_connections import LeastConnections
from inferry.policy.routing.policy import Policy
from inferry.policy.routing.round_robin import RoundRobin
from inferry.policy.routing.slot import NoReplica, Slot

PolicyName = Literal["round_robin", "least_connections"]

EXPLAINED_MAX = 10
"""Replicas whose load `explain` tells."""

_MAKERS: dict[PolicyName, Callable[[], Policy]] = {
    "round_robin": RoundRobin,
    "least_connections": LeastConnections,
}


class Balancer:
    """Ready replicas are the policy's candidates; where there are none, those that are suspect."""

    def __init__(self, policy: PolicyName) -> None:
        self.slots: dict[str, Slot] = {}
        self._turn = 0
        self._ready: Sequence[Slot] = ()
        self._suspect: Sequence[Slot] = ()
        self.set_policy(policy)

    # --- what it balances -----------------------------------------------------------------------------

    def set_policy(self, policy: PolicyName) -> None:
        """Spread by another policy from now on."""
        self.policy = policy
        self._policy = _MAKERS[policy]()
        self._sort()

    def put(self, replica_id: str, state: ReplicaState, weight: float = 1.0) -> Slot:
        """Take note of a replica's state; requests that it holds stay counted."""
        slot = self.slots.get(replica_id)
        if slot is None:
            slot = self.slots[replica_id] = Slot(replica_id, state, weight)
        elif slot.state is state and slot.weight == weight:
            return slot
        slot.state, slot.weight = state, weight
        self._sort()
        return slot

    def drop(self, replica_id: str) -> None:
        """Forget a replica that is gone for good."""
        slot = self.slots.pop(replica_id, None)
        if slot is not None:
            self._sort()
            self._policy.forget(slot)

    # --- each request ---------------------------------------------------------------------------------

    def choose(
        self, exclude: Collection[str] = (), facts: RouteFacts = NO_FACTS, now_s: float = 0.0
    ) -> Slot | NoReplica:
        """A replica that is not in `exclude`, with one more request counted on it until `release`.

        Ready ones first; suspect ones only when no ready one is left.
        """
        slot = self._policy.pick(exclude, facts, now_s) or self._last_resort(exclude)
        if slot is None:
            return NoReplica(self._why_none(exclude))
        self._turn += 1
        slot.turn = self._turn
        slot.in_flight += 1
        slot.served += 1
        self._policy.on_chosen(slot, facts, now_s)
        return slot

    def first_byte(self, slot: Slot, facts: RouteFacts, ttft_s: float, now_s: float) -> None:
        """The answer begins, `ttft_s` after `choose`."""
        self._policy.on_first_byte(slot, facts, ttft_s, now_s)

    def release(
        self, slot: Slot, facts: RouteFacts = NO_FACTS, seen: Seen = NOTHING_SEEN, now_s: float = 0.0
    ) -> None:
        """The attempt that `choose` reserved, with the same `facts`, is over."""
        assert slot.in_flight > 0, f"{slot.id}: released more often than chosen"
        slot.in_flight -= 1
        self._policy.on_released(slot, facts, seen, now_s)

    def explain(self, slot: Slot) -> str:
        """Why `slot`, which was just chosen, in words for an operator: ASCII, one line, bounded."""
        usable = (*self._ready, *self._suspect)
        loads = ", ".join(f"{each.id}={each.in_flight - (each is slot)}" for each in usable[:EXPLAINED_MAX])
        more = f" and {len(usable) - EXPLAINED_MAX} more" if len(usable) > EXPLAINED_MAX else ""
        return f"{slot.id} by {self.policy}: {self._policy.why(slot)}; requests before: {loads}{more}"

    def usable(self, exclude: Collection[str] = ()) -> int:
        """How many replicas `choose(exclude)` could choose from."""
        if not exclude:
            return len(self._ready) + len(self._suspect)
        return sum(1 for group in (self._ready, self._suspect) for slot in group if slot.id not in exclude)

    # --- inside ---------------------------------------------------------------------------------------

    def _sort(self) -> None:
        slots = self.slots.values()
        self._ready = [slot for slot in slots if slot.state is ReplicaState.READY]
        self._suspect = [slot for slot in slots if slot.state is ReplicaState.SUSPECT]
        self._policy.set_candidates(self._ready or self._suspect)

    def _last_resort(self, exclude: Collection[str]) -> Slot | None:
        """Of the suspect ones, the least loaded: every ready one is excluded."""
        left = [slot for slot in self._suspect if slot.id not in exclude]
        return min(left, key=_load_and_turn, default=None)

    def _why_none(self, exclude: Collection[str]) -> str:
        if not self.slots:
            return "it has no replicas"
        if exclude and any(slot.id in exclude for slot in (*self._ready, *self._suspect)):
            return "every replica that takes requests was tried"
        counts: dict[str, int] = {}
        for slot in self.slots.values():
            counts[slot.state.value] = counts.get(slot.state.value, 0) + 1
        return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


_load_and_turn = attrgetter("load", "turn")
