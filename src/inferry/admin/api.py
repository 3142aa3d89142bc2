"""The control API: what the CLI asks a running Inferry. Served on a Unix socket that only its owner can open.

The socket's folder has mode 0700, so the file system does the authentication. Keys and an address for other
machines come with `gateway.auth`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from pydantic import BaseModel, Field

from inferry.admin.status import Status


class ShutdownRequest(BaseModel):
    at_once: bool = Field(False, description="Cut running answers instead of letting them finish.")


class ShutdownAnswer(BaseModel):
    pid: int


def make_control_app(
    *, status: Callable[[], Awaitable[Status]], shut_down: Callable[[bool], None], pid: int
) -> FastAPI:
    """The ASGI application; `status` and `shut_down(at_once)` are called on the event loop."""
    app = FastAPI(title="Inferry control API", docs_url=None, redoc_url=None)

    @app.get("/status")
    async def get_status() -> Status:
        return await status()

    @app.post("/shutdown")
    async def post_shutdown(request: ShutdownRequest) -> ShutdownAnswer:
        shut_down(request.at_once)
        return ShutdownAnswer(pid=pid)

    return app
