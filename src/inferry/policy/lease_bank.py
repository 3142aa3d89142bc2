"""How many units of a limit may a gateway process have now? The bank of one host, in memory.

Units count as spent from the moment they are granted. So what holders admit can't exceed a limit, whatever they
do and however many they are; what they don't use they give back, and a holder that vanishes gives back by the
passing of time.

A unit granted in a slot may be spent a lease later. Slots are kept for a window, a lease and a slot
(`Times.kept_s`), so every window of `window_s`, wherever it begins, holds at most the limit.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from inferry.core.leases import NOW, Bucket, Grant, Kind, Return, Times, Wish, period_of, period_start_s

AHEAD_SHARE = 10
"""Of what is left, at most this part is lent beyond what is needed now: leases are large while there is plenty,
and single units near the limit."""
PERMIT_RETRY_S = 1.0
"""Nobody knows when a request under way will end."""
PERIOD_IDLE_S = 3 * 3600.0
"""Calendar counts unused for so long are dropped, and read from the ledger again: longer than a request lives."""


def lease_units(wish: Wish, left: int) -> int:
    """How many of `left` units to grant: what is needed, and a little ahead while there is plenty.

    need 1, want 80: 80 of 1000 left, 50 of 500, 1 of 9. Nothing if nobody who waits could use it.
    """
    if left <= 0 or left < wish.least:
        return 0
    return min(left, max(wish.need, min(wish.want, left // AHEAD_SHARE)))


class _Window:
    """Units by slot, over the last `kept_s`."""

    __slots__ = ("counts", "cutoff", "newest", "total", "used_s")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total = 0
        self.newest = 0
        self.cutoff = -(1 << 62)
        self.used_s = 0.0

    def slide(self, cutoff: int) -> None:
        """Forget the slots up to `cutoff`."""
        if cutoff == self.cutoff:
            return
        self.cutoff = cutoff
        for slot in [slot for slot in self.counts if slot <= cutoff]:
            self.total -= self.counts.pop(slot)

    def add(self, slot: int, units: int) -> None:
        """Negative ones at most down to 0: what came back too often must not become credit."""
        count = self.counts.get(slot, 0)
        units = max(units, -count)
        if units and slot > self.cutoff:
            self.counts[slot] = count + units
            self.total += units
            self.newest = max(self.newest, slot)


class _Permits:
    """Who holds how many, and until when that is believed."""

    __slots__ = ("held", "used_s")

    def __init__(self) -> None:
        self.held: dict[str, tuple[int, float]] = {}
        self.used_s = 0.0


class _Period:
    """Units of one UTC day or month."""

    __slots__ = ("number", "used", "used_s")

    def __init__(self, number: int, used: int) -> None:
        self.number = number
        self.used = used
        self.used_s = 0.0


class LeaseBank:
    """All counts of one host. Memory is bounded by the buckets used within a window (calendars: three hours).

    `now_s` must not go back; any clock will do, if it is the same for all calls.
    """

    def __init__(self, times: Times | None = None) -> None:
        self.times = Times() if times is None else times
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._permits: OrderedDict[str, _Permits] = OrderedDict()
        self._periods: OrderedDict[str, _Period] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows) + len(self._permits) + len(self._periods)

    # --- calendars begin with what the ledger knows ---------------------------------------------------

    def unknown(self, wishes: Iterable[Wish], wall_s: float) -> Iterator[tuple[Bucket, int]]:
        """Calendar buckets, each with its period, for which `begin_period` must be called before `handle`."""
        for wish in wishes:
            bucket = wish.bucket
            if bucket.kind is Kind.DAY or bucket.kind is Kind.MONTH:
                number = period_of(bucket.kind, wall_s)
                period = self._periods.get(bucket.id)
                if period is None or period.number != number:
                    yield bucket, number

    def begin_period(self, bucket: Bucket, number: int, used: int, now_s: float) -> None:
        """Count from `used` on, unless the period has begun already."""
        period = self._periods.get(bucket.id)
        if period is None or period.number < number:
            period = self._periods[bucket.id] = _Period(number, used)
            period.used_s = now_s

    # --- the exchange ---------------------------------------------------------------------------------

    def handle(
        self, holder: str, wishes: Iterable[Wish], returns: Iterable[Return], now_s: float, wall_s: float
    ) -> list[Grant]:
        """Take back `returns`, then answer each wish."""
        self._drop_unused(now_s)
        for each in returns:
            self.count(each.bucket, each.slot, -each.units, now_s, wall_s)
        return [self._answer(holder, wish, now_s, wall_s) for wish in wishes]

    def count(self, bucket: Bucket, slot: int, units: int, now_s: float, wall_s: float) -> None:
        """Add `units` to a slot, whatever the limit says; negative ones come back. Not for permits.

        Nothing is added to a period that has not begun here: it will begin with the ledger's sum, which has it.
        """
        if bucket.kind is Kind.WINDOW:
            window = self._window(bucket, now_s)
            window.add(self._slot_of(now_s) if slot == NOW else slot, units)
        elif bucket.kind is not Kind.PERMITS:
            period = self._periods.get(bucket.id)
            if period is not None and slot in (NOW, period.number):
                period.used = max(0, period.used + units)

    def hold(self, bucket: Bucket, holder: str, units: int, now_s: float) -> int:
        """Note that `holder` has so many permits; returns how many all have."""
        permits = self._permits.get(bucket.id)
        if permits is None:
            permits = self._permits[bucket.id] = _Permits()
        self._permits.move_to_end(bucket.id)
        permits.used_s = now_s
        held = permits.held
        for other in [other for other, (_, until_s) in held.items() if until_s <= now_s]:
            del held[other]
        held.pop(holder, None)
        if units > 0:
            held[holder] = (units, now_s + self.times.permit_ttl_s)
        return sum(count for count, _ in held.values())

    def forget(self, holder: str) -> None:
        """The holder is gone for good: its permits are free. What else it has comes back with time."""
        for permits in self._permits.values():
            permits.held.pop(holder, None)

    def holdings(self, now_s: float) -> list[tuple[str, str, int]]:
        """Bucket id, holder and count of all permits that are out."""
        return [
            (id_, holder, count)
            for id_, permits in self._permits.items()
            for holder, (count, until_s) in permits.held.items()
            if until_s > now_s
        ]

    def window_counts(self, now_s: float) -> dict[str, dict[int, int]]:
        """What is counted in each window bucket, by slot."""
        for window in self._windows.values():
            window.slide(self._cutoff(now_s))
        return {id_: dict(window.counts) for id_, window in self._windows.items() if window.total}

    def period_used(self, bucket: Bucket, wall_s: float) -> int:
        """What is counted in the bucket's current period; 0 if nothing is known of it."""
        period = self._periods.get(bucket.id)
        return 0 if period is None or period.number != period_of(bucket.kind, wall_s) else period.used

    def _answer(self, holder: str, wish: Wish, now_s: float, wall_s: float) -> Grant:
        bucket = wish.bucket
        if bucket.kind is Kind.WINDOW:
            return self._from_window(wish, now_s)
        if bucket.kind is Kind.PERMITS:
            return self._from_permits(holder, wish, now_s)
        return self._from_period(wish, now_s, wall_s)

    def _from_window(self, wish: Wish, now_s: float) -> Grant:
        bucket = wish.bucket
        window = self._window(bucket, now_s)
        units = lease_units(wish, bucket.limit - window.total)
        slot = self._slot_of(now_s)
        window.add(slot, units)
        return Grant(
            bucket.id,
            units,
            slot,
            lasts_s=self.times.lease_s,
            left=bucket.limit - window.total,
            retry_s=0.0 if units >= wish.need else self._fits_in_s(window, bucket.limit - wish.most, now_s),
            reset_s=self._gone_in_s(window.newest, now_s) if window.total else 0.0,
        )

    def _from_permits(self, holder: str, wish: Wish, now_s: float) -> Grant:
        bucket = wish.bucket
        held = self.hold(bucket, holder, wish.held, now_s)
        units = lease_units(wish, bucket.limit - held)
        if units:
            held = self.hold(bucket, holder, wish.held + units, now_s)
        retry_s = 0.0 if units >= wish.need else PERMIT_RETRY_S
        ttl_s = self.times.permit_ttl_s
        return Grant(bucket.id, units, lasts_s=ttl_s, left=bucket.limit - held, retry_s=retry_s)

    def _from_period(self, wish: Wish, now_s: float, wall_s: float) -> Grant:
        bucket = wish.bucket
        period = self._period(bucket, now_s, wall_s)
        ends_in_s = max(0.001, period_start_s(bucket.kind, period.number + 1) - wall_s)
        units = lease_units(wish, bucket.limit - period.used)
        period.used += units
        return Grant(
            bucket.id,
            units,
            period.number,
            lasts_s=self.times.lease_s,
            left=bucket.limit - period.used,
            retry_s=0.0 if units >= wish.need else ends_in_s,
            reset_s=ends_in_s,
        )

    # --- time -----------------------------------------------------------------------------------------

    def _slot_of(self, now_s: float) -> int:
        return math.floor(now_s / self.times.slot_s)

    def _cutoff(self, now_s: float) -> int:
        """The newest slot that counts no more: `kept_s` has passed since it began."""
        return math.floor((now_s - self.times.kept_s) / self.times.slot_s)

    def _gone_in_s(self, slot: int, now_s: float) -> float:
        return max(0.0, slot * self.times.slot_s + self.times.kept_s - now_s)

    def _fits_in_s(self, window: _Window, total_max: int, now_s: float) -> float:
        """When at most `total_max` of what is counted now will be left."""
        total = window.total
        for slot in sorted(window.counts):
            total -= window.counts[slot]
            if total <= total_max:
                return max(0.001, self._gone_in_s(slot, now_s))
        return self.times.kept_s

    # --- buckets come and go --------------------------------------------------------------------------

    def _window(self, bucket: Bucket, now_s: float) -> _Window:
        window = self._windows.get(bucket.id)
        if window is None:
            window = self._windows[bucket.id] = _Window()
        self._windows.move_to_end(bucket.id)
        window.used_s = now_s
        window.slide(self._cutoff(now_s))
        return window

    def _period(self, bucket: Bucket, now_s: float, wall_s: float) -> _Period:
        number = period_of(bucket.kind, wall_s)
        period = self._periods.get(bucket.id)
        # A wall clock that was set back stays in the period that it was in.
        if period is None or period.number < number:
            period = self._periods[bucket.id] = _Period(number, 0)
        self._periods.move_to_end(bucket.id)
        period.used_s = now_s
        return period

    def _drop_unused(self, now_s: float) -> None:
        kept_s, ttl_s = self.times.kept_s, self.times.permit_ttl_s
        while self._windows and next(iter(self._windows.values())).used_s + kept_s <= now_s:
            self._windows.popitem(last=False)
        while self._permits and next(iter(self._permits.values())).used_s + ttl_s <= now_s:
            self._permits.popitem(last=False)
        while self._periods and next(iter(self._periods.values())).used_s + PERIOD_IDLE_S <= now_s:
            self._periods.popitem(last=False)
