"""Who may call the control API over TCP. On the Unix socket nobody is asked: its folder's mode is the answer."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from inferry.admin.error_pages import error_page
from inferry.core.clock import Clock
from inferry.core.errors import Rejected
from inferry.ledger.keyring import KeyRing, credential_of, require_scope

_LOOKING = {"GET", "HEAD"}


class KeyGate:
    """An ASGI application in front of another: each call needs a key with scope admin, or read-only just to look.

    It answers before a byte of the body is read.
    """

    def __init__(self, app: ASGIApp, keyring: KeyRing, clock: Clock) -> None:
        self._app = app
        self._keyring = keyring
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there are none, and none may come in beside the gate
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http":
            try:
                self._check(scope)
            except Rejected as error:
                await error_page(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        authorization, x_api_key = (
            None if value is None else value.encode("latin-1")
            for value in (headers.get("authorization"), headers.get("x-api-key"))
        )
        key = self._keyring.find(credential_of(authorization, x_api_key), self._clock.wall_s())
        if "read-only" in key.scopes and scope["method"] in _LOOKING:
            return
        require_scope(key, "admin")
