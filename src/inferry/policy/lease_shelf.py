"""What a gateway process has in hand of one limit, and how much of it it should have.

Leases are used oldest first. How many units to hold follows from how fast they were used lately: enough for a
lease's time, nothing for a limit that is hardly used.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum

from inferry.core.leases import Bucket, Grant, Kind, Times, Wish

SHUT_S = 0.1
"""After a refusal, the bank is not asked again for so long: it would say the same, and a client that hammers
must not cost it anything. Units that come back to it meanwhile wait that long at most."""
FEW_PERMITS = 64
"""Up to so many requests in flight, each permit goes back as soon as its request is over: one message for each. Above,
a process keeps one of so many for its next requests, if it has use for them."""
SPARE_SHARE = 10
"""Of the permits that nobody has, at most this part is kept spare: none near the limit, where others need them."""
RATE_LEARN_S = 0.5
"""Time constant of the moving average of use."""
RATE_MIN = 0.01
"""Units per second below which a shelf counts as not used."""


class ClaimState(Enum):
    """What became of a claim."""

    WAITING = 0
    TAKEN = 1
    REFUSED = 2
    UNAVAILABLE = 3


class Claim:
    """One request's needs, and what it got. `take` and `on_grants` decide it."""

    __slots__ = ("amounts", "drawn", "parked_at", "refused_by", "shelves", "since_s", "state")

    parked_at: Shelf
    """Where it waits; set while it is WAITING."""
    since_s: float
    """Since when it has waited; set if it ever did."""
    refused_by: Shelf
    """Set if it was REFUSED or UNAVAILABLE."""

    def __init__(self, shelves: Sequence[Shelf], amounts: Sequence[int]) -> None:
        self.shelves = shelves
        self.amounts = amounts
        self.state = ClaimState.WAITING
        self.drawn: list[tuple[Shelf, int, int]] = []
        """Shelf, slot and units, for what can come back."""


class Lot:
    """Units of one grant."""

    __slots__ = ("slot", "units", "until_s")

    def __init__(self, units: int, slot: int, until_s: float) -> None:
        self.units = units
        self.slot = slot
        self.until_s = until_s


