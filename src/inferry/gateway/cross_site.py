"""Keeps web pages of other sites away from a gateway that asks for no keys.

Any page in any browser on this machine can send requests to 127.0.0.1. Without keys, nothing else would stop
it from using the models (it could not read the answers, but they cost all the same), and DNS rebinding, where
the page's own name comes to mean 127.0.0.1, would let it read the answers too. Browsers say in headers that
scripts can't change where a request comes from; programs send no such headers and are never bothered.

With keys there is nothing to defend: a foreign page has none, and no cookie stands for one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from inferry.core.errors import CrossSiteRequest
from inferry.core.gateway_settings import Gateway, is_loopback
from inferry.gateway.cors import CorsPolicy

_HOSTS_REMEMBERED_MAX = 256
_HOST_BYTES_MAX = 255


class CrossSiteGuard:
    """Says no to requests that another site's page made. Remembers only which Host headers were fine."""

    def __init__(self, settings: Gateway, cors: CorsPolicy) -> None:
        self._cors = cors
        self.active = settings.auth == "none"
        """False: never refuses, so callers need not ask."""
        self._checks_host = self.active and is_loopback(settings.host)
        self._names = {"localhost", settings.host.lower()}
        self._names |= {_host_name(origin.partition(b"://")[2]) for origin in cors.origins}
        self._known: set[bytes] = set()

    def refusal(self, method: bytes, headers: Iterable[tuple[bytes, bytes]]) -> CrossSiteRequest | None:
        """Why this request is refused, or None. `headers`: names in lower case."""
        if not self.active:
            return None
        origin = host = site = mode = None
        for name, value in headers:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
            elif name == b"sec-fetch-mode":
                mode = value
        if origin is None and site is None:
            return None
        return self._refusal(method, origin, host or b"", site, mode)

    def _refusal(
        self, method: bytes, origin: bytes | None, host: bytes, site: bytes | None, mode: bytes | None
    ) -> CrossSiteRequest | None:
        if origin is not None and self._cors.allows(origin):
            return None
        if self._checks_host and not self._knows(host):
            return CrossSiteRequest(
                f"This gateway does not know itself as '{_shown(host)}': a web page may be posing as it (DNS "
                f"rebinding). If that name is meant, put its origin (https://{_shown(host)}) into "
                "gateway.cors.origins; or ask for keys (gateway.auth: keys)."
            )
        if origin is not None and origin.partition(b"://")[2].lower() != host.lower():
            return CrossSiteRequest(
                f"Pages of '{_shown(origin)}' may not use this gateway, which asks for no keys. If that is meant, "
                "put the origin into gateway.cors.origins; or ask for keys (gateway.auth: keys)."
            )
        # A link that somebody follows opens as its own page, which the site with the link can't read.
        follows_link = method in (b"GET", b"HEAD") and mode == b"navigate"
        if origin is None and site == b"cross-site" and not follows_link:
            return CrossSiteRequest(
                "A page of another site sent this request (Sec-Fetch-Site: cross-site), and this gateway asks for "
                "no keys. If that is meant, put the page's origin into gateway.cors.origins; or ask for keys "
                "(gateway.auth: keys)."
            )
        return None

    def _knows(self, host: bytes) -> bool:
        if host in self._known:
            return True
        if len(host) > _HOST_BYTES_MAX:
            return False
        name = _host_name(host)
        # An address can't be rebound: only names can.
        if not (name in self._names or name.endswith(".localhost") or _is_address(name)):
            return False
        if len(self._known) < _HOSTS_REMEMBERED_MAX:
            self._known.add(host)
        return True


def _host_name(authority: bytes) -> str:
    """`Example.com:80` as `example.com`, `[::1]:80` as `::1`."""
    text = authority.decode("latin-1").lower()
    if text.startswith("["):
        name, _, port = text[1:].partition("]")
        return text if port and not port.startswith(":") else name
    return text.partition(":")[0].removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _shown(value: bytes) -> str:
    text = value.decode("latin-1")
    return text if len(text) <= 100 else f"{text[:97]}..."
