"""Everything that is not hot: model list, health, metrics, errors for unknown paths, and the slow front.

The slow front runs an exchange through ASGI messages. It serves requests that were pipelined behind a running
one, and proves in the conformance suite that both fronts answer alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from inferry.core.errors import BodyTooLarge, InferryError, MethodNotAllowed, UnknownModel, UnknownRoute
from inferry.core.request import MESSAGES, ROUTES, Dialect, Route
from inferry.core.suggest import did_you_mean
from inferry.gateway.collector import metrics_page
from inferry.gateway.edge import Arrival
from inferry.gateway.errors import render_error
from inferry.gateway.exchange import Exchange
from inferry.gateway.gateway import Gateway
from inferry.gateway.protocol import DISCARD_BYTES_MAX

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
_JSON = b"application/json"


class GatewayApp:
    """The ASGI application behind the fast front."""

    def __init__(self, gateway: Gateway, metrics: Callable[[], Awaitable[bytes]] | None = None) -> None:
        """`metrics`: gives the page over all gateway processes; left out, it shows this one alone."""
        self._gateway = gateway
        self._metrics_of_all = metrics
        self._pages: dict[str, Callable[[], tuple[int, bytes, bytes]]] = {
            "/": self._root,
            "/health": self._health,
            "/v1/models": self._models,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        if method == "POST" and (route := ROUTES.get(path)) is not None:
            await self._exchange(route, scope, receive, send)
            return
        try:
            status, kind, body = await self._page(path, method)
            extra: list[tuple[bytes, bytes]] = []
        except InferryError as error:
            dialect = Dialect.ANTHROPIC if path.startswith(MESSAGES.path) else Dialect.OPENAI
            status, kind, body = error.status, _JSON, render_error(error, dialect)
            extra = [(b"x-request-id", Arrival().id.encode())]
            if isinstance(error, MethodNotAllowed):
                extra.append((b"allow", b"POST" if path in ROUTES else b"GET, HEAD"))
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *extra]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _page(self, path: str, method: str) -> tuple[int, bytes, bytes]:
        page = self._pages.get(path)
        if page is None and path.startswith("/v1/models/"):
            name = path.removeprefix("/v1/models/")
            page = lambda: self._model(name)  # noqa: E731 - the same shape as the table's entries
        if page is None and path != "/metrics":
            if path in ROUTES:
                raise MethodNotAllowed(f"{path} takes POST, not {method}.")
            known = [*self._pages, "/metrics", *ROUTES]
            raise UnknownRoute(f"There is no {method} {path[:200]} here.{did_you_mean(path[:200], known)}")
        if method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{path} takes GET, not {method}.")
        return await self._metrics() if page is None else page()

    # --- pages ----------------------------------------------------------------------------------------

    def _root(self) -> tuple[int, bytes, bytes]:
        served = {path for deployment in self._gateway.deployments.values() for path in deployment.routes}
        about = {
            "name": "inferry",
            "models": sorted(self._gateway.deployments),
            "api": sorted([*self._pages, "/metrics", *served]),
        }
        return 200, _JSON, msgspec.json.encode(about)

    def _health(self) -> tuple[int, bytes, bytes]:
        health = self._gateway.health()
        return (503 if health["status"] in ("down", "draining") else 200), _JSON, msgspec.json.encode(health)

    async def _metrics(self) -> tuple[int, bytes, bytes]:
        gateway = self._gateway
        if self._metrics_of_all is None:
            page = metrics_page(gateway.snapshot(), gateway.views.values())
        else:
            page = await self._metrics_of_all()
        return 200, CONTENT_TYPE_LATEST.encode(), page

    def _models(self) -> tuple[int, bytes, bytes]:
        names = self._gateway.names
        listing = {"object": "list", "data": [self._describe(name) for name in names]}
        return 200, _JSON, msgspec.json.encode(listing)

    def _model(self, name: str) -> tuple[int, bytes, bytes]:
        if name not in self._gateway.names:
            self._gateway.deployment_for(name)  # raises UnknownModel with the known names
            raise UnknownModel(name)
        return 200, _JSON, msgspec.json.encode(self._describe(name))

    def _describe(self, name: str) -> dict[str, object]:
        deployment = self._gateway.deployment_for(name)
        return {
            "id": name,
            "object": "model",
            "created": int(self._gateway.created_wall_s),
            "owned_by": "inferry-simulated" if deployment.spec.simulated else "inferry",
        }

    # --- the slow front -------------------------------------------------------------------------------

    async def _exchange(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        sink = _QueueSink()
        client = scope.get("client")
        arrival = self._gateway.edge.arrive(b"POST", scope["headers"], client[0] if client else None)
        exchange = Exchange(self._gateway, sink, route, arrival)
        if (error := exchange.open()) is not None:
            sink.close_after = True
            exchange.reject(error)
            await _discard_rest(receive, {"more_body": True})
            await sink.drain_to(send, exchange)
            return
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                exchange.on_client_lost()
                return
            body += message.get("body", b"")
            if len(body) > self._gateway.settings.body_max_bytes:
                sink.close_after = True
                exchange.reject(
                    BodyTooLarge(
                        "The request body is too long: the limit is "
                        f"{int(self._gateway.settings.body_max_bytes):,} bytes (gateway.body_max_bytes)."
                    )
                )
                await _discard_rest(receive, message)
                break
            if not message.get("more_body", False):
                exchange.begin(bytes(body))
                break
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(_watch_disconnect(receive, exchange, sink))
            try:
                await sink.drain_to(send, exchange)
            finally:
                watcher.cancel()


async def _discard_rest(receive: Receive, message: Mapping[str, Any]) -> None:
    # Closing with unread bytes would reset the connection and could destroy the answer on its way.
    discarded = 0
    while message.get("more_body", False) and discarded < DISCARD_BYTES_MAX:
        message = await receive()
        discarded += len(message.get("body", b""))


async def _watch_disconnect(receive: Receive, exchange: Exchange, sink: _QueueSink) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    exchange.on_client_lost()
    sink.forsake()


class _Cut(ConnectionError):
    """Raised inside the ASGI app to make the server drop the connection."""


class _QueueSink:
    """A ClientSink whose writes are carried out by the request's ASGI task."""

    HIGH_BYTES = 64 * 1024

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []
        self._bytes = 0
        self._more = asyncio.Event()
        self._was_cut = False
        self._forsaken = False
        self.close_after = False

    def start(self, status: int, header_lines: bytes, length: int | None) -> None:
        headers = [
            (name, value)
            for name, _, value in (line.partition(b": ") for line in header_lines.split(b"\r\n") if line)
        ]
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        if self.close_after:
            headers.append((b"connection", b"close"))
        self._put({"type": "http.response.start", "status": status, "headers": headers})

    def write(self, data: bytes) -> None:
        self._bytes += len(data)
        self._put({"type": "http.response.body", "body": data, "more_body": True})

    def end(self, data: bytes = b"") -> None:
        self._bytes += len(data)
        self._put({"type": "http.response.body", "body": data, "more_body": False})

    def cut(self) -> None:
        self._was_cut = True
        self._more.set()

    def forsake(self) -> None:
        """Nobody is there to read any more."""
        self._forsaken = True
        self._more.set()

    def _put(self, message: dict[str, Any]) -> None:
        self._messages.append(message)
        self._more.set()

    async def drain_to(self, send: Send, exchange: Exchange) -> None:
        paused = False
        while True:
            await self._more.wait()
            self._more.clear()
            if self._forsaken:
                return
            if self._bytes > self.HIGH_BYTES and not paused:
                paused = True
                exchange.pause()
            messages, self._messages, self._bytes = self._messages, [], 0
            for message in messages:
                await send(message)
                if message["type"] == "http.response.body" and not message["more_body"]:
                    return
            if self._was_cut:
                raise _Cut
            if paused and not self._messages:
                paused = False
                exchange.resume()


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
