"""Everything that is not hot: model list, health, metrics, errors for unknown paths, and the slow front.

The slow front runs an exchange through ASGI messages. It serves requests that were pipelined behind a running
one, and proves in the conformance suite that both fronts answer alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from inferry.core.errors import BodyTooLarge, InferryError, MethodNotAllowed, UnknownRoute
from inferry.core.gateway_settings import is_loopback
from inferry.core.request import Route
from inferry.core.suggest import did_you_mean
from inferry.gateway.collector import metrics_page
from inferry.gateway.edge import Arrival
from inferry.gateway.exchange import Exchange
from inferry.gateway.fronts.front import Front
from inferry.gateway.fronts.front_exchange import CallersModels, model_header, open_exchange
from inferry.gateway.fronts.pages import ELSEWHERE, FRONT_PAGES, FRONT_QUESTIONS, Question
from inferry.gateway.fronts.table import ENTRANCES, FRONTS, error_writer
from inferry.gateway.gateway import Gateway
from inferry.gateway.openapi import openapi_document
from inferry.gateway.protocol import DISCARD_BYTES_MAX
from inferry.gateway.public_names import unknown_model
from inferry.ledger.keyring import require_scope

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
_JSON = b"application/json"
QUESTION_BYTES_MAX = 64 * 1024
"""Of the body of a question that is no inference: it names a model, and little more."""
_NOT_FROM_HERE = frozenset({b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via", b"origin"})
"""Headers that proxies and browsers send for somebody else."""


class _Visit:
    """A request for a page."""

    def __init__(self, arrival: Arrival, scope: Scope) -> None:
        self.arrival = arrival
        self.path: str = scope["path"]
        self.model = model_header(scope["headers"])
        self.body = b""
        """Of a POST."""
        self.is_local = _is_local(scope)
        """From a program on this machine, and not for somebody behind a proxy on it or a page in its browser."""


def _is_local(scope: Scope) -> bool:
    client = scope.get("client")
    if client is None or not is_loopback(client[0]):
        return False
    headers: list[tuple[bytes, bytes]] = list(scope["headers"])
    if any(name in _NOT_FROM_HERE for name, _ in headers):
        return False
    # A tunnel or proxy that adds nothing still passes on the name that it was asked by; so does DNS rebinding.
    hosts = [value for name, value in headers if name == b"host"]
    return len(hosts) == 1 and is_loopback(_host_name(hosts[0]))


def _host_name(authority: bytes) -> str:
    try:
        return urlsplit(f"//{authority.decode('latin-1')}").hostname or ""
    except ValueError:
        return ""


class GatewayApp:
    """The ASGI application behind the fast front."""

    def __init__(self, gateway: Gateway, metrics: Callable[[], Awaitable[bytes]] | None = None) -> None:
        """`metrics`: gives the page over all gateway processes; left out, it shows this one alone."""
        self._gateway = gateway
        self._metrics_of_all = metrics
        self._pages: dict[str, Callable[[_Visit], Awaitable[tuple[int, bytes, bytes]]]] = {
            "/": self._root,
            "/health": self._health,
            "/metrics": self._metrics,
            "/openapi.json": self._openapi,
            "/v1/models": self._models,
            **dict.fromkeys([*FRONT_PAGES, *FRONT_QUESTIONS], self._front_page),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        if method == "POST" and (entrance := ENTRANCES.get(path)) is not None:
            await self._exchange(entrance, scope, receive, send)
            return
        edge = self._gateway.edge
        client = scope.get("client")
        arrival = edge.arrive(method.encode("latin-1"), scope["headers"], client[0] if client else None)
        extra = edge.answer_lines(arrival)
        if method == "OPTIONS" and (preflight := edge.cors.preflight(scope["headers"])) is not None:
            status, extra = preflight
            kind, body = b"", b""
        else:
            try:
                if arrival.refusal is not None:
                    raise arrival.refusal
                status, kind, body = await self._page(path, method, _Visit(arrival, scope), receive)
            except InferryError as error:
                status, kind, body = error.status, _JSON, error_writer(path)(error)
                extra += arrival.id_line
                if isinstance(error, MethodNotAllowed):
                    extra += b"allow: %b\r\n" % ", ".join(self._allowed(path)).encode()
        headers = [] if status == 204 else [(b"content-length", b"%d" % len(body))]
        if kind:
            headers.append((b"content-type", kind))
        headers += _pairs(extra)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})

    async def _page(
        self, path: str, method: str, visit: _Visit, receive: Receive
    ) -> tuple[int, bytes, bytes]:
        allowed = self._allowed(path)
        if not allowed:
            missing = f"There is no {method[:40]} {path[:200]} here"
            if (instead := ELSEWHERE.get(path)) is not None:
                raise UnknownRoute(f"{missing}: {instead}")
            known = [*self._pages, *ENTRANCES]
            raise UnknownRoute(f"{missing}.{did_you_mean(path[:200], known)}")
        if method not in allowed:
            named = " or ".join(each for each in allowed if each != "HEAD")
            raise MethodNotAllowed(f"{path[:200]} takes {named}, not {method[:40]}.")
        if method == "POST":
            self._names(visit)  # who may not ask is told so before anything is read
            visit.body = await self._question_body(receive)
        return await self._pages.get(path, self._model)(visit)

    def _allowed(self, path: str) -> list[str]:
        """The methods of a path; none if there is no such path."""
        if path in FRONT_QUESTIONS:
            return ["POST"]
        allowed = ["GET", "HEAD"] if path in self._pages or path.startswith("/v1/models/") else []
        return [*allowed, "POST"] if path in ENTRANCES else allowed

    async def _question_body(self, receive: Receive) -> bytes:
        body = bytearray()
        more = True
        limit = min(QUESTION_BYTES_MAX, self._gateway.settings.body_max_bytes)
        while more:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > limit:
                raise BodyTooLarge(
                    f"The request body is too long: the limit is {limit:,} bytes for this path."
                )
            more = message.get("more_body", False)
        return bytes(body)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            "The request body is too long: the limit is "
            f"{int(self._gateway.settings.body_max_bytes):,} bytes (gateway.body_max_bytes)."
        )

    # --- pages ----------------------------------------------------------------------------------------

    async def _root(self, _visit: _Visit) -> tuple[int, bytes, bytes]:
        served = {path for deployment in self._gateway.deployments.values() for path in deployment.routes}
        fronts = {front.path for front in FRONTS.values() if front.route.path in served}
        about = {"name": "inferry", "api": sorted({*self._pages, *served, *fronts})}
        if not self._gateway.callers.asks_keys:
            about["models"] = sorted({*self._gateway.deployments, *self._gateway.public_names.splits})
        return 200, _JSON, msgspec.json.encode(about)

    async def _health(self, _visit: _Visit) -> tuple[int, bytes, bytes]:
        health = self._gateway.health()
        return (503 if health["status"] in ("down", "draining") else 200), _JSON, msgspec.json.encode(health)

    async def _metrics(self, visit: _Visit) -> tuple[int, bytes, bytes]:
        gateway = self._gateway
        if gateway.callers.asks_keys and not visit.is_local:
            key = gateway.callers.key_of(visit.arrival)
            if not key.scopes & {"admin", "read-only"}:
                require_scope(key, "read-only")
        if self._metrics_of_all is None:
            page = metrics_page(gateway.snapshot(), gateway.views.values())
        else:
            page = await self._metrics_of_all()
        return 200, CONTENT_TYPE_LATEST.encode(), page

    async def _openapi(self, _visit: _Visit) -> tuple[int, bytes, bytes]:
        gateway = self._gateway
        asks_keys = gateway.callers.asks_keys
        return 200, _JSON, openapi_document(keys=asks_keys, models=() if asks_keys else gateway.names)

    async def _models(self, visit: _Visit) -> tuple[int, bytes, bytes]:
        listing = {"object": "list", "data": [self._describe(name) for name in self._names(visit)]}
        return 200, _JSON, msgspec.json.encode(listing)

    async def _model(self, visit: _Visit) -> tuple[int, bytes, bytes]:
        name = visit.path.removeprefix("/v1/models/")
        names = self._names(visit)
        if name not in names:
            raise unknown_model(name, names)
        return 200, _JSON, msgspec.json.encode(self._describe(name))

    async def _front_page(self, visit: _Visit) -> tuple[int, bytes, bytes]:
        gateway = self._gateway
        key = gateway.callers.key_of(visit.arrival) if gateway.callers.asks_keys else None
        question = Question(gateway, self._names(visit), CallersModels(gateway, key, visit.model), visit.body)
        page = FRONT_PAGES.get(visit.path) or FRONT_QUESTIONS[visit.path]
        return 200, _JSON, msgspec.json.encode(page(question))

    def _names(self, visit: _Visit) -> Sequence[str]:
        """The models that this caller may know of."""
        callers = self._gateway.callers
        return list(self._gateway.names_for(callers.key_of(visit.arrival) if callers.asks_keys else None))

    def _describe(self, name: str) -> dict[str, object]:
        return {
            "id": name,
            "object": "model",
            "created": int(self._gateway.created_wall_s),
            "owned_by": "inferry-simulated" if self._gateway.public_names.is_simulated(name) else "inferry",
        }

    # --- the slow front -------------------------------------------------------------------------------

    async def _exchange(self, entrance: Route | Front, scope: Scope, receive: Receive, send: Send) -> None:
        sink = _QueueSink()
        client = scope.get("client")
        arrival = self._gateway.edge.arrive(b"POST", scope["headers"], client[0] if client else None)
        exchange = sink.exchange = open_exchange(entrance, self._gateway, sink, arrival, scope["headers"])
        if (error := exchange.open()) is not None:
            sink.close_after = True
            exchange.reject(error)
            await _discard_rest(receive, {"more_body": True})
            await sink.drain_to(send)
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
                exchange.reject(self._too_large())
                await _discard_rest(receive, message)
                break
            if not message.get("more_body", False):
                exchange.begin(bytes(body))
                break
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(_watch_disconnect(receive, exchange, sink))
            try:
                await sink.drain_to(send)
            finally:
                watcher.cancel()


def _pairs(lines: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (name, value) for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n") if line)
    ]


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
        self.exchange: Exchange | None = None
        self._messages: list[dict[str, Any]] = []
        self._bytes = 0
        """Written and not sent yet."""
        self._paused = False
        self._more = asyncio.Event()
        self._was_cut = False
        self._forsaken = False
        self.close_after = False

    def start(self, status: int, header_lines: bytes, length: int | None) -> None:
        headers = _pairs(header_lines)
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        if self.close_after:
            headers.append((b"connection", b"close"))
        self._put({"type": "http.response.start", "status": status, "headers": headers})

    def write(self, data: bytes) -> None:
        self._bytes += len(data)
        self._put({"type": "http.response.body", "body": data, "more_body": True})
        # Here, and not where it is sent: that waits for a client that does not read.
        if self._bytes > self.HIGH_BYTES and not self._paused and self.exchange is not None:
            self._paused = True
            self.exchange.pause()

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

    async def drain_to(self, send: Send) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            if self._forsaken:
                return
            messages, self._messages = self._messages, []
            for message in messages:
                await send(message)
                if message["type"] != "http.response.body":
                    continue
                if not message["more_body"]:
                    return
                self._bytes -= len(message["body"])
            if self._was_cut:
                raise _Cut
            if self._paused and not self._messages and self.exchange is not None:
                self._paused = False
                self.exchange.resume()


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
