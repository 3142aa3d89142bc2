"""What the control process runs for its gateway processes: the bank of limits, in memory, for this host alone.

gateway/shared_limit_bank.py is the other one, for hosts that share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from inferry.core.clock import Clock
from inferry.core.leases import Grant, Return, Times, Wish
from inferry.gateway.period_starts import UsedBefore, filled, starts_of, with_gaps
from inferry.policy.lease_bank import LeaseBank


class LimitBank(Protocol):
    """Where leases come from. Holders are the gateway processes, by name."""

    async def serve(self, holder: str, wishes: Sequence[Wish], returns: Sequence[Return]) -> Sequence[Grant]:
        """One grant per wish, in order. Never fails: what can't be had is a grant that says so."""

    def forget(self, holder: str) -> None:
        """The process is gone: what it held is free, at once or soon."""

    async def run(self) -> None:
        """Keep it going until cancelled."""


class MemoryLimitBank:
    """The bank of one host."""

    def __init__(self, clock: Clock, used_before: UsedBefore, times: Times | None = None) -> None:
        self._bank = LeaseBank(times)
        self._clock = clock
        self._used_before = used_before

    async def serve(self, holder: str, wishes: Sequence[Wish], returns: Sequence[Return]) -> Sequence[Grant]:
        clock, bank = self._clock, self._bank
        wall_s = clock.wall_s()
        unknown = list(bank.unknown(wishes, wall_s))
        if not unknown:
            return bank.handle(holder, wishes, returns, clock.now_s(), wall_s)
        # What needs no look-up is done at once, so that no later message of this holder overtakes it.
        waiting = {bucket.id for bucket, _ in unknown}
        known = [wish for wish in wishes if wish.bucket.id not in waiting]
        grants = with_gaps(wishes, waiting, bank.handle(holder, known, returns, clock.now_s(), wall_s))
        starts = await starts_of(unknown, self._used_before)
        for bucket, period in unknown:
            if bucket.id in starts:
                bank.begin_period(bucket, period, starts[bucket.id][1], clock.now_s())
        late = [wish for wish in wishes if wish.bucket.id in starts]
        return filled(wishes, grants, starts, bank.handle(holder, late, (), clock.now_s(), wall_s))

    def forget(self, holder: str) -> None:
        self._bank.forget(holder)

    async def run(self) -> None:
        """Nothing to do: memory keeps itself."""
