"""Reads a request's head once: its id, its credential, where it came from, and what the engine is told of it.

Built from the settings of one generation; a request that has arrived keeps what it was given.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

from inferry.core.gateway_settings import Gateway as GatewaySettings
from inferry.gateway.client_address import ClientAddresses
from inferry.gateway.cors import CorsPolicy
from inferry.gateway.cross_site import CrossSiteGuard
from inferry.gateway.trace_context import TraceContext, TraceContexts

Headers = list[tuple[bytes, bytes]]

_SAFE_ID = re.compile(rb"[\w.:-]{1,128}", re.ASCII)
# Headers of the client's that mean something to an engine. Credentials are never among them.
_TRACING = (b"traceparent", b"tracestate")
_FORWARDED: Final = frozenset({*_TRACING, b"anthropic-version", b"anthropic-beta"})
_FORWARDED_BYTES_MAX = 8192
_ID_BYTES = 12
_IDS_AT_ONCE = 256
_NOTHING: Mapping[bytes, bytes] = {}
_INTERESTING: Final = _FORWARDED | {
    b"authorization", b"origin", b"sec-fetch-site", b"x-api-key", b"x-inferry-explain", b"x-request-id",
}  # fmt: skip


class Arrival:
    """What the head of one request says."""

    __slots__ = (
        "authorization", "client", "explain", "forward", "id", "id_line", "kept", "origin", "refusal", "request_id",
        "trace", "x_api_key",
    )  # fmt: skip

    def __init__(self, own_id: str) -> None:
        self.id = own_id
        """Ours, for the ledger: unique whatever clients send."""
        self.request_id = own_id
        """The client's `x-request-id` if it is sane; shown to client and engine."""
        self.id_line = b""
        """Header line with the request's id, for both sides."""
        self.forward = b""
        """Header lines for the engine."""
        self.authorization: bytes | None = None
        self.x_api_key: bytes | None = None
        self.origin: bytes | None = None
        self.kept = _NOTHING
        """By name in lower case: headers that the file tells callers apart by."""
        self.client = ""
        self.trace: TraceContext | None = None
        self.explain = False
        self.refusal: Exception | None = None


class RequestIds:
    """Ids of 96 random bits; many at a time, since asking the kernel costs more than all else about an id."""

    def __init__(self) -> None:
        self._left: list[str] = []

    def next(self) -> str:
        left = self._left
        if not left:
            digits = os.urandom(_ID_BYTES * _IDS_AT_ONCE).hex()
            step = 2 * _ID_BYTES
            left += [f"req-{digits[at : at + step]}" for at in range(0, len(digits), step)]
        return left.pop()


class Edge:
    """How requests come in, by the settings of one generation."""

    def __init__(
        self, settings: GatewaySettings, generation: int, kept: frozenset[bytes] = frozenset()
    ) -> None:
        """`kept`: headers, in lower case, whose values requests shall keep."""
        self._ids = RequestIds()
        self._kept = kept
        self._interesting = _INTERESTING | kept
        self.cors = CorsPolicy(settings.cors)
        self.guard = CrossSiteGuard(settings, self.cors)
        self._addresses = ClientAddresses(settings.trusted_proxies)
        self._traces = None if settings.traces is None else TraceContexts(settings.traces.sample)
        self._scheme = "http" if settings.tls is None else "https"
        self._wants_client = settings.access_log or settings.traces is not None
        self._generation = b"x-inferry-generation: %d\r\n" % generation
        self._plain = self._generation + self.cors.lines(None)

    def arrive(self, method: bytes, headers: Headers, peer: str | None) -> Arrival:
        """`headers`: names in lower case. `peer`: the address at the other end of the connection."""
        arrival = Arrival(self._ids.next())
        forward: list[bytes] = []
        guarded = False
        interesting = self._interesting
        for name, value in headers:
            if name not in interesting:
                continue
            if name in self._kept:
                arrival.kept = {**arrival.kept, name: value}
                if name not in _INTERESTING:
                    continue
            if name == b"authorization":
                arrival.authorization = value
            elif name == b"x-api-key":
                arrival.x_api_key = value
            elif name == b"x-request-id":
                if _SAFE_ID.fullmatch(value):
                    arrival.request_id = value.decode("ascii")
            elif name == b"origin":
                arrival.origin = value
                guarded = True
            elif name == b"sec-fetch-site":
                guarded = True
            elif name == b"x-inferry-explain":
                arrival.explain = True
            elif len(value) <= _FORWARDED_BYTES_MAX and (self._traces is None or name not in _TRACING):
                forward += (name, b": ", value, b"\r\n")
        if guarded and self.guard.active:
            arrival.refusal = self.guard.refusal(method, headers)
        if self._traces is not None:
            arrival.trace = self._traces.begin(headers)
            forward.append(arrival.trace.lines)
        if self._wants_client:
            arrival.client = self._addresses.find(peer, self._scheme, headers)[0]
        arrival.id_line = id_line = f"x-request-id: {arrival.request_id}\r\n".encode("ascii")
        arrival.forward = b"".join(forward) + id_line if forward else id_line
        return arrival

    def answer_lines(self, arrival: Arrival) -> bytes:
        """Header lines that every answer carries: the generation, and what browsers must know."""
        if arrival.origin is None:
            return self._plain
        return self._generation + self.cors.lines(arrival.origin)
