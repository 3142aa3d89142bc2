"""The simulator's replica model on an event loop's timer: steps are told when they are over."""

from __future__ import annotations

import asyncio
from array import array
from math import inf
from typing import Generic, TypeVar

from inferry.simulate.live_replica import LiveReplica
from inferry.simulate.replica_request import ReplicaListener, SimulatedRequest
from inferry.simulate.timing import EngineTiming
from inferry.simulate.timing_of_simulated import BLOCK_TOKENS, INSTANT_S
from inferry.testing.simulated_lateness import BusyShare, Lateness

# uvloop's timers count in milliseconds: what is due within half of one is due now.
_TICK_SLACK_S = 0.0005
_PATIENCE_S = 0.25

R = TypeVar("R", bound=SimulatedRequest)


class SimulatedBatch(Generic[R]):
    """All sequences of one engine. What was late is caught up with, one step per turn of the loop, so that sockets are
    served in between; a step that is late by more than a quarter of a second is put off instead, and the ones after it:
    an engine that was stopped has not computed meanwhile."""

    def __init__(self, timing: EngineTiming, listener: ReplicaListener[R]) -> None:
        self.lateness = Lateness()
        self._replica = LiveReplica[R](timing, listener)
        self._patience_s = _PATIENCE_S if timing.step_s > INSTANT_S else 0.0
        self._busy = BusyShare()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_s = inf
        """When the timer goes off. Not `timer.when()`: uvloop's handle of a time that has passed has none."""
        self._ticking = False

    # --- what it tells --------------------------------------------------------------------------------

    @property
    def running(self) -> int:
        return self._replica.running

    @property
    def waiting(self) -> int:
        return self._replica.waiting

    @property
    def preemptions(self) -> int:
        return self._replica.preemptions

    def kv_use(self) -> float:
        """0 to 1: blocks that running sequences hold."""
        return self._replica.kv_use(self._now_s())

    def busy_s(self) -> float:
        """Seconds in which it computed, since its begin."""
        return self._replica.busy_s(self._now_s())

    def busy_share(self) -> float:
        """0 to 1: of the last second."""
        now_s = self._now_s()
        return self._busy.share(now_s, self._replica.busy_s(now_s))

    # --- what it is told ------------------------------------------------------------------------------

    def submit(self, request: R) -> None:
        self._replica.submit(request, self._now_s())
        self._arm()

    def leave(self, request: R) -> None:
        """Idempotent, also for one that still waits."""
        self._replica.leave(request, self._now_s())
        self._arm()

    def pause(self, request: R) -> None:
        """As one of its tokens is told: the next one comes only after `resume`."""
        self._replica.pause(request)

    def resume(self, request: R) -> None:
        self._replica.resume(request, self._now_s())
        self._arm()

    # --- the timer ------------------------------------------------------------------------------------

    def _now_s(self) -> float:
        """The loop's time, and not before what has been told already. Puts off what is too late."""
        replica = self._replica
        now_s = max(self._loop.time(), replica.now_s)
        late_s = now_s - replica.next_s
        if late_s > self._patience_s and not self._ticking:
            replica.postpone(late_s)
            if self._patience_s:
                self.lateness.given_up_s += late_s
        return now_s

    def _arm(self) -> None:
        due_s = self._replica.next_s
        if self._ticking or due_s == self._armed_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_s = due_s
        self._timer = None if due_s == inf else self._loop.call_at(due_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._armed_s = inf
        replica = self._replica
        late_s = self._loop.time() - replica.next_s
        now_s = self._now_s()
        if now_s + _TICK_SLACK_S >= replica.next_s:
            self.lateness.observe(max(late_s, 0.0))
            self._ticking = True
            try:
                replica.step()
            finally:
                self._ticking = False
            self._busy.note(now_s, replica.busy_s(now_s))
        self._arm()


def block_ids(ids: array[int]) -> list[int]:
    """Chained ids of a text's whole blocks of 16 tokens: equal where all before is equal too."""
    keys: list[int] = []
    previous = 0
    for start in range(0, len(ids) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        previous = hash((previous, ids[start : start + BLOCK_TOKENS].tobytes()))
        keys.append(previous)
    return keys
