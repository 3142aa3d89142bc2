"""A simulated replica on the simulator's timeline."""

from __future__ import annotations

from math import inf
from typing import Generic, TypeVar

from inferry.simulate.replica_model import ReplicaModel
from inferry.simulate.replica_request import ReplicaListener, SimulatedRequest
from inferry.simulate.timeline import Timeline
from inferry.simulate.timing import EngineTiming

R = TypeVar("R", bound=SimulatedRequest)


class SimulatedReplica(Generic[R]):
    """Its model, advanced when it wants to be. Whether it starts, serves or has failed is its owner's to know."""

    def __init__(
        self, id: str, timing: EngineTiming, timeline: Timeline, listener: ReplicaListener[R]
    ) -> None:
        self.id = id
        self.model = ReplicaModel(timing, listener)
        self._timeline = timeline
        self._armed_s = inf
        self._event = 0

    def submit(self, request: R) -> None:
        """A request arrives here now. Only one that `model.fits`."""
        request.replica = self.id
        self.model.submit(request, self._timeline.now_s)
        self._arm()

    def leave(self, request: R) -> None:
        """Its client is gone, or somebody else goes on with it."""
        self.model.leave(request, self._timeline.now_s)
        self._arm()

    def crash(self) -> list[R]:
        """What it had, oldest first. As new, it may take requests again."""
        lost = self.model.clear(self._timeline.now_s)
        self._arm()
        return lost

    def slow_down(self, factor: float) -> None:
        """Steps take so many times as long; 1: as they should."""
        self.model.slow_down(factor, self._timeline.now_s)
        self._arm()

    def freeze(self) -> None:
        """It hangs, until `thaw`."""
        self.model.freeze(self._timeline.now_s)
        self._arm()

    def thaw(self) -> None:
        self.model.thaw(self._timeline.now_s)
        self._arm()

    @property
    def running(self) -> int:
        return self.model.running

    @property
    def waiting(self) -> int:
        return self.model.waiting

    @property
    def uncached_tokens(self) -> int:
        return self.model.uncached_tokens

    @property
    def busy_s(self) -> float:
        return self.model.busy_s(self._timeline.now_s)

    @property
    def kv_use(self) -> float:
        return self.model.kv_use(self._timeline.now_s)

    def _advance(self) -> None:
        self._armed_s = inf
        self.model.advance(self._timeline.now_s)
        self._arm()

    def _arm(self) -> None:
        due_s = self.model.next_s
        if due_s == self._armed_s:
            return
        if self._armed_s != inf:
            self._timeline.cancel(self._event)
        self._armed_s = due_s
        if due_s != inf:
            self._event = self._timeline.at(due_s, self._advance)
