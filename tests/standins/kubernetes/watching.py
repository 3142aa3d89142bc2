"""Watches: what is there, then each change, bookmarks between, and 410 when the past is forgotten."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from tests.standins.kubernetes.kinds import Kind
from tests.standins.kubernetes.refusal import Json, Refusal
from tests.standins.kubernetes.selectors import Matches
from tests.standins.kubernetes.store import Store

BOOKMARK_S = 5.0


class Watches:
    """All open watches, so that they can be cut."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.open: set[Any] = set()

    def cut(self) -> None:
        """End each connection in the middle."""
        for transport in list(self.open):
            transport.abort()

    async def serve(self, request: web.Request, kind: Kind, matches: Matches) -> web.StreamResponse:
        """One watch, until its time is over or somebody cuts it."""
        query = request.query
        initial = query.get("sendInitialEvents") == "true"
        bookmarks = query.get("allowWatchBookmarks") in {"1", "true"}
        version = int(query.get("resourceVersion") or 0)
        limit_s = float(query.get("timeoutSeconds") or 1800)
        if initial and query.get("resourceVersionMatch") != "NotOlderThan":
            message = "sendInitialEvents: resourceVersionMatch is required to be NotOlderThan"
            raise Refusal(422, "Invalid", f"ListOptions.meta.k8s.io is invalid: {message}")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        transport = request.transport
        self.open.add(transport)
        try:
            async with asyncio.timeout(limit_s):
                await self._send(response, kind, matches, version, initial, bookmarks)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            self.open.discard(transport)
        return response

    async def _send(
        self,
        response: web.StreamResponse,
        kind: Kind,
        matches: Matches,
        version: int,
        initial: bool,
        bookmarks: bool,
    ) -> None:
        async def event(what: str, thing: Json) -> None:
            if what not in {"ERROR", "BOOKMARK"}:
                thing = {**thing, "apiVersion": kind.api_version}
            await response.write(json.dumps({"type": what, "object": thing}).encode() + b"\n")

        def bookmark(last: int, end: bool = False) -> Json:
            metadata: Json = {"resourceVersion": str(last)}
            if end:
                metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
            return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}

        if version == 0 or initial:
            last = self.store.version
            for thing in self.store.every(kind):
                if matches(thing):
                    await event("ADDED", thing)
            if initial and bookmarks:
                await event("BOOKMARK", bookmark(last, end=True))
        else:
            last = version
        while True:
            changed = self.store.changed
            # Without a history nothing is known of the time before this moment.
            if last < self.store.oldest:
                message = f"too old resource version: {last} ({self.store.oldest})"
                await event("ERROR", Refusal(410, "Expired", message).status())
                return
            for change in [change for change in self.store.changes if change.version > last]:
                last = change.version
                if change.key[:2] != (kind.group, kind.plural):
                    continue
                was = change.before is not None and matches(change.before)
                is_now = change.what != "DELETED" and matches(change.thing)
                if is_now:
                    await event("MODIFIED" if was else "ADDED", change.thing)
                elif was:
                    await event("DELETED", change.thing)
            try:
                async with asyncio.timeout(BOOKMARK_S):
                    await changed.wait()
            except TimeoutError:
                if bookmarks:
                    await event("BOOKMARK", bookmark(last))
