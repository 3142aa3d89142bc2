"""Scale, drain, restart and roll out over the control API: the same as the verbs, as JSON.

Each call answers when what it asked for is done, which may take as long as a big model takes to load. A caller that
leaves stops nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from inferry.admin.rollout_view import RolloutView, view_rollout
from inferry.fleet.lifecycle import Done, Lifecycle

REPLICAS_MAX = 256
"""As in the file."""
GRACE_MAX_S = 86_400.0


class Wanted(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ScaleWanted(Wanted):
    replicas: int = Field(ge=1, le=REPLICAS_MAX, description="How many; until the file says another number.")


class TargetWanted(Wanted):
    target: str = Field(max_length=500, description="A replica's id, or a deployment's name.")


class DrainWanted(TargetWanted):
    grace_s: float | None = Field(
        None,
        ge=0,
        le=GRACE_MAX_S,
        description="How long requests may finish before they are handed over; null: gateway.drain_s.",
    )


class DoneView(BaseModel):
    deployment: str
    message: str
    started: list[str] = Field(description="Replicas that came.")
    ended: list[str] = Field(description="Replicas whose engines were ended.")


def make_lifecycle_router(
    lifecycle: Lifecycle, drain_s: Callable[[], float], undo: Callable[[str], Awaitable[str]]
) -> APIRouter:
    """`undo(name)` takes the rollout of a deployment back, running or over, and says what it did."""
    router = APIRouter(tags=["lifecycle"])

    @router.post("/deployments/{name}/scale")
    async def scale(name: str, wanted: ScaleWanted) -> DoneView:
        return _view(await lifecycle.scale(name, wanted.replicas, drain_s()))

    @router.post("/drain")
    async def drain(wanted: DrainWanted) -> DoneView:
        grace_s = drain_s() if wanted.grace_s is None else wanted.grace_s
        return _view(await lifecycle.drain(wanted.target, grace_s))

    @router.post("/undrain")
    async def undrain(wanted: TargetWanted) -> DoneView:
        return _view(await lifecycle.undrain(wanted.target))

    @router.post("/restart")
    async def restart(wanted: DrainWanted) -> DoneView:
        grace_s = drain_s() if wanted.grace_s is None else wanted.grace_s
        return _view(await lifecycle.restart(wanted.target, grace_s))

    @router.get("/rollouts")
    async def list_rollouts() -> list[RolloutView]:
        return [view_rollout(progress, with_steps=True) for progress in lifecycle.rollouts()]

    @router.post("/deployments/{name}/rollout")
    async def rollout(name: str) -> DoneView:
        return _view(await lifecycle.rollout(name, drain_s()))

    @router.post("/deployments/{name}/rollout/undo")
    async def undo_rollout(name: str) -> DoneView:
        return DoneView(deployment=name, message=await undo(name), started=[], ended=[])

    return router


def _view(done: Done) -> DoneView:
    return DoneView(
        deployment=done.deployment,
        message=done.message,
        started=list(done.started),
        ended=list(done.ended),
    )
