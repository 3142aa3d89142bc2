"""Which replica serves this request? Chooses and reserves in one step, so two requests never race.

The state is one Slot per replica: its health as last published, and the requests it holds through this
gateway, which is exact at every moment. There is no `await` anywhere, and so nothing in between.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

from inferry.core.replica import ReplicaState

PolicyName = Literal["round_robin", "least_connections"]


@dataclass(slots=True, eq=False)
class Slot:
    """What routing knows of one replica."""

    id: str
    state: ReplicaState
    weight: float = 1.0
    in_flight: int = 0
    served: int = 0
    """Requests ever sent there, for the status table."""
    turn: int = 0
    """When it was chosen last, counted in choices; 0 is never."""


@dataclass(frozen=True, slots=True)
class NoReplica:
    """Nobody can take the request, and why, in words for the client's error."""

    because: str


class Balancer:
    """The replicas of one deployment and the policy that spreads requests over them."""

    def __init__(self, policy: PolicyName) -> None:
        self.slots: dict[str, Slot] = {}
        self._turn = 0
        self._ready: Sequence[Slot] = ()
        self._suspect: Sequence[Slot] = ()
        self.set_policy(policy)

    def set_policy(self, policy: PolicyName) -> None:
        """Spread by another policy from now on."""
        self.policy = policy
        self._pick = _PICKERS[policy]

    def put(self, replica_id: str, state: ReplicaState, weight: float = 1.0) -> Slot:
        """Take note of a replica's state; requests that it holds stay counted."""
        slot = self.slots.get(replica_id)
        if slot is None:
            slot = self.slots[replica_id] = Slot(replica_id, state, weight)
        slot.state, slot.weight = state, weight
        self._sort()
        return slot

    def drop(self, replica_id: str) -> None:
        """Forget a replica that is gone for good."""
        self.slots.pop(replica_id, None)
        self._sort()

    def choose(self, exclude: Collection[str] = ()) -> Slot | NoReplica:
        """A replica that is not in `exclude`, with one more request counted on it until `release`.

        Ready ones first; suspect ones only when no ready one is left.
        """
        for candidates in (self._ready, self._suspect):
            if exclude:
                candidates = [slot for slot in candidates if slot.id not in exclude]
            if candidates:
                self._turn += 1
                slot = candidates[0] if len(candidates) == 1 else self._pick(candidates)
                slot.turn = self._turn
                slot.in_flight += 1
                slot.served += 1
                return slot
        return NoReplica(self._why_none(exclude))

    def explain(self, slot: Slot) -> str:
        """Why `slot`, which was just chosen, in words for an operator."""
        loads = ", ".join(
            f"{each.id}={each.in_flight - (each is slot)}" for each in (*self._ready, *self._suspect)
        )
        return f"{slot.id} by {self.policy}; requests before: {loads}"

    def release(self, slot: Slot) -> None:
        """The request that `choose` reserved is over."""
        assert slot.in_flight > 0, f"{slot.id}: released more often than chosen"
        slot.in_flight -= 1

    def usable(self, exclude: Collection[str] = ()) -> int:
        """How many replicas `choose(exclude)` could choose from."""
        return sum(1 for group in (self._ready, self._suspect) for slot in group if slot.id not in exclude)

    def _sort(self) -> None:
        slots = self.slots.values()
        self._ready = [slot for slot in slots if slot.state is ReplicaState.READY]
        self._suspect = [slot for slot in slots if slot.state is ReplicaState.SUSPECT]

    def _why_none(self, exclude: Collection[str]) -> str:
        if not self.slots:
            return "it has no replicas"
        if exclude and any(slot.id in exclude for slot in (*self._ready, *self._suspect)):
            return "every replica that takes requests was tried"
        counts: dict[str, int] = {}
        for slot in self.slots.values():
            counts[slot.state.value] = counts.get(slot.state.value, 0) + 1
        return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


_turn_of = attrgetter("turn")


def _round_robin(candidates: Sequence[Slot]) -> Slot:
    """The one whose last turn is longest ago.

    Not a counter modulo the number of candidates: each retry advances it by one more and leaves one candidate
    out, and so one failing replica of three gave its neighbours a quarter and three quarters of the requests.
    """
    return min(candidates, key=_turn_of)


def _least_connections(candidates: Sequence[Slot]) -> Slot:
    """The lowest number of running requests per weight; equals take turns."""
    best = candidates[0]
    best_load = (best.in_flight + 1) / best.weight
    for slot in candidates[1:]:
        load = (slot.in_flight + 1) / slot.weight
        if load < best_load or (load == best_load and slot.turn < best.turn):
            best, best_load = slot, load
    return best


_PICKERS: dict[PolicyName, Callable[[Sequence[Slot]], Slot]] = {
    "round_robin": _round_robin,
    "least_connections": _least_connections,
}
