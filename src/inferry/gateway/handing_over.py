"""All requests at a replica go on elsewhere: a few at a time.

Where a stream stands is found by reading once more all that the engine sent of it: 5 us per token. For 256 streams of
2,000 tokens in one go, nobody else would be served for 2.5 s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from contextlib import AbstractContextManager

from inferry.gateway.host import Active

SLICE_S = 0.01
"""Of work at a time; then whatever else waits for the event loop has its turn."""


class HandingOver:
    """One owner: the event loop's thread. `one_fault_stays_one()`: what each request is asked in."""

    def __init__(
        self,
        active: Set[Active],
        loop: asyncio.AbstractEventLoop,
        now_s: Callable[[], float],
        one_fault_stays_one: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._active = active
        self._loop = loop
        self._now_s = now_s
        self._one_fault_stays_one = one_fault_stays_one
        self._left: dict[str, tuple[str, list[Active]]] = {}
        """By replica: why, and who has not been asked yet."""

    def begin(self, replica_id: str, because: str) -> None:
        """Ask all requests that are under way now; the first of them at once. While that is going on for this replica,
        another call does nothing: whoever wants to ask all once more calls again later."""
        if replica_id in self._left:
            return
        is_idle = not self._left
        self._left[replica_id] = because, list(self._active)
        if is_idle:
            self._go_on()

    def _go_on(self) -> None:
        until_s = self._now_s() + SLICE_S
        while self._left:
            replica_id, (because, left) = next(iter(self._left.items()))
            while left:
                if self._now_s() >= until_s:
                    self._loop.call_soon(self._go_on)
                    return
                exchange = left.pop()
                if exchange in self._active:  # it may have ended meanwhile
                    with self._one_fault_stays_one():
                        exchange.hand_over(replica_id, because)
            del self._left[replica_id]
