"""Makes Deployment objects where there are none, and changes how many replicas they want."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

from inferry.core.errors import StartFailed
from inferry.runtime.kubernetes.client import KubernetesClient
from inferry.runtime.kubernetes.errors import ApiAway, ApiRefused
from inferry.runtime.kubernetes.objects import deployment_object, object_name, scale_patch

TRIES = 6
"""Of a change that others change at the same time, or while the API server is away for a moment."""

PodSpecOf = Callable[[str], Mapping[str, Any] | None]
"""A deployment's name to the pod that it is to have; None: nobody here knows, so it must be there already."""


class Scale:
    """Of all our Deployment objects. One change at a time for each."""

    def __init__(
        self, client: KubernetesClient, prefix: str, pod_spec_of: PodSpecOf, rng: random.Random
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._pod_spec_of = pod_spec_of
        self._rng = rng
        self._changing: dict[str, asyncio.Lock] = {}

    async def ensure(self, deployment: str) -> None:
        """Its Deployment object is there. Raises StartFailed where it is not and can't be made."""
        name = object_name(self._prefix, deployment)
        async with self._lock(name):
            try:
                await self._client.get(self._client.path("apps/v1", "deployments", name))
                return
            except ApiRefused as error:
                if error.http_status != 404:
                    raise
            pod_spec = self._pod_spec_of(deployment)
            if pod_spec is None:
                raise StartFailed(
                    f"'{deployment}': there is no Deployment '{name}' in namespace '{self._client.namespace}', and its "
                    "pods are not described here: apply what 'inferry render kubernetes' writes, or correct runtime.prefix"
                )
            try:
                await self._client.create(
                    self._client.path("apps/v1", "deployments"),
                    deployment_object(self._prefix, deployment, pod_spec),
                )
            except ApiRefused as error:
                if error.reason != "AlreadyExists":  # another gateway was first
                    raise

    async def change(self, deployment: str, choose: Callable[[int], int]) -> int:
        """Set what `choose` makes of the present number, unless that is the same; returns what it was before."""
        name = object_name(self._prefix, deployment)
        path = self._client.path("apps/v1", "deployments", name, "scale")
        async with self._lock(name):
            for attempt in range(1, TRIES + 1):
                try:
                    scale = await self._client.get(path)
                    was = int(scale["spec"].get("replicas") or 0)
                    wanted = max(choose(was), 0)
                    if wanted != was:
                        await self._client.patch(path, scale_patch(scale, wanted))
                    return was
                except ApiRefused as error:
                    if error.http_status != 409 or attempt == TRIES:
                        raise
                except ApiAway:
                    if attempt == TRIES:
                        raise
                await asyncio.sleep(0.1 * 2**attempt * self._rng.uniform(0.5, 1.0))
        raise AssertionError("unreachable")

    def _lock(self, name: str) -> asyncio.Lock:
        return self._changing.setdefault(name, asyncio.Lock())
