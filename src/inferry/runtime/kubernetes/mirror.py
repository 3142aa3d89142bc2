"""A copy of a collection of objects, kept true by a watch: one list, then only what changes.

Whoever waits for a fact waits for the copy to change, and never asks the API server in a loop. While the server is
away, the copy stays as it was: pods serve without it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from inferry.core.errors import InferryError
from inferry.runtime.kubernetes.client import KubernetesClient, Object
from inferry.runtime.kubernetes.errors import ApiAway, ApiRefused

log = structlog.get_logger()

BACK_OFF_FIRST_S = 0.2
BACK_OFF_MAX_S = 30.0
GONE = 410
DELETED_MAX = 1000
T = TypeVar("T")


class Mirror:
    """Of one collection, as far as `selector` chooses. `run` it in a task."""

    def __init__(self, client: KubernetesClient, path: str, selector: str, rng: random.Random) -> None:
        self.objects: dict[str, Object] = {}
        """By name."""
        self.deleted: dict[str, Object] = {}
        """The same of the latest that are gone, as they were at last."""
        self.refusal: InferryError | None = None
        """Why there is no copy, or an old one only; None: it is true as far as anybody knows."""
        self._client = client
        self._path = path
        self._selector = selector
        self._rng = rng
        self._changed: asyncio.Future[None] | None = None
        self._listed = False

    @property
    def has_listed(self) -> bool:
        """It has been true once."""
        return self._listed

    async def run(self) -> None:
        """Until cancelled."""
        version, failures = "", 0
        while True:
            try:
                if not version:
                    version = await self._list()
                async for event in self._client.watch(self._path, version, self._selector):
                    failures, self.refusal = 0, None
                    version = self._take(event.kind, event.content) or version
                # It ended as it should, by its own time limit; a server that ends each at once is not hammered.
                await asyncio.sleep(BACK_OFF_FIRST_S)
            except (ApiRefused, ApiAway) as error:
                if isinstance(error, ApiRefused) and error.http_status == GONE:
                    log.info("kubernetes_list_again", path=self._path)
                    version = ""
                    if failures == 0:
                        failures = 1
                        continue
                if failures == 0 or isinstance(error, ApiRefused):
                    log.warning("kubernetes_watch_failed", path=self._path, because=error.message)
                self.refusal = error
                self._wake()
                failures += 1
                wait_s = min(BACK_OFF_FIRST_S * 2.0 ** min(failures, 16), BACK_OFF_MAX_S)
                await asyncio.sleep(wait_s * self._rng.uniform(0.5, 1.0))

    async def until(self, look: Callable[[], T | None]) -> T:
        """What `look` gives as soon as that is not None. It is called with no wait between the change and the look."""
        while True:
            found = look()
            if found is not None:
                return found
            if self._changed is None:
                self._changed = asyncio.get_running_loop().create_future()
            # Shielded: several wait for the same one.
            await asyncio.shield(self._changed)

    def poke(self) -> None:
        """Something that others wait for has changed besides the objects."""
        self._wake()

    async def _list(self) -> str:
        found = await self._client.get(self._path, {"labelSelector": self._selector})
        items: list[dict[str, Any]] = list(found.get("items") or ())
        self.objects = {str(each["metadata"]["name"]): each for each in items}
        self._listed, self.refusal = True, None
        self._wake()
        return str(found["metadata"]["resourceVersion"])

    def _take(self, kind: str, content: Object) -> str | None:
        metadata = content.get("metadata") or {}
        if kind != "BOOKMARK":
            name = str(metadata.get("name"))
            if kind == "DELETED":
                self.objects.pop(name, None)
                self.deleted.pop(name, None)
                self.deleted[name] = content
                if len(self.deleted) > DELETED_MAX:
                    del self.deleted[next(iter(self.deleted))]
            else:
                self.objects[name] = content
            self._wake()
        version = metadata.get("resourceVersion")
        return None if version is None else str(version)

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)
