"""The control API: what the CLI asks a running Inferry. Served on a Unix socket that only its owner can open.

The socket's folder has mode 0700, so the file system does the authentication. For other machines (`admin.listen`)
the same application stands behind admin/auth.py, which asks for keys.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, Field

from inferry.admin.error_pages import install_error_pages
from inferry.admin.status import Status
from inferry.core.clock import Clock, SystemClock

if TYPE_CHECKING:
    from inferry.ledger.keys import KeyStore


class ShutdownRequest(BaseModel):
    at_once: bool = Field(False, description="Cut running answers instead of letting them finish.")


class ShutdownAnswer(BaseModel):
    pid: int


class ReloadAnswer(BaseModel):
    generation: int
    changes: list[str] = Field(description="Lines for people; empty: the file says what is in force already.")
    by_watcher: bool = Field(False, description="It was applied when the file was saved, before this call.")


def make_control_app(
    *,
    status: Callable[[], Awaitable[Status]],
    shut_down: Callable[[bool], None],
    reload: Callable[[], Awaitable[ReloadAnswer]],
    pid: int,
    keys: KeyStore | None = None,
    on_keys_change: Callable[[], Awaitable[None]] | None = None,
    clock: Clock | None = None,
    lifecycle: APIRouter | None = None,
) -> FastAPI:
    """The ASGI application; All but `keys` is called on the event loop. `lifecycle`: of admin/lifecycle_api.py.

    With `keys` it has `/keys` too. It asks nobody for a key: on TCP, put `KeyGate(app, keyring, clock)` in front.
    """
    app = FastAPI(title="Inferry control API", docs_url=None, redoc_url=None)
    install_error_pages(app)
    if keys is not None:
        # The database's libraries take half a second to load, which an instance without keys need not spend.
        from inferry.admin.keys_api import make_keys_router

        heard = {} if on_keys_change is None else {"on_change": on_keys_change}
        app.include_router(make_keys_router(keys, clock or SystemClock(), **heard))

    if lifecycle is not None:
        app.include_router(lifecycle)

    @app.get("/status")
    async def get_status() -> Status:
        return await status()

    @app.post("/shutdown")
    async def post_shutdown(request: ShutdownRequest) -> ShutdownAnswer:
        shut_down(request.at_once)
        return ShutdownAnswer(pid=pid)

    @app.post("/reload")
    async def post_reload() -> ReloadAnswer:
        return await reload()

    return app
