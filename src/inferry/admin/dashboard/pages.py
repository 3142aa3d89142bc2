"""The dashboard's files. They hold nothing of this instance: what they show, they ask for, signed in."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from inferry.core.errors import UnknownRoute

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
HEADERS = {
    # Nothing from elsewhere, nothing inline, no frame around it. uPlot and the page set styles through the DOM,
    # which a policy without 'unsafe-inline' allows.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


def make_pages_router() -> APIRouter:
    """`/` and `/ui/NAME`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def index(request: Request) -> Response:
        return _answer(request, "index.html")

    @router.get("/ui/{name}")
    async def file(request: Request, name: str) -> Response:
        return _answer(request, name)

    return router


@cache
def static_files() -> dict[str, tuple[bytes, str, str]]:
    """By name: content, media type, entity tag."""
    found: dict[str, tuple[bytes, str, str]] = {}
    for path in files("inferry.admin.dashboard").joinpath("static").iterdir():
        suffix = "." + path.name.rpartition(".")[2]
        if suffix in _TYPES:
            content = path.read_bytes()
            found[path.name] = (content, _TYPES[suffix], f'"{hashlib.sha256(content).hexdigest()[:20]}"')
    return found


def _answer(request: Request, name: str) -> Response:
    known = static_files().get(name)
    if known is None:
        raise UnknownRoute(f"The dashboard has no file '{name}'.")
    content, media_type, tag = known
    headers = {**HEADERS, "etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)
