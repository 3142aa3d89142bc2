"""Whom to connect to, and a request's bytes."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from inferry.bench.plan import Target
from inferry.core.errors import BadBenchPlan

_FITS_IN_A_HEADER = re.compile(r"[!-~]+")


class Destination:
    """A target's base URL, taken apart. Raises BadBenchPlan, with nothing of the key in it."""

    def __init__(self, target: Target, environ: Mapping[str, str]) -> None:
        url = target.base_url
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise BadBenchPlan(f"{url!r} is no URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadBenchPlan(
                f"{url!r} is no address of a server; write http://HOST:PORT/v1 or https://HOST/v1."
            )
        if parts.username is not None or parts.password is not None:
            raise BadBenchPlan(
                "the base URL has a user or a password in it; keys come from an environment variable."
            )
        if parts.query or parts.fragment or not parts.path.isascii():
            raise BadBenchPlan(f"the base URL {url!r} has more than a host, a port and a plain path.")
        self.host = parts.hostname
        self.tls = parts.scheme == "https"
        self.port = port or (443 if self.tls else 80)
        named = f"[{self.host}]" if ":" in self.host else self.host
        self._prefix = parts.path.rstrip("/")
        self._fixed = (
            f"Host: {named}{f':{port}' if port else ''}\r\n"
            "User-Agent: inferry-bench\r\n"
            "Accept: */*\r\n"
            "Accept-Encoding: identity\r\n"
            "Content-Type: application/json\r\n" + _key_headers(target, environ)
        )

    def tls_context(self) -> ssl.SSLContext | None:
        """Checks certificates against the system's, or those that SSL_CERT_FILE names. None: plain HTTP."""
        return ssl.create_default_context() if self.tls else None

    def request(self, path: str, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
        """Head and body. `path` is relative to the base URL."""
        more = "".join(f"{name}: {value}\r\n" for name, value in headers)
        head = f"POST {self._prefix}{path} HTTP/1.1\r\n{self._fixed}{more}Content-Length: {len(body)}\r\n\r\n"
        return head.encode("latin-1") + body


def _key_headers(target: Target, environ: Mapping[str, str]) -> str:
    variable = target.key_variable
    if variable is None:
        return ""
    key = environ.get(variable, "").strip()
    if not key:
        raise BadBenchPlan(
            f"The environment variable {variable}, which shall hold the API key, is not set or empty."
        )
    if not _FITS_IN_A_HEADER.fullmatch(key):
        raise BadBenchPlan(
            f"The key in the environment variable {variable} holds a space, a line break or a sign that no HTTP "
            "header can carry. Set it anew."
        )
    # Anthropic's own service reads the second, engines with its API the first.
    anthropic = f"x-api-key: {key}\r\n" if target.api == "messages" else ""
    return f"Authorization: Bearer {key}\r\n{anthropic}"
