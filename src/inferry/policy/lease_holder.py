"""May this request have what it needs of all its limits, from the leases that this process holds?

The gateway process' side of lease_bank.py. A request takes from all its shelves or from none. What is missing
is wished for; the answer of the bank decides. What is not used goes back soon, so that others can have it.

    take ── all there ─────────────────────────────► TAKEN
      ├─── the bank said no a moment ago ──────────► REFUSED
      └─► WAITING ── granted ──────────────────────► TAKEN
             ├────── not granted ──────────────────► REFUSED
             └────── no answer, or "unavailable" ──► UNAVAILABLE
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakValueDictionary

from inferry.core.leases import NOW, Bucket, Grant, Return, Times, Wish
from inferry.policy.lease_shelf import Claim, ClaimState, Shelf

ANSWER_TIMEOUT_S = 1.0
"""A bank that has not answered by then is gone. The bank itself gives a Redis 0.25 s."""


class Message:
    """What goes to the bank in one piece; the bank's answer is for `on_grants`."""

    __slots__ = ("open", "returns", "sent_s", "shelves", "wishes")

    def __init__(
        self, wishes: list[Wish], returns: list[Return], shelves: list[Shelf], sent_s: float
    ) -> None:
        self.wishes = wishes
        self.returns = returns
        self.shelves = shelves
        self.sent_s = sent_s
        self.open = True


