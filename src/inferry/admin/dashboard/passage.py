"""From the dashboard to the gateway's own API, for the playground: a page may only talk to the server that it came
from, so this hands its requests on, as they are, with the key that the page was given for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from inferry.core.errors import EngineUnreachable, UnknownRoute

_ROUTES = frozenset(
    {"v1/chat/completions", "v1/completions", "v1/embeddings", "v1/models", "v1/responses", "v1/messages"}
)
_KEPT = ("content-type", "retry-after", "x-request-id", "x-inferry-replica")


def make_passage_router(client: httpx.AsyncClient, gateway_url: str) -> APIRouter:
    """`/gateway/v1/...`. The caller closes `client`.

    The key for the gateway comes in `x-gateway-key`: `Authorization` is for the control API itself.
    """
    router = APIRouter(include_in_schema=False)

    @router.api_route("/gateway/{path:path}", methods=["GET", "POST"])
    async def hand_on(request: Request, path: str) -> Response:
        if path not in _ROUTES:
            raise UnknownRoute(f"Only {', '.join(sorted(_ROUTES))} are handed on, not {path!r}.")
        headers = {"content-type": request.headers.get("content-type", "application/json")}
        if key := request.headers.get("x-gateway-key"):
            headers["authorization"] = f"Bearer {key}"
        asked = client.build_request(
            request.method, f"{gateway_url}/{path}", headers=headers, content=await request.body()
        )
        try:
            answer = await client.send(asked, stream=True)
        except httpx.HTTPError as error:
            raise EngineUnreachable(f"The gateway does not answer: {type(error).__name__}.") from error
        told = {name: answer.headers[name] for name in _KEPT if name in answer.headers}
        return StreamingResponse(_bytes_of(answer), answer.status_code, headers=told)

    return router


async def _bytes_of(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in answer.aiter_bytes():
            yield part
    finally:  # also when the page is left: then the gateway stops the engine's work
        await answer.aclose()