class Shelf:
    """The leases of one bucket."""

    __slots__ = (
        "__weakref__", "_away_until_s", "_kept_in_tick", "_renewed_s", "_shut_above", "_shut_until_s", "_used", "asked", "bucket",
        "heard", "in_use", "is_permits", "left", "lots", "rate", "reset_at_s", "retry_at_s", "stock", "until_s",
        "waiting",
    )  # fmt: skip

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.is_permits = bucket.kind is Kind.PERMITS
        self.lots: deque[Lot] = deque()
        self.stock = 0
        """Units in all lots; for permits, those that no request has."""
        self.until_s = math.inf
        """When the oldest lot ends; for permits, until when the bank counts them as ours."""
        self.in_use = 0
        """Permits that requests have."""
        self.rate = 0.0
        """Units per second, lately."""
        self.waiting: deque[Claim] = deque()
        self.asked = False
        """A wish is on its way: one at a time."""
        self.heard = False
        """The four below say something."""
        self.left = 0
        self.retry_at_s = 0.0
        self.reset_at_s = 0.0
        self._away_until_s = -math.inf
        self._shut_until_s = -math.inf
        self._shut_above = 0
        self._used = 0
        self._kept_in_tick = 0
        self._renewed_s = 0.0

    # --- requests -------------------------------------------------------------------------------------

    def draw(self, amount: int, drawn: list[tuple[Shelf, int, int]]) -> None:
        """Take `amount`, which is there; note in `drawn` where from."""
        self.stock -= amount
        self._used += amount
        if self.is_permits:
            self.in_use += amount
            if self.stock < self._kept_in_tick:
                self._kept_in_tick = self.stock
            return
        lots = self.lots
        while amount:
            lot = lots[0]
            if amount < lot.units:
                lot.units -= amount
                drawn.append((self, lot.slot, amount))
                return
            drawn.append((self, lot.slot, lot.units))
            amount -= lot.units
            lots.popleft()
            self.until_s = lots[0].until_s if lots else math.inf

    def put_back(self, permits: int) -> None:
        """Requests are over."""
        self.in_use -= permits
        self.stock += permits

    def give_up_idle(self) -> Wish | None:
        """Of few permits, none is kept for later: another process may need the only one now. What to tell the bank
        about that, if it can be told now; else it hears with the next tick."""
        if self.bucket.limit > FEW_PERMITS or self.asked or self.waiting:
            return None
        self.stock = self._kept_in_tick = 0
        return Wish(self.bucket, held=self.in_use)

    def is_shut_for(self, amount: int, now_s: float) -> bool:
        """Whether the bank has just said that it has not that many."""
        return now_s < self._shut_until_s and amount > self.stock + self._shut_above

    def is_away(self, now_s: float) -> bool:
        """Whether the bank has just said that it can't be asked."""
        return now_s < self._away_until_s

    def remaining(self, now_s: float) -> int:
        """Units that the next requests may have, as far as this process has heard."""
        limit, known = self.bucket.limit, self.left + self.stock
        if not self.heard or now_s >= self.reset_at_s or known > limit:
            return limit
        return known if known > 0 else 0

    # --- the bank's answers ---------------------------------------------------------------------------

    def on_grant(self, grant: Grant, sent_s: float, now_s: float) -> None:
        """Take in what the bank gave, or that it gave less than was needed."""
        if grant.unavailable:
            self._away_until_s = now_s + SHUT_S
            return
        self.heard = True
        self.left = grant.left
        self.reset_at_s = now_s + grant.reset_s
        if self.is_permits:
            self.stock += grant.units
            self._renewed_s = sent_s
            self.until_s = sent_s + grant.lasts_s
        elif grant.units:
            self.lots.append(Lot(grant.units, grant.slot, sent_s + grant.lasts_s))
            self.stock += grant.units
            self.until_s = self.lots[0].until_s
        if grant.retry_s > 0:
            self.retry_at_s = now_s + grant.retry_s
            self._shut_until_s = now_s + min(grant.retry_s, SHUT_S)
            self._shut_above = max(0, grant.left)
        else:
            self._shut_until_s = -math.inf

    # --- housekeeping ---------------------------------------------------------------------------------

    def expire(self, now_s: float) -> Iterator[tuple[int, int]]:
        """Drop the lots that have ended; yields slot and units of what was not used."""
        if self.is_permits:
            # `until_s` stays in the past, so that nothing is used before the bank has confirmed what we hold.
            if self.until_s <= now_s:
                self.stock = 0
            return
        lots = self.lots
        while lots and lots[0].until_s <= now_s:
            lot = lots.popleft()
            self.stock -= lot.units
            yield lot.slot, lot.units
        self.until_s = lots[0].until_s if lots else math.inf

    def clear(self) -> Iterator[tuple[int, int]]:
        """The limit has been lowered: leases under the old one are void; yields slot and units."""
        self.heard = False
        if not self.is_permits:
            self.stock = 0
            while self.lots:
                lot = self.lots.popleft()
                yield lot.slot, lot.units

    def tidy(self, now_s: float, elapsed_s: float, times: Times) -> Iterator[tuple[int, int]]:
        """Learn the rate of use; yields slot and units of what is too much for it."""
        if elapsed_s > 0:
            self.rate += (self._used / elapsed_s - self.rate) * (1 - math.exp(-elapsed_s / RATE_LEARN_S))
            self._used = 0
        yield from self.expire(now_s)
        if self.is_permits:
            return
        # What came since the last tick stays for one more: it was wished for, and is about to be used.
        surplus = min(self.stock, self._kept_in_tick) - self._useful(times)
        while surplus > 0:
            lot = self.lots[-1]
            units = min(surplus, lot.units)
            surplus -= units
            lot.units -= units
            self.stock -= units
            yield lot.slot, units
            if not lot.units:
                self.lots.pop()
        self.until_s = self.lots[0].until_s if self.lots else math.inf
        self._kept_in_tick = self.stock

    def wish_ahead(self, now_s: float, times: Times) -> Wish | None:
        """What to tell or ask the bank although nobody waits for it."""
        if self.is_permits:
            spare = self._spare(times)
            idle = max(0, min(self.stock, self._kept_in_tick) - spare)
            self.stock -= idle
            self._kept_in_tick = self.stock
            held = self.stock + self.in_use
            if self.stock * 2 < spare and now_s >= self._shut_until_s:
                return Wish(self.bucket, want=spare - self.stock, held=held)
            if idle or (held and now_s - self._renewed_s >= times.permit_ttl_s / 4):
                return Wish(self.bucket, held=held)
            return None
        useful = self._useful(times)
        if self.stock * 2 < useful and now_s >= self._shut_until_s:
            return Wish(self.bucket, want=useful - self.stock)
        return None

    def wish(self, amounts: list[int], times: Times) -> Wish:
        """For requests that wait here and need `amounts`."""
        need = sum(amounts) - self.stock
        ahead = max(self._useful(times), self._used) - self.stock
        if self.is_permits and self.bucket.limit <= FEW_PERMITS:
            ahead = 0
        return Wish(
            self.bucket,
            least=max(1, min(amounts) - self.stock),
            most=max(1, max(amounts) - self.stock),
            need=max(1, need),
            want=max(need, 0) + max(ahead, 0),
            held=self.stock + self.in_use if self.is_permits else 0,
        )

    @property
    def is_idle(self) -> bool:
        return not (self.stock or self.in_use or self.waiting or self.asked or self.rate > RATE_MIN)

    def _useful(self, times: Times) -> int:
        return int(self.rate * times.lease_s)

    def _spare(self, times: Times) -> int:
        """Permits to keep at hand, so that the next requests need not wait for the bank. 20 requests/s and 900 of 1,000
        left: 15."""
        if self.rate <= RATE_MIN:
            return 0
        return min(
            self.bucket.limit // FEW_PERMITS, math.ceil(self.rate * times.lease_s), self.left // SPARE_SHARE
        )
