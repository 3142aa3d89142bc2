"""In turn: the replica whose last turn is longest ago."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter

from inferry.policy.routing.facts import RouteFacts
from inferry.policy.routing.policy import Policy
from inferry.policy.routing.slot import Slot

_turn_of = attrgetter("turn")


class RoundRobin(Policy):
    """Not a counter modulo the number of candidates: each retry advances it by one more and leaves one candidate
    out, and so one failing replica of three gave its neighbours a quarter and three quarters of the requests.
    """

    def __init__(self) -> None:
        self._queue: dict[Slot, None] = {}
        """In the order of their turns."""

    def set_candidates(self, slots: Sequence[Slot]) -> None:
        self._queue = dict.fromkeys(sorted(slots, key=_turn_of))

    def pick(self, exclude: Collection[str], facts: RouteFacts, now_s: float) -> Slot | None:
        for slot in self._queue:
            if slot.id not in exclude:
                return slot
        return None

    def on_chosen(self, slot: Slot, facts: RouteFacts, now_s: float) -> None:
        if slot in self._queue:
            del self._queue[slot]
            self._queue[slot] = None

    def why(self, slot: Slot) -> str:
        return "its turn"
