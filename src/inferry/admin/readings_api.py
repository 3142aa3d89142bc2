"""GET /readings: what each replica's engine said of its load last, for those who watch a run beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fastapi import APIRouter
from pydantic import BaseModel, Field

from inferry.core.replica import ReplicaLoad, ReplicaView


class Reading(BaseModel):
    """Of one replica; null where its engine does not tell."""

    replica: str
    deployment: str
    read_s: float = Field(description="When it was asked, on this machine's monotonic clock.")
    running: int | None
    waiting: int | None
    kv_cache_use: float | None
    preemptions: int | None
    prefix_query_tokens: int | None
    prefix_hit_tokens: int | None


def make_readings_router(
    readings: Callable[[], Iterable[tuple[ReplicaView, ReplicaLoad | None]]],
) -> APIRouter:
    """`readings` is called on the event loop."""
    router = APIRouter()

    @router.get("/readings")
    async def get_readings() -> list[Reading]:
        return [
            Reading(
                replica=view.id,
                deployment=view.deployment,
                read_s=load.read_s,
                running=load.running,
                waiting=load.waiting,
                kv_cache_use=load.kv_cache_use,
                preemptions=load.preemptions,
                prefix_query_tokens=load.prefix_query_tokens,
                prefix_hit_tokens=load.prefix_hit_tokens,
            )
            for view, load in readings()
            if load is not None
        ]

    return router
