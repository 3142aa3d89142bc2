"""What browsers are told about which pages may call the gateway and read its answers (CORS).

Source: https://fetch.spec.whatwg.org/#http-cors-protocol. Header lines are made once per configured origin;
a request costs one look-up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from inferry.core.gateway_settings import Cors

Headers = Iterable[tuple[bytes, bytes]]

# Headers of ours that a page may read; those of every answer (content-type and the like) it always may.
EXPOSED = (
    "x-request-id",
    "x-inferry-deployment",
    "x-inferry-fallback",
    "x-inferry-replica",
    "x-inferry-simulated",
    "x-inferry-timing",
    "x-inferry-why",
    "x-inferry-flags",
    "x-inferry-generation",
    "x-inferry-warning",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "retry-after",
)
_METHODS = b"GET, HEAD, POST, OPTIONS"
_NAMES = re.compile(rb"[\w!#$%&'*+.^`|~-]+(?:[ \t]*,[ \t]*[\w!#$%&'*+.^`|~-]+)*", re.ASCII)
_NAMES_BYTES_MAX = 4096


def normal_origin(text: str) -> bytes:
    """`text` as a browser would send it: lower case, without the scheme's own port."""
    text = text.lower()
    for scheme, port in (("http://", ":80"), ("https://", ":443")):
        if text.startswith(scheme):
            text = text.removesuffix(port)
    return text.encode("utf-8")


def header(headers: Headers, name: bytes) -> bytes | None:
    """The first value of `name` (lower case), or None."""
    for each, value in headers:
        if each == name:
            return value
    return None


class CorsPolicy:
    """Header lines by origin. Without settings, no page of another site may read anything."""

    def __init__(self, settings: Cors | None) -> None:
        self.origins: frozenset[bytes] = frozenset()
        """Those that the file names; empty also where it says '*'."""
        self._by_origin: dict[bytes, bytes] = {}
        self._otherwise = b""
        self._max_age_s = 0
        if settings is None:
            return
        self._max_age_s = settings.max_age_s
        exposed = f"access-control-expose-headers: {', '.join(EXPOSED)}\r\n".encode()
        if "*" in settings.origins:
            self._otherwise = b"access-control-allow-origin: *\r\n" + exposed
            return
        self.origins = frozenset(map(normal_origin, settings.origins))
        credentials = b"access-control-allow-credentials: true\r\n" if settings.credentials else b""
        for origin in self.origins:
            allow = b"access-control-allow-origin: " + origin + b"\r\n"
            self._by_origin[origin] = allow + credentials + exposed + b"vary: Origin\r\n"
        # Caches must not hand an answer without permission to a page that has it, nor the other way round.
        self._otherwise = b"vary: Origin\r\n"

    def allows(self, origin: bytes) -> bool:
        """Whether pages of `origin`, as the browser wrote it, may call."""
        return origin in self._by_origin or self._allows_all

    @property
    def _allows_all(self) -> bool:
        return not self._by_origin and self._otherwise != b""

    def lines(self, origin: bytes | None) -> bytes:
        """Header lines for an answer to a request with this `Origin` header (None: it has none)."""
        if origin is None:
            return self._otherwise
        return self._by_origin.get(origin, self._otherwise)

    def preflight(self, headers: Headers) -> tuple[int, bytes] | None:
        """Status and header lines that answer an OPTIONS request; None if it is no preflight.

        204 with what is allowed, or 403 without any of it, which makes the browser refuse.
        """
        headers = list(headers)
        origin = header(headers, b"origin")
        if origin is None or header(headers, b"access-control-request-method") is None:
            return None
        if not self.allows(origin):
            return 403, self._otherwise
        lines = self.lines(origin) + b"access-control-allow-methods: " + _METHODS + b"\r\n"
        # By name: '*' would not cover Authorization.
        asked = header(headers, b"access-control-request-headers") or b""
        if len(asked) <= _NAMES_BYTES_MAX and _NAMES.fullmatch(asked):
            lines += (
                b"access-control-allow-headers: " + asked + b"\r\nvary: Access-Control-Request-Headers\r\n"
            )
        return 204, lines + b"access-control-max-age: %d\r\n" % self._max_age_s
