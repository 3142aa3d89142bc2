"""A lifecycle that notes what it is asked to do, and does nothing."""

from __future__ import annotations

from fastapi import APIRouter

from inferry.admin.lifecycle_api import make_lifecycle_router
from inferry.core.errors import LifecycleRefused, UnknownReplica
from inferry.fleet.lifecycle import Done, Lifecycle
from inferry.fleet.rollout_progress import RolloutPhase, RolloutProgress

DRAIN_S = 30.0


class StandInLifecycle(Lifecycle):
    """Knows the deployment `chat` and its replica `chat-0`; `busy` refuses everything."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.progress = RolloutProgress("chat", "the file has changed", 1000.0, 3)
        self.others: list[RolloutProgress] = []

    def _note(self, *asked: object) -> Done:
        self.asked.append(asked)
        if asked[1] == "busy":
            raise LifecycleRefused("Something else is under way at 'busy'.")
        if asked[1] not in ("chat", "chat-0"):
            raise UnknownReplica(f"There is no '{asked[1]}'.")
        return Done("chat", f"{asked[0]} is done.", started=("chat-1",), ended=("chat-0",))

    async def scale(self, name: str, replicas: int, drain_s: float) -> Done:
        return self._note("scale", name, replicas, drain_s)

    async def drain(self, target: str, drain_s: float) -> Done:
        return self._note("drain", target, drain_s)

    async def undrain(self, target: str) -> Done:
        return self._note("undrain", target)

    async def restart(self, target: str, drain_s: float) -> Done:
        return self._note("restart", target, drain_s)

    async def rollout(self, name: str, drain_s: float) -> Done:
        return self._note("rollout", name, drain_s)

    async def undo(self, name: str) -> str:
        return self._note("undo", name).message

    def rollouts(self) -> list[RolloutProgress]:
        return [self.progress, *self.others]

    def end(self, phase: RolloutPhase, because: str) -> None:
        """The rollout is over."""
        self.progress.phase = phase
        self.progress.because = because
        self.progress.ended_wall_s = 1012.0

    @property
    def router(self) -> APIRouter:
        return make_lifecycle_router(self, lambda: DRAIN_S, self.undo)
