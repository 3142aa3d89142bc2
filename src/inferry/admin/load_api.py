"""Models that load on demand, by hand: the part of the control API behind `inferry load` and `inferry unload`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from pydantic import BaseModel, Field


class LoadAnswer(BaseModel):
    deployment: str
    message: str = Field(description="For people.")


def make_load_router(
    load: Callable[[str], Awaitable[None]], unload: Callable[[str], Awaitable[None]]
) -> APIRouter:
    """Both return when it is done, and raise LifecycleRefused with the reason."""
    router = APIRouter(prefix="/deployments/{name}")

    @router.post("/load")
    async def post_load(name: str) -> LoadAnswer:
        await load(name)
        return LoadAnswer(deployment=name, message=f"'{name}' is loaded.")

    @router.post("/unload")
    async def post_unload(name: str) -> LoadAnswer:
        await unload(name)
        return LoadAnswer(
            deployment=name,
            message=f"'{name}' is unloaded. The next request loads it again, or 'inferry load'.",
        )

    return router
