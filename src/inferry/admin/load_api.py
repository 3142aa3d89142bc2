"""Models that load on demand, by hand: the part of the control API behind `inferry load` and `inferry unload`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field


class LoadAnswer(BaseModel):
    deployment: str
    message: str = Field(description="For people.")


def make_load_router(
    load: Callable[[str], Coroutine[Any, Any, None]], unload: Callable[[str], Awaitable[str]]
) -> APIRouter:
    """Both return when it is done, `unload` with what loads it again in words, and raise LifecycleRefused with the reason.
    `load` is cancelled when its caller leaves."""
    router = APIRouter(prefix="/deployments/{name}")

    @router.post("/load")
    async def post_load(name: str, request: Request) -> LoadAnswer:
        loading, leaving = asyncio.create_task(load(name)), asyncio.create_task(_left(request))
        try:
            await asyncio.wait([loading, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not loading.done():
                raise HTTPException(499)  # nobody reads it
            await loading
        finally:
            loading.cancel()
            leaving.cancel()
        return LoadAnswer(deployment=name, message=f"'{name}' is loaded.")

    @router.post("/unload")
    async def post_unload(name: str) -> LoadAnswer:
        return LoadAnswer(deployment=name, message=f"'{name}' is unloaded. {await unload(name)}")

    return router


async def _left(request: Request) -> None:
    """Returns when the caller has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
