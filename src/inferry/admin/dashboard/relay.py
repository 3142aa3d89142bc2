"""The control API of this machine's owner, for a browser: each request goes on to the control socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from inferry.admin.error_pages import error_page
from inferry.core.errors import EngineUnreachable, UnknownRoute

_HELD_BACK = ("/endpoints",)
"""Secrets of engines: for programs on the socket, and for no browser."""
_SENT = ("content-type", "x-gateway-key", "if-none-match", "accept")
_LEFT_OUT = {"connection", "transfer-encoding", "content-length", "date", "server", "content-encoding"}


class Relay:
    """An ASGI application. Put a Gate before it: it asks nobody."""

    def __init__(self, socket_path: str) -> None:
        transport = httpx.AsyncHTTPTransport(uds=socket_path)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://control", timeout=None)
        self._reading: set[asyncio.Future[bytes]] = set()
        self._ending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self._answer(scope, receive))(scope, receive, send)

    def end(self) -> None:
        """End all streams: a server that is about to end waits for them."""
        self._ending = True
        for part in self._reading:
            part.cancel()

    async def close(self) -> None:
        """Let go of the socket."""
        await self._client.aclose()

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        request = Request(scope, receive)
        if request.url.path.startswith(_HELD_BACK):
            return error_page(UnknownRoute(f"There is no {request.url.path} for the dashboard."))
        headers = {name: value for name in _SENT if (value := request.headers.get(name)) is not None}
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        asked = self._client.build_request(
            request.method, path, headers=headers, content=await request.body()
        )
        try:
            answer = await self._client.send(asked, stream=True)
        except httpx.HTTPError:
            return error_page(EngineUnreachable("Inferry does not answer: it has ended, or is about to."))
        told = {name: value for name, value in answer.headers.items() if name not in _LEFT_OUT}
        return StreamingResponse(self._bytes_of(answer), answer.status_code, headers=told)

    async def _bytes_of(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        parts = answer.aiter_bytes()
        try:
            while True:
                part = asyncio.ensure_future(anext(parts, b""))
                self._reading.add(part)
                try:
                    if not (found := await part):
                        return
                finally:
                    self._reading.discard(part)
                yield found
        except httpx.HTTPError:
            return  # Inferry has ended; the page sees the end and says so
        except asyncio.CancelledError:
            if not self._ending:  # it is the page that has left
                raise
        finally:
            await answer.aclose()
