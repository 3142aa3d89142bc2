"""What the control process runs for its gateway processes: the bank of limits, in memory, for this host alone.

gateway/shared_limit_bank.py is the other one, for hosts that share.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from inferry.core.clock import Clock
from inferry.core.leases import Bucket, Grant, Return, Times, Wish
from inferry.policy.lease_bank import LeaseBank

UsedBefore = Callable[[Bucket, int], Awaitable[int]]
"""Units that the ledger has of a bucket's calendar period; `core.leases.owner_of` says whose they are."""


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
        clock = self._clock
        for bucket, period in list(self._bank.unknown(wishes, clock.wall_s())):
            used = await self._used_before(bucket, period)
            self._bank.begin_period(bucket, period, used, clock.now_s())
        return self._bank.handle(holder, wishes, returns, clock.now_s(), clock.wall_s())

    def forget(self, holder: str) -> None:
        self._bank.forget(holder)

    async def run(self) -> None:
        """Nothing to do: memory keeps itself."""
