"""The few calls of the Kubernetes API that the runtime makes, on httpx.

Why not the `kubernetes` package: see docs/decisions/0031-kubernetes-runtime.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

from inferry.runtime.kubernetes.access import Access
from inferry.runtime.kubernetes.errors import ApiAway, ApiRefused

CALL_TIMEOUT_S = 20.0
WATCH_S = 240
"""A watch is asked for again after so long: one whose connection died unseen is not believed for ever."""
WATCH_SILENCE_S = WATCH_S + 30.0

Object = Mapping[str, Any]
MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a watch."""

    kind: str
    """ADDED, MODIFIED, DELETED, BOOKMARK."""
    content: Object


class KubernetesClient:
    """One API server, from one event loop. Raises ApiRefused and ApiAway."""

    def __init__(self, access: Access, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.namespace = access.namespace
        self._access = access
        self._http = httpx.AsyncClient(
            base_url=access.url,
            verify=access.tls,
            transport=transport,
            timeout=CALL_TIMEOUT_S,
            trust_env=False,
            headers={"User-Agent": "inferry", "Accept": "application/json"},
        )

    def path(self, group: str, resource: str, name: str = "", part: str = "") -> str:
        """Of a collection, an object or its subresource in our namespace; `group` as `v1` or `apps/v1`."""
        root = "/api" if group == "v1" else "/apis"
        words = [root, group, "namespaces", self.namespace, resource, name, part]
        return "/".join(word for word in words if word)

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Object:
        return await self._ask("GET", path, params=params)

    async def create(self, path: str, body: Object) -> Object:
        return await self._ask("POST", path, body=body)

    async def replace(self, path: str, body: Object) -> Object:
        return await self._ask("PUT", path, body=body)

    async def patch(self, path: str, body: Object) -> Object:
        """A merge patch; with `metadata.resourceVersion` in it, only if the object is still that one."""
        return await self._ask("PATCH", path, body=body, content_type=MERGE)

    async def delete(self, path: str, grace_s: int, uid: str) -> None:
        """Exactly this object: another one of the same name stays. One that is gone is fine."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": grace_s,
            "preconditions": {"uid": uid},
        }
        try:
            await self._ask("DELETE", path, body=body)
        except ApiRefused as error:
            if error.http_status not in (404, 409):
                raise

    async def text(self, path: str, params: Mapping[str, str]) -> str:
        """Of a log."""
        return (await self._answer("GET", path, params=params)).text

    async def watch(self, path: str, version: str, selector: str) -> AsyncIterator[Event]:
        """What changes from `version` on, until the server ends it. ApiRefused with 410 when it knows that version no
        more."""
        params = {
            "watch": "1",
            "labelSelector": selector,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_S),
        }
        timeout = httpx.Timeout(CALL_TIMEOUT_S, read=WATCH_SILENCE_S)
        try:
            async with self._http.stream(
                "GET", path, params=params, headers=self._headers(), timeout=timeout
            ) as answer:
                if answer.status_code >= 400:
                    await answer.aread()
                    raise _refusal(answer)
                async for line in answer.aiter_lines():
                    if line:
                        yield _event(line)
        except httpx.HTTPError as error:
            raise ApiAway(f"the watch of {path} broke off: {_words(error)}") from error

    async def close(self) -> None:
        await self._http.aclose()

    def _headers(self) -> dict[str, str]:
        token = self._access.token()
        return {} if token is None else {"Authorization": f"Bearer {token}"}

    async def _ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        answer = await self._answer(method, path, params, body, content_type)
        try:
            found = msgspec.json.decode(answer.content, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ApiAway(f"{self._access.url} answers, but not as an API server: {error}") from error
        return found

    async def _answer(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> httpx.Response:
        headers = self._headers()
        content = None
        if body is not None:
            content, headers["Content-Type"] = msgspec.json.encode(body), content_type
        try:
            answer = await self._http.request(method, path, params=params, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise ApiAway(f"the API server {self._access.url} does not answer: {_words(error)}") from error
        if answer.status_code in (429, 500, 502, 503, 504):
            raise ApiAway(f"the API server {self._access.url} can't now: HTTP {answer.status_code}")
        if answer.status_code >= 400:
            raise _refusal(answer)
        return answer


def _event(line: str) -> Event:
    try:
        found = msgspec.json.decode(line, type=dict[str, Any])
        kind, content = found["type"], found["object"]
    except (msgspec.DecodeError, KeyError) as error:
        raise ApiAway(f"a watch brought a line that is none of a watch: {error}") from error
    if kind == "ERROR":
        code = int(content.get("code") or 500)
        if code in (429, 500, 503, 504):
            raise ApiAway(f"a watch ended: {content.get('message')}")
        raise ApiRefused(code, str(content.get("reason")), str(content.get("message")))
    return Event(kind, content)


def _refusal(answer: httpx.Response) -> ApiRefused:
    """The server's own words, where it has any: its 403 names who lacks which verb on what."""
    reason, message = "", answer.text[:300]
    try:
        status = msgspec.json.decode(answer.content, type=dict[str, Any])
        reason, message = str(status.get("reason") or ""), str(status.get("message") or message)
    except msgspec.DecodeError:
        pass
    if answer.status_code == 401:
        message = f"{message or 'Unauthorized'}: the token or certificate is not accepted, or has expired"
    return ApiRefused(
        answer.status_code, reason, f"Kubernetes refuses: {message} (HTTP {answer.status_code})"
    )


def _words(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
