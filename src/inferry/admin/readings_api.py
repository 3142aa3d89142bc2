"""GET /readings: what each replica's engine said of its load last, for those who watch a run beside it.
GET /endpoints: where engines listen, with the secret that opens them, for measuring one without the gateway.

The secrets are for the owner of this process, who can read them from its engines' environment anyway: they are told
on the control socket alone, which nobody else can open, and never over the network, whatever key is shown there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from inferry.core.errors import UnknownRoute
from inferry.core.replica import ReplicaLoad, ReplicaState, ReplicaView

_LOCAL = "inferry.local"


class GpuReading(BaseModel):
    """Of one GPU, whoever computes there."""

    gpu: int = Field(description="NVML's number of it, on this machine.")
    power_w: float | None = Field(description="All that it draws; null: it does not tell.")
    users: int = Field(description="Process groups that compute on it.")


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
    gpus: list[GpuReading] = Field(description="On which it computes; empty where nobody tells.")


class ReplicaEndpoint(BaseModel):
    """Of a replica that is ready."""

    replica: str
    deployment: str
    url: str = Field(description="Its base URL, with the path of OpenAI's routes.")
    query: str = Field(description="That must stand behind every path; usually empty.")
    headers: dict[str, str] = Field(description="That it must be sent; they may hold a secret.")


def local_only(app: ASGIApp) -> ASGIApp:
    """`app` for the control socket: what it tells there alone, it tells."""

    async def on_socket(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, _LOCAL: True}, receive, send)

    return on_socket


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
                gpus=[GpuReading(gpu=each.gpu, power_w=each.power_w, users=each.users) for each in load.gpus],
            )
            for view, load in readings()
            if load is not None
        ]

    @router.get("/endpoints")
    async def get_endpoints(request: Request) -> list[ReplicaEndpoint]:
        if not request.scope.get(_LOCAL):
            raise UnknownRoute("Endpoints are told on the control socket alone.")
        return [
            ReplicaEndpoint(
                replica=view.id,
                deployment=view.deployment,
                url=view.endpoint.url + view.endpoint.root,
                query=view.endpoint.query,
                headers=dict(view.endpoint.headers),
            )
            for view, _ in readings()
            if view.endpoint is not None and view.state is ReplicaState.READY
        ]

    return router
