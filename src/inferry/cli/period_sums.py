"""What the ledger has of a day or a month, looked up once for all budgets that begin at the same moment.

At midnight, or after a restart, every budget begins: one look-up serves them all. A store that is slow or away is
asked once at a time, however many requests wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from inferry.core.clock import Clock
from inferry.core.leases import Kind
from inferry.ledger.usage import Spent

log = structlog.get_logger()

KEPT_S = 1.0
"""An answer, or a failure, is the answer to all who ask within that time after it."""

Sums = Mapping[tuple[str, str], Spent]


class _LookUp:
    """One look-up; `until_s` is known when it is over."""

    __slots__ = ("task", "until_s")

    def __init__(self, task: asyncio.Task[Sums]) -> None:
        self.task = task
        self.until_s: float | None = None


class PeriodSums:
    """The latest look-up of each period. For one event loop."""

    def __init__(self, clock: Clock, look_up: Callable[[Kind, int], Awaitable[Sums]]) -> None:
        self._clock = clock
        self._look_up = look_up
        self._known: dict[tuple[Kind, int], _LookUp] = {}
        self._away = False

    async def of(self, kind: Kind, period: int) -> Sums:
        """Raises what the look-up raised. Who gives up waiting leaves it running for the others."""
        self._drop_old()
        known = self._known.get((kind, period))
        if known is None:
            known = self._known[kind, period] = self._begin(kind, period)
        return await asyncio.shield(known.task)

    async def close(self) -> None:
        """End the look-ups under way."""
        tasks = [known.task for known in self._known.values()]
        self._known.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _begin(self, kind: Kind, period: int) -> _LookUp:
        async def look_up() -> Sums:
            return await self._look_up(kind, period)

        def end(task: asyncio.Task[Sums]) -> None:
            known.until_s = self._clock.now_s() + KEPT_S
            if not task.cancelled():
                self._say(task.exception())

        known = _LookUp(asyncio.get_running_loop().create_task(look_up()))
        known.task.add_done_callback(end)
        return known

    def _say(self, error: BaseException | None) -> None:
        """Once for each time that the ledger goes away."""
        if error is not None and not self._away:
            log.warning("budgets_unknown", error=str(error), meanwhile="their requests are refused")
        self._away = error is not None

    def _drop_old(self) -> None:
        now_s = self._clock.now_s()
        for place, known in list(self._known.items()):
            if known.until_s is not None and known.until_s <= now_s:
                del self._known[place]
