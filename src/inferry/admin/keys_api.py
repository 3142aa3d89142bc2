"""Keys over the control API: the same as `inferry keys`, as JSON."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from inferry.admin.key_view import KeyView, NewKeyView, view_key, view_new_key
from inferry.core.api_key import ApiKey, Scope
from inferry.core.clock import Clock
from inferry.core.limits import Limits, Priority
from inferry.ledger.expiry import duration_s, expiry_wall_s
from inferry.ledger.keys import KeySettings, KeyStore, NewKey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class KeyChange(BaseModel):
    """What is left out stays as it is. Scopes and deployments are replaced; of the limits, those named."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: str = Field("", description="Unique within the tenant.")
    scopes: list[Scope] = Field(["inference"], max_length=10)
    deployments: list[str] | None = Field(
        None, max_length=1000, description="That it may call; null: all of them."
    )
    limits: Limits = Field(default_factory=lambda: Limits(), description="null lifts a limit.")
    priority: Priority = "normal"
    expires: str = Field("never", description="12h, 30d, 4w, a UTC date or time, or never.")

    def settings(self, now_wall_s: float) -> KeySettings:
        """What was sent, for the store."""
        given = self.model_fields_set
        settings: KeySettings = {}
        if "name" in given:
            settings["name"] = self.name
        if "scopes" in given:
            settings["scopes"] = frozenset(self.scopes)
        if "deployments" in given:
            settings["deployments"] = None if self.deployments is None else frozenset(self.deployments)
        if "limits" in given:
            settings["limits"] = self.limits
        if "priority" in given:
            settings["priority"] = self.priority
        if "expires" in given:
            settings["expires_wall_s"] = expiry_wall_s(self.expires, now_wall_s)
        return settings


class KeyWanted(KeyChange):
    """A key to make. What is left out has its default; without a name, one is made from the tenant's."""

    tenant: str = Field(description="Who owns it.")


class Rotation(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    grace: str = Field("0s", description="How long the old text still works: 10m, 24h, 7d.")


async def _nobody() -> None:
    """Nobody waits for changes: who asks the store finds them."""


def make_keys_router(
    store: KeyStore, clock: Clock, on_change: Callable[[], Awaitable[None]] = _nobody
) -> APIRouter:
    """`/keys` over `store`, whose calls run in threads. Errors are InferryError: the app renders them.

    `on_change` is awaited after each change and before its answer: who has the answer may use the key.
    """
    router = APIRouter(prefix="/keys", tags=["keys"])

    async def shown(ask: Callable[[], ApiKey]) -> KeyView:
        return view_key(await asyncio.to_thread(ask), clock.wall_s())

    async def changed(ask: Callable[[], ApiKey]) -> KeyView:
        view = await shown(ask)
        await on_change()
        return view

    async def shown_once(ask: Callable[[], NewKey], response: Response) -> NewKeyView:
        made = await asyncio.to_thread(ask)
        await on_change()
        response.headers["cache-control"] = "no-store"
        return view_new_key(made.key, made.text, clock.wall_s())

    @router.get("")
    async def list_keys(tenant: str | None = None) -> list[KeyView]:
        return [view_key(key, clock.wall_s()) for key in await asyncio.to_thread(store.list, tenant)]

    @router.post("", status_code=201)
    async def create_key(wanted: KeyWanted, response: Response) -> NewKeyView:
        settings = wanted.settings(clock.wall_s())
        return await shown_once(lambda: store.create(wanted.tenant, **settings), response)

    @router.get("/{which}")
    async def get_key(which: str) -> KeyView:
        return await shown(lambda: store.get(which))

    @router.patch("/{which}")
    async def change_key(which: str, change: KeyChange) -> KeyView:
        settings = change.settings(clock.wall_s())
        return await changed(lambda: store.change(which, **settings))

    @router.delete("/{which}")
    async def remove_key(which: str) -> KeyView:
        return await changed(lambda: store.remove(which))

    @router.post("/{which}/rotate")
    async def rotate_key(which: str, response: Response, rotation: Rotation | None = None) -> NewKeyView:
        grace_s = 0.0 if rotation is None else duration_s(rotation.grace, "grace")
        return await shown_once(lambda: store.rotate(which, grace_s=grace_s), response)

    @router.post("/{which}/disable")
    async def disable_key(which: str) -> KeyView:
        return await changed(lambda: store.set_disabled(which, True))

    @router.post("/{which}/enable")
    async def enable_key(which: str) -> KeyView:
        return await changed(lambda: store.set_disabled(which, False))

    return router