class LeaseHolder:
    """All leases of one gateway process. Pure: it is told the time and the bank's answers."""

    def __init__(self, times: Times | None = None) -> None:
        self.times = Times() if times is None else times
        self._shelves: WeakValueDictionary[str, Shelf] = WeakValueDictionary()
        self._active: set[Shelf] = set()
        self._hungry: dict[Shelf, int] = {}
        """Shelves to ask for, with what is needed beyond what the claims parked there need."""
        self._returns: dict[tuple[str, int], tuple[Bucket, int]] = {}
        self._open: set[Message] = set()
        self._ticked_s: float | None = None

    def shelf(self, bucket: Bucket) -> Shelf:
        """The one shelf of a bucket, with its limit as it is now. It lives as long as somebody has it."""
        shelf = self._shelves.get(bucket.id)
        if shelf is None:
            shelf = self._shelves[bucket.id] = Shelf(bucket)
        if bucket.limit < shelf.bucket.limit:
            for slot, units in shelf.clear():
                self._give_back(shelf, slot, units)
        shelf.bucket = bucket
        return shelf

    def shelves_kept(self) -> int:
        """How many shelves there are."""
        return len(self._shelves)

    # --- a request ------------------------------------------------------------------------------------

    def take_at_hand(self, claim: Claim, now_s: float) -> bool:
        """Take a new claim if all of it is plainly here, which is the rule. False: nothing has happened."""
        for shelf, amount in zip(claim.shelves, claim.amounts):  # noqa: B905 - for every request; `strict` is dear
            if shelf.stock < amount or shelf.waiting or now_s >= shelf.until_s:
                return False
        self._draw(claim)
        return True

    def take(self, claim: Claim, now_s: float) -> None:
        """Decide a new claim. If it is WAITING then, send `message()` and hear `on_grants`."""
        if not self.take_at_hand(claim, now_s):
            self._take_slowly(claim, now_s)

    def settle(self, claim: Claim, shelf: Shelf, unused: int) -> None:
        """Of what the claim took from `shelf`, give back `unused`; below 0: charge that much more."""
        if unused < 0:
            self._give_back(shelf, NOW, unused)
            return
        for drawn, slot, units in reversed(claim.drawn):
            if drawn is shelf:
                if units >= unused:
                    self._give_back(shelf, slot, unused)
                    return
                self._give_back(shelf, slot, units)
                unused -= units

    def drop(self, claim: Claim) -> None:
        """A waiting claim is not wanted any more; what comes for it goes to others or back."""
        if claim.state is ClaimState.WAITING:
            claim.parked_at.waiting.remove(claim)

    # --- the bank -------------------------------------------------------------------------------------

    def message(self, now_s: float) -> Message | None:
        """What must be sent now, because a claim waits for it."""
        if not self._hungry:
            return None
        wishes, shelves = [], []
        for shelf, extra in self._hungry.items():
            if not shelf.asked:
                wishes.append(self._wish_for_claims(shelf, extra))
                shelves.append(shelf)
        self._hungry.clear()
        return self._send(wishes, shelves, now_s) if wishes else None

    def put_back(self, shelf: Shelf, now_s: float) -> Message | None:
        """A request that had a permit of `shelf` is over; what to send now, if anything."""
        shelf.put_back(1)
        wish = shelf.give_up_idle()
        return None if wish is None else self._send([wish], [shelf], now_s)

    def tick(self, now_s: float) -> tuple[Message | None, list[Claim]]:
        """Every 50 to 100 ms: what to send now, and the claims that have waited too long."""
        late = [message for message in self._open if now_s - message.sent_s >= ANSWER_TIMEOUT_S]
        lost = [claim for message in late for claim in self.on_lost(message)]
        elapsed_s = 0.0 if self._ticked_s is None else now_s - self._ticked_s
        self._ticked_s = now_s
        wishes, shelves = [], []
        for shelf in list(self._active):
            for slot, units in shelf.tidy(now_s, elapsed_s, self.times):
                self._give_back(shelf, slot, units)
            lost += self._overdue(shelf, now_s)
            wish = None if shelf.asked else shelf.wish_ahead(now_s, self.times)
            if wish is not None:
                wishes.append(wish)
                shelves.append(shelf)
            elif shelf.is_idle:
                self._active.discard(shelf)
        if not wishes and not self._returns:
            return None, lost
        return self._send(wishes, shelves, now_s), lost

    def on_grants(self, message: Message, grants: Sequence[Grant], now_s: float) -> list[Claim]:
        """Take in the bank's answer; returns the claims that it decided. Then send `message()` again."""
        if not message.open:
            self._send_back_late(message, grants)
            return []
        self._close(message)
        decided: list[Claim] = []
        for shelf, grant in zip(message.shelves, grants, strict=True):
            shelf.on_grant(grant, message.sent_s, now_s)
            if grant.unavailable:
                decided += self._decide_all(shelf, ClaimState.UNAVAILABLE)
        for shelf in message.shelves:
            decided += self._serve_waiting(shelf, now_s)
        return decided

    def on_lost(self, message: Message) -> list[Claim]:
        """There will be no answer; returns the claims that waited for it."""
        if not message.open:
            return []
        self._close(message)
        return [
            claim for shelf in message.shelves for claim in self._decide_all(shelf, ClaimState.UNAVAILABLE)
        ]

    # --- inside ---------------------------------------------------------------------------------------

    def _draw(self, claim: Claim) -> None:
        claim.state = ClaimState.TAKEN
        drawn = claim.drawn
        for shelf, amount in zip(claim.shelves, claim.amounts):  # noqa: B905 - as in take
            if amount:
                shelf.draw(amount, drawn)

    def _take_slowly(self, claim: Claim, now_s: float) -> None:
        """Something is missing, at least at first sight."""
        lacking: list[tuple[Shelf, int]] = []
        for shelf, amount in zip(claim.shelves, claim.amounts, strict=True):
            if now_s >= shelf.until_s:
                for slot, units in shelf.expire(now_s):
                    self._give_back(shelf, slot, units)
            if shelf.waiting or shelf.stock < amount:
                if shelf.is_shut_for(amount, now_s):
                    self._decide(claim, ClaimState.REFUSED, shelf)
                    return
                if shelf.is_away(now_s):
                    self._decide(claim, ClaimState.UNAVAILABLE, shelf)
                    return
                lacking.append((shelf, amount))
        if not lacking:
            self._draw(claim)
            return
        for shelf, amount in lacking:
            self._active.add(shelf)
            self._hungry[shelf] = self._hungry.get(shelf, 0) + (amount if shelf is not lacking[0][0] else 0)
        claim.since_s = now_s
        self._park(claim, lacking[0][0])

    def _park(self, claim: Claim, shelf: Shelf) -> None:
        claim.parked_at = shelf
        shelf.waiting.append(claim)

    def _serve_waiting(self, shelf: Shelf, now_s: float) -> list[Claim]:
        """First come, first served. Refused where the bank has less than it takes; asked again where it was not
        asked for enough."""
        decided: list[Claim] = []
        waiting, shelf.waiting = shelf.waiting, type(shelf.waiting)()
        for claim in waiting:
            lacking = self._first_lacking(claim, now_s)
            if lacking is None:
                self._draw(claim)
                decided.append(claim)
            elif lacking.is_shut_for(self._amount_at(claim, lacking), now_s):
                self._decide(claim, ClaimState.REFUSED, lacking)
                decided.append(claim)
            else:
                self._active.add(lacking)
                self._hungry.setdefault(lacking, 0)
                self._park(claim, lacking)
        return decided

    def _first_lacking(self, claim: Claim, now_s: float) -> Shelf | None:
        for shelf, amount in zip(claim.shelves, claim.amounts, strict=True):
            if now_s >= shelf.until_s:
                for slot, units in shelf.expire(now_s):
                    self._give_back(shelf, slot, units)
            if shelf.stock < amount:
                return shelf
        return None

    def _amount_at(self, claim: Claim, shelf: Shelf) -> int:
        return claim.amounts[claim.shelves.index(shelf)]

    def _wish_for_claims(self, shelf: Shelf, extra: int) -> Wish:
        amounts = [self._amount_at(claim, shelf) for claim in shelf.waiting]
        if extra:
            amounts.append(extra)
        return shelf.wish(amounts, self.times)

    def _overdue(self, shelf: Shelf, now_s: float) -> list[Claim]:
        late = [claim for claim in shelf.waiting if now_s - claim.since_s >= 2 * ANSWER_TIMEOUT_S]
        for claim in late:
            self.drop(claim)
            self._decide(claim, ClaimState.UNAVAILABLE, shelf)
        return late

    def _decide_all(self, shelf: Shelf, state: ClaimState) -> list[Claim]:
        claims = list(shelf.waiting)
        shelf.waiting.clear()
        for claim in claims:
            self._decide(claim, state, shelf)
        return claims

    def _decide(self, claim: Claim, state: ClaimState, shelf: Shelf) -> None:
        claim.state = state
        claim.refused_by = shelf

    def _give_back(self, shelf: Shelf, slot: int, units: int) -> None:
        if units:
            key = (shelf.bucket.id, slot)
            self._returns[key] = (shelf.bucket, units + self._returns.get(key, (None, 0))[1])

    def _send(self, wishes: list[Wish], shelves: list[Shelf], now_s: float) -> Message:
        returns = [
            Return(bucket, slot, units) for (_, slot), (bucket, units) in self._returns.items() if units
        ]
        self._returns.clear()
        message = Message(wishes, returns, shelves, now_s)
        for shelf in shelves:
            shelf.asked = True
        if wishes:
            self._open.add(message)
        return message

    def _close(self, message: Message) -> None:
        message.open = False
        self._open.discard(message)
        for shelf in message.shelves:
            shelf.asked = False

    def _send_back_late(self, message: Message, grants: Sequence[Grant]) -> None:
        """Nobody waits for these any more. Permits need no return: `held` in the next wish says it."""
        for shelf, grant in zip(message.shelves, grants, strict=True):
            if grant.units and not shelf.is_permits:
                self._give_back(shelf, grant.slot, grant.units)
