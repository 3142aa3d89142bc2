"""The replica model under a real clock: step by step, with answers that stand still, and steps that came too late."""

from __future__ import annotations

from typing import TypeVar

from inferry.simulate.replica_model import ReplicaModel
from inferry.simulate.replica_request import ReplicaListener, SimulatedRequest, Stage
from inferry.simulate.timing import EngineTiming

R = TypeVar("R", bound=SimulatedRequest)


class LiveReplica(ReplicaModel[R]):
    """Computes by the same steps as in a simulation; only when they are told may be late."""

    def __init__(self, timing: EngineTiming, listener: ReplicaListener[R]) -> None:
        super().__init__(timing, listener, whole_steps=False)
        self._paused: set[R] = set()
        self._returning: list[R] = []
        """Of those, who go on with the next step."""

    @property
    def running(self) -> int:
        return super().running + len(self._paused)

    def step(self) -> None:
        """What is due at `next_s`, and no more: where steps take next to no time, `advance` would go on and on."""
        self._go_on()

    def postpone(self, seconds: float) -> None:
        """What is under way takes so much longer: nobody was there to go on with it."""
        self._began_s += seconds
        self.next_s += seconds

    def pause(self, request: R) -> None:
        """Nothing more is computed for it until it is told to `resume`; it keeps its place and its blocks.

        To be called as one of its tokens is told.
        """
        assert request.stage is Stage.ANSWERING
        self._answering = [entry for entry in self._answering if entry[2] is not request]
        self._answering.sort()  # which makes it a heap
        request.said = request.base + self._steps - request.prompt_tokens
        request.stage = Stage.PAUSED
        self._pool.stop_growing(request.base)
        self._pool.prompt_blocks += self._prompt_blocks(request)
        self._paused.add(request)

    def resume(self, request: R, now_s: float) -> None:
        """Its next token comes at the end of the next step."""
        assert request in self._paused
        self._returning.append(request)
        if not self._planned:
            self.next_s = min(self.next_s, now_s)

    def leave(self, request: R, now_s: float) -> None:
        if request.stage is not Stage.PAUSED:
            super().leave(request, now_s)
            return
        self._paused.remove(request)
        if request in self._returning:
            self._returning.remove(request)
        pool = self._pool
        pool.evict(self._steps)
        pool.prompt_blocks -= self._prompt_blocks(request)
        pool.let_go(request.blocks, request.held)
        self._keep(request)
        request.stage = Stage.GONE
        self._look_at_queue(now_s)

    def _begin(self) -> None:
        for request in self._returning:
            self._paused.remove(request)
            request.stage = Stage.COMPUTING
            request.left = 1
            request.due_s = self.now_s
            self._computing.appendleft(request)
        self._returning.clear()
        super()._begin()
