"""The replicas of one deployment, and the policy that spreads requests over them.

The state is one Slot per replica: its health as last published, and the requests it holds through this
gateway, which is exact at every moment.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter

from inferry.core.replica import ReplicaLoad, ReplicaState
from inferry.core.routing_settings import PolicyName, Routing
from inferry.policy.routing.facts import NO_FACTS, NOTHING_SEEN, RouteFacts, Seen
from inferry.policy.routing.policy import NO_RNG, Fact, Rng
from inferry.policy.routing.registry import make_policy
from inferry.policy.routing.slot import NoReplica, Slot

EXPLAINED_MAX = 10
"""Replicas whose load `explain` tells."""
OTHERS_HALF_LIFE_S = 5.0
"""After so long, what was read of others' requests counts half: as long as a short answer takes."""
OTHERS_MIN = 0.05
"""Less is none."""
AGE_S = 1.0
"""Between two looks at how old readings are."""


class Balancer:
    """Ready replicas are the policy's candidates; where there are none, those that are barred, and then those that
    are suspect."""

    def __init__(self, routing: Routing | PolicyName, rng: Rng = NO_RNG, *, shared: bool = False) -> None:
        """`rng`: needed by policies that draw. `shared`: others send requests to these replicas too (more gateway
        processes, or endpoints that others run), so that readings of their engines say something new."""
        self.slots: dict[str, Slot] = {}
        self.shared = shared
        self._rng = rng
        self._turn = 0
        self._ready: Sequence[Slot] = ()
        self._barred: Sequence[Slot] = ()
        self._suspect: Sequence[Slot] = ()
        self._aged_s = 0.0
        self._with_others: set[Slot] = set()
        self._routing: Routing | None = None
        self.set_policy(routing)

    # --- what it balances -----------------------------------------------------------------------------

    def set_policy(self, routing: Routing | PolicyName) -> None:
        """Spread by another policy from now on. One that is the same goes on with what it knows."""
        if not isinstance(routing, Routing):
            routing = Routing(policy=routing)
        if routing != self._routing:
            self._routing = routing
            self._policy = make_policy(routing, self._rng)
            self._sort()

    @property
    def policy(self) -> PolicyName:
        assert self._routing is not None
        return self._routing.policy

    @property
    def wants(self) -> Collection[Fact]:
        """Facts that its policy looks at."""
        return self._policy.wants

    def put(self, replica_id: str, state: ReplicaState, weight: float = 1.0) -> Slot:
        """Take note of a replica's state; requests that it holds stay counted."""
        slot = self.slots.get(replica_id)
        if slot is None:
            slot = self.slots[replica_id] = Slot(replica_id, state)
        elif slot.state is state and slot.full_weight == weight:
            return slot
        slot.state = state
        slot.full_weight, slot.weight = weight, weight * slot.share
        self._sort()
        return slot

    def set_share(self, slot: Slot, share: float) -> None:
        """For now, it gets only this part of its weight; above 0, up to 1."""
        slot.share, slot.weight = share, slot.full_weight * share
        self._policy.on_load(slot)

    def bar(self, slot: Slot, *, trial: bool = False) -> None:
        """No requests for it while others are well. With `trial`, it gets the next one, and is barred then."""
        slot.barred, slot.trial = not trial, trial
        self._sort()

    def let_in(self, slot: Slot) -> None:
        """It is well again."""
        slot.barred = slot.trial = False
        self._sort()

    def learn(self, reading: ReplicaLoad, now_s: float) -> None:
        """Take note of what an engine and its GPU tell of their load. Advice only, and less with every second."""
        slot = self.slots.get(reading.replica_id)
        if slot is None:
            return
        if slot.reading is None or slot.reading.read_s != reading.read_s:
            slot.held_at_reading = slot.in_flight
        slot.reading = reading
        if self.shared and reading.running is not None:
            self._with_others.add(slot)
            self._weigh_others(slot, now_s)
        self._policy.on_load(slot)

    def drop(self, replica_id: str) -> None:
        """Forget a replica that is gone for good."""
        slot = self.slots.pop(replica_id, None)
        if slot is not None:
            self._with_others.discard(slot)
            self._sort()
            self._policy.forget(slot)

    # --- each request ---------------------------------------------------------------------------------

    def choose(
        self, exclude: Collection[str] = (), facts: RouteFacts = NO_FACTS, now_s: float = 0.0
    ) -> Slot | NoReplica:
        """A replica that is not in `exclude`, with one more request counted on it until `release`.

        Ready ones first; barred ones only when no other is left, and suspect ones after them.
        """
        if now_s - self._aged_s >= AGE_S and self._with_others:
            self._age(now_s)
        slot = self._policy.pick(exclude, facts, now_s) or self._last_resort(exclude)
        if slot is None:
            return NoReplica(self._why_none(exclude))
        self._turn += 1
        slot.turn = self._turn
        slot.in_flight += 1
        slot.served += 1
        self._policy.on_chosen(slot, facts, now_s)
        if slot.trial:
            self.bar(slot)
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
        """Why `slot`, in words for an operator: ASCII, one line, bounded. To be asked right after `choose`."""
        usable = (*self._ready, *self._barred, *self._suspect)
        loads = ", ".join(f"{each.id}={each.in_flight - (each is slot)}" for each in usable[:EXPLAINED_MAX])
        more = f" and {len(usable) - EXPLAINED_MAX} more" if len(usable) > EXPLAINED_MAX else ""
        return f"{slot.id} by {self.policy}: {self._policy.why(slot)}; requests before: {loads}{more}"

    def usable(self, exclude: Collection[str] = ()) -> int:
        """How many replicas `choose(exclude)` could choose from."""
        if not exclude:
            return len(self._ready) + len(self._barred) + len(self._suspect)
        groups = (self._ready, self._barred, self._suspect)
        return sum(1 for group in groups for slot in group if slot.id not in exclude)

    # --- inside ---------------------------------------------------------------------------------------

    def _sort(self) -> None:
        slots = self.slots.values()
        ready = [slot for slot in slots if slot.state is ReplicaState.READY]
        self._barred = [slot for slot in ready if slot.barred]
        self._ready = [slot for slot in ready if not slot.barred] if self._barred else ready
        self._suspect = [slot for slot in slots if slot.state is ReplicaState.SUSPECT]
        self._policy.set_candidates(self._ready or self._barred or self._suspect)

    def _age(self, now_s: float) -> None:
        self._aged_s = now_s
        for slot in tuple(self._with_others):
            self._weigh_others(slot, now_s)
            self._policy.on_load(slot)
            if not slot.others:
                self._with_others.discard(slot)

    def _weigh_others(self, slot: Slot, now_s: float) -> None:
        reading = slot.reading
        assert reading is not None
        requests = (reading.running or 0) + (reading.waiting or 0) - slot.held_at_reading
        trusted = requests * 0.5 ** (max(now_s - reading.read_s, 0.0) / OTHERS_HALF_LIFE_S)
        slot.others = trusted if trusted >= OTHERS_MIN else 0.0

    def _last_resort(self, exclude: Collection[str]) -> Slot | None:
        """Of the barred ones, or else of the suspect ones, the least loaded: every other one is excluded."""
        for group in (self._barred, self._suspect):
            left = [slot for slot in group if slot.id not in exclude]
            if left:
                return min(left, key=_load_and_turn)
        return None

    def _why_none(self, exclude: Collection[str]) -> str:
        if not self.slots:
            return "it has no replicas"
        if exclude and any(slot.id in exclude for slot in (*self._ready, *self._barred, *self._suspect)):
            return "every replica that takes requests was tried"
        counts: dict[str, int] = {}
        for slot in self.slots.values():
            counts[slot.state.value] = counts.get(slot.state.value, 0) + 1
        return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


_load_and_turn = attrgetter("load", "turn")
