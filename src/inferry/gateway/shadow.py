"""Copies of requests for deployments that are tried out: nobody waits for them, nobody sees their answers.

A copy is a request of its own: it passes its deployment's filters, limits and queue, at the lowest priority, and ends
in an outcome of its own. That one has the request id of the original, the tenant `shadow` and no key, so it is on
nobody's bill.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from inferry.core.api_key import Caller
from inferry.core.errors import InferryError
from inferry.core.outcome import Ending
from inferry.core.request import InferenceRequest
from inferry.gateway.edge import Arrival
from inferry.gateway.entry import Entry
from inferry.gateway.exchange import Exchange
from inferry.gateway.host import Host
from inferry.gateway.served import ServedDeployment
from inferry.gateway.shadow_target import ShadowTarget

log = structlog.get_logger()


class _Nobody:
    """A ClientSink that throws everything away."""

    def start(self, status: int, header_lines: bytes, length: int | None) -> None: ...

    def write(self, data: bytes) -> None: ...

    def end(self, data: bytes = b"") -> None: ...

    def cut(self) -> None: ...


class ShadowExchange(Exchange):
    """One copy, from the queue of its deployment to its outcome."""

    __slots__ = ("_on_over",)

    def __init__(
        self,
        gateway: Host,
        request: InferenceRequest,
        arrival: Arrival,
        deployment: ServedDeployment,
        caller: Caller,
        on_over: Callable[[], None],
    ) -> None:
        super().__init__(gateway, _Nobody(), request.route, arrival)
        self.caller = caller
        self.request = request
        self.deployment = deployment
        self._on_over = on_over

    def run(self) -> None:
        """Begin; from here on, it goes by itself."""
        gateway, deployment = self._gateway, self.deployment
        assert deployment is not None
        assert self.caller is not None
        assert self.request is not None
        gateway.active.add(self)
        self._stamp()
        self.entry = Entry(self, gateway, self.caller, deployment, self.request)
        self.entry.begin()

    def _end(self, ending: Ending, status: int, error_code: str | None) -> None:
        super()._end(ending, status, error_code)
        self._on_over()


class Shadows:
    """Sends copies, behind the back of the requests that they are of."""

    def __init__(self, gateway: Host, loop: asyncio.AbstractEventLoop) -> None:
        self._gateway = gateway
        self._loop = loop

    def send(self, request: InferenceRequest, original: Arrival, target: ShadowTarget) -> None:
        """A copy of the request, soon: what happens to it never comes back here."""
        if target.is_full:
            self._gateway.metrics.count_left_out(target.deployment.name)
            return
        target.under_way += 1
        # As it is now: a fallback's filters may change the body, and must not change it here.
        self._loop.call_soon(self._begin, replace(request), original, target)

    def _begin(self, request: InferenceRequest, original: Arrival, target: ShadowTarget) -> None:
        gateway = self._gateway
        try:
            arrival = gateway.edge.arrive(b"POST", _headers(original.forward), None)
            exchange = ShadowExchange(
                gateway, request, arrival, target.deployment, gateway.callers.shadow, target.on_over
            )
        except Exception:
            log.exception("shadow_broke", deployment=target.deployment.name)
            target.on_over()
            return
        try:
            exchange.run()
        except Exception:
            log.exception("shadow_broke", deployment=target.deployment.name)
            exchange.abort(InferryError("The copy could not be sent."))


def _headers(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Of header lines for an engine: the request's id, its trace, and what else an engine is told."""
    pairs = (line.partition(b": ") for line in lines.split(b"\r\n") if line)
    return [(name, value) for name, _, value in pairs]
