"""How much of a shared limit may one host admit while it can't ask the others?

It keeps a mirror of what it was granted itself, in the shared bank's own time. While alone, it is its own bank
over that mirror, with limits of its own:

- requests and tokens per minute: `last`: what it was granted in the last window before. As every host does so,
  they stay below the limit together. A limit that this host had not used in that window: its even share.
  `share`: its even share.
- requests in flight: its even share.
- days and months: its own part so far, and its even share of what was left when it last heard.

What it admits while alone is noted as owed, and charged to the shared bank when that is back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from inferry.core.leases import NOW, Bucket, Grant, Kind, Return, Times, Wish, period_of
from inferry.policy.lease_bank import LeaseBank

WhenGone = Literal["last", "share", "closed"]


class LimitsAlone:
    """One host's mirror of the shared bank, and its own bank while that is gone.

    `now_s` is the shared bank's time in seconds since 1970, as well as this host can tell.
    """

    def __init__(self, when_gone: WhenGone, times: Times) -> None:
        self._when_gone = when_gone
        self._times = times
        self._mirror = LeaseBank(times)
        self._now_s = 0.0
        self._totals: dict[str, tuple[int, int]] = {}
        """Calendar bucket to its period and what all hosts have used of it, as last heard."""
        self._last: dict[str, int] = {}
        self._allowed: dict[tuple[str, int], int] = {}
        """Of calendar periods, while alone."""
        self._owed: dict[tuple[str, int], tuple[Bucket, int]] = {}
        self.hosts = 1
        self.rank = 0

    def _at(self, now_s: float) -> float:
        # Estimates of another machine's clock may go back a little; a bank's time may not.
        self._now_s = max(self._now_s, now_s)
        return self._now_s

    # --- while the shared bank is there ---------------------------------------------------------------

    def note(
        self,
        holder: str,
        wishes: Sequence[Wish],
        returns: Iterable[Return],
        grants: Sequence[Grant],
        now_s: float,
    ) -> None:
        """Mirror an exchange with the shared bank."""
        now_s = self._at(now_s)
        mirror = self._mirror
        mirror.handle(holder, [], returns, now_s, now_s)
        for wish, grant in zip(wishes, grants, strict=True):
            bucket = wish.bucket
            if bucket.kind is Kind.PERMITS:
                mirror.hold(bucket, holder, wish.held + grant.units, now_s)
                continue
            if bucket.kind is not Kind.WINDOW:
                mirror.begin_period(bucket, grant.slot, 0, now_s)
                self._totals[bucket.id] = (grant.slot, bucket.limit - grant.left)
            mirror.count(bucket, grant.slot, grant.units, now_s, now_s)

    def forget(self, holder: str) -> None:
        self._mirror.forget(holder)

    # --- while it is gone -----------------------------------------------------------------------------

    def begin(self, hosts: Sequence[str], host: str, now_s: float) -> None:
        """The shared bank is gone; `hosts` were the last seen."""
        now_s = self._at(now_s)
        self.hosts = max(1, len(hosts))
        self.rank = hosts.index(host) if host in hosts else 0
        self._last = {id_: sum(counts.values()) for id_, counts in self._mirror.window_counts(now_s).items()}
        self._allowed.clear()

    def unknown(self, wishes: Iterable[Wish], now_s: float) -> list[tuple[Bucket, int]]:
        """Calendar periods of which nothing was heard; tell by `begin_period` what the ledger has."""
        now_s = self._at(now_s)
        return [
            (bucket, period)
            for bucket, period in self._mirror.unknown(wishes, now_s)
            if self._totals.get(bucket.id, (None, 0))[0] != period
        ]

    def begin_period(self, bucket: Bucket, period: int, used: int) -> None:
        self._totals[bucket.id] = (period, used)

    def handle(
        self, holder: str, wishes: Iterable[Wish], returns: Iterable[Return], now_s: float
    ) -> list[Grant]:
        """As LeaseBank.handle, with this host's limits."""
        now_s = self._at(now_s)
        for each in returns:
            self._mirror.handle(holder, [], [each], now_s, now_s)
            self._owe(each.bucket, each.slot, -each.units, now_s)
        return [self._answer(holder, wish, now_s) for wish in wishes]

    def _answer(self, holder: str, wish: Wish, now_s: float) -> Grant:
        bucket = wish.bucket
        allowed = self._allowed_of(bucket, now_s)
        if self._when_gone == "closed" or allowed < max(1, wish.most):
            if bucket.kind is Kind.PERMITS:
                self._mirror.hold(bucket, holder, wish.held, now_s)
            return Grant(bucket.id, unavailable=wish.need > 0)
        own = msgspec.structs.replace(wish, bucket=msgspec.structs.replace(bucket, limit=allowed))
        (grant,) = self._mirror.handle(holder, [own], [], now_s, now_s)
        self._owe(bucket, grant.slot, grant.units, now_s)
        return grant

    def _allowed_of(self, bucket: Bucket, now_s: float) -> int:
        if bucket.kind is Kind.PERMITS:
            return self._share(bucket.limit)
        if bucket.kind is Kind.WINDOW:
            last = self._last.get(bucket.id, 0) if self._when_gone == "last" else 0
            return min(last, bucket.limit) if last > 0 else self._share(bucket.limit)
        period = period_of(bucket.kind, now_s)
        place = (bucket.id, period)
        if place not in self._allowed:
            self._mirror.begin_period(bucket, period, 0, now_s)
            told, used = self._totals.get(bucket.id, (period, 0))
            left = bucket.limit - (used if told == period else 0)
            own = self._mirror.period_used(bucket, now_s)
            self._allowed[place] = own + max(0, self._share(left))
        return self._allowed[place]

    def _share(self, units: int) -> int:
        """Even, and in sum exactly `units`: the first hosts get one more each."""
        whole, rest = divmod(units, self.hosts)
        return whole + (1 if self.rank < rest else 0)

    def _owe(self, bucket: Bucket, slot: int, units: int, now_s: float) -> None:
        if bucket.kind is Kind.PERMITS or not units:
            return
        if slot == NOW:
            slot = (
                int(now_s / self._times.slot_s)
                if bucket.kind is Kind.WINDOW
                else period_of(bucket.kind, now_s)
            )
        owed = self._owed.get((bucket.id, slot), (bucket, 0))[1]
        self._owed[bucket.id, slot] = (bucket, owed + units)

    # --- when it is back ------------------------------------------------------------------------------

    def owed(self, now_s: float) -> list[Return]:
        """What was admitted while alone, less what came back: to be charged. Empties the list.

        One slot later than noted: this host's idea of the bank's time may be behind by a round trip.
        """
        now_s = self._at(now_s)
        oldest = (now_s - self._times.kept_s) / self._times.slot_s - 1
        charges = [
            Return(bucket, slot + 1 if bucket.kind is Kind.WINDOW else slot, -units)
            for (_, slot), (bucket, units) in self._owed.items()
            if units and (bucket.kind is not Kind.WINDOW or slot >= oldest)
        ]
        self._owed.clear()
        return charges

    def unpaid(self, charges: Iterable[Return]) -> None:
        """It is not known whether these charges arrived: they are owed again. Charged twice is on the safe side."""
        for each in charges:
            slot = each.slot - 1 if each.bucket.kind is Kind.WINDOW else each.slot
            self._owe(each.bucket, slot, -each.units, self._now_s)

    def everything(self, now_s: float) -> list[Return]:
        """All that this host was granted in the last window: for a shared bank that has forgotten everything.

        Calendars are not in it: those begin again with the ledger's sums, which have what was settled.
        """
        self._owed.clear()
        counts = self._mirror.window_counts(self._at(now_s))
        return [
            Return(Bucket(id_, Kind.WINDOW, 0), slot + 1, -units)
            for id_, by_slot in counts.items()
            for slot, units in by_slot.items()
        ]

    def held(self, now_s: float) -> dict[str, list[Wish]]:
        """Each holder's permits, as wishes that only tell."""
        told: dict[str, list[Wish]] = {}
        for id_, holder, count in self._mirror.holdings(self._at(now_s)):
            told.setdefault(holder, []).append(Wish(Bucket(id_, Kind.PERMITS, 0), held=count))
        return told
