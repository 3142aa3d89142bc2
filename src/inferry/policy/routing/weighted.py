"""Smooth weighted round robin: each replica gets its weight's share of the requests, spread evenly.

nginx (`ngx_http_upstream_round_robin.c`) adds its weight to each server's credit and takes the highest, O(n) for
each request. This is as smooth in O(log n), by earliest eligible virtual deadline first (Stoica and Abdel-Wahab,
1995): with V the virtual time, 1/W more after each choice (W: all weights together), a replica of weight w may
take its k-th request, k from 0, when V >= k/w, and should by (k+1)/w; of those that may, whoever should first does.
As long as nobody comes or goes, no replica is ever a whole request ahead of its share or behind.

Weights 5, 1, 1 give a b a a c a a, and again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heappop, heappush
from operator import attrgetter

from inferry.policy.routing.facts import RouteFacts
from inferry.policy.routing.policy import Policy
from inferry.policy.routing.slot import Slot

_ROUNDING = 1e-9
"""Sums of fractions come out a little low: who may so soon may now."""
_REBASE = 1e5
"""Virtual time starts again from 0 there: far beyond it, sums would no longer be exact enough."""

_turn_of = attrgetter("turn")


class _Share:
    """What a candidate is due."""

    __slots__ = ("may", "weight")

    def __init__(self, may: float, weight: float) -> None:
        self.may = may
        """The virtual time from which it may take its next request."""
        self.weight = weight
        """As it is counted in the sum."""


class Weighted(Policy):
    """Weights only: running requests don't count. Heaps' entries whose `may` is not the share's own are stale."""

    def __init__(self) -> None:
        self._shares: dict[Slot, _Share] = {}
        self._away: dict[Slot, float] = {}
        """When those may that are no candidates now: nobody gains by leaving and coming back."""
        self._waiting: list[tuple[float, int, Slot]] = []
        """`may`, number, slot."""
        self._eligible: list[tuple[float, int, float, Slot]] = []
        """By when it should, number, `may`, slot."""
        self._now = 0.0
        self._weights = 0.0
        self._count = 0

    def set_candidates(self, slots: Sequence[Slot]) -> None:
        before = {slot: share.may for slot, share in self._shares.items()}
        back = {slot: max(may, self._now) for slot, may in self._away.items()}
        known = back | before
        self._shares = {
            slot: _Share(known.get(slot, self._now), slot.weight) for slot in sorted(slots, key=_turn_of)
        }
        self._away = {slot: may for slot, may in (self._away | before).items() if slot not in self._shares}
        self._rebuild()

    def pick(self, exclude: Collection[str], facts: RouteFacts, now_s: float) -> Slot | None:
        self._let_eligible_in()
        eligible, passed_over, found = self._eligible, [], None
        while eligible and found is None:
            _, _, may, slot = entry = eligible[0]
            if not self._is_valid(slot, may):
                heappop(eligible)
            elif slot.id in exclude:
                passed_over.append(heappop(eligible))
            else:
                found = slot
        for entry in passed_over:
            heappush(eligible, entry)
        return found or self._first_waiting(exclude)

    def on_chosen(self, slot: Slot, facts: RouteFacts, now_s: float) -> None:
        share = self._shares.get(slot)
        if share is None:
            return
        share.may += 1 / slot.weight
        self._count += 1
        heappush(self._waiting, (share.may, self._count, slot))
        self._now += 1 / self._weights
        if self._now > _REBASE:
            self._rebase()

    def on_load(self, slot: Slot) -> None:
        share = self._shares.get(slot)
        if share is not None:
            self._weights += slot.weight - share.weight
            share.weight = slot.weight

    def forget(self, slot: Slot) -> None:
        self._away.pop(slot, None)

    def why(self, slot: Slot) -> str:
        return f"its share of {slot.weight:g} in {self._weights:g}"

    def _is_valid(self, slot: Slot, may: float) -> bool:
        share = self._shares.get(slot)
        return share is not None and share.may == may

    def _let_eligible_in(self) -> None:
        waiting, limit = self._waiting, self._now + _ROUNDING
        while waiting and waiting[0][0] <= limit:
            may, number, slot = heappop(waiting)
            if self._is_valid(slot, may):
                heappush(self._eligible, (may + 1 / slot.weight, number, may, slot))

    def _first_waiting(self, exclude: Collection[str]) -> Slot | None:
        """Whoever may is excluded."""
        left = [
            entry
            for entry in self._waiting
            if entry[2].id not in exclude and self._is_valid(entry[2], entry[0])
        ]
        return min(left)[2] if left else None

    def _rebase(self) -> None:
        for share in self._shares.values():
            share.may -= self._now
        self._away = {slot: may - self._now for slot, may in self._away.items()}
        self._now = 0.0
        self._rebuild()

    def _rebuild(self) -> None:
        """Among equals, in the order of `_shares`."""
        self._weights = sum(share.weight for share in self._shares.values())
        self._eligible = []
        self._waiting = sorted(
            (share.may, number, slot) for number, (slot, share) in enumerate(self._shares.items())
        )
        self._count = len(self._waiting)
