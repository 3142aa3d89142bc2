"""One pod from its node to its end: init containers, containers, conditions, grace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp

from tests.standins.kubernetes.containers import Container
from tests.standins.kubernetes.pod_files import PodFiles
from tests.standins.kubernetes.refusal import Json
from tests.standins.kubernetes.store import Store, now


class PodLife:
    """A pod that runs as processes here."""

    def __init__(
        self,
        store: Store,
        pod: Json,
        folder: Path,
        address: str,
        pace: float,
        http: aiohttp.ClientSession,
        token: str,
        certificate: str,
        cluster_environment: dict[str, str],
        entrypoint: Callable[[str], list[str]],
        broken_image: Callable[[str], str | None],
    ) -> None:
        self.store = store
        self.pod = pod
        self.address = address
        self.pace = pace
        self.http = http
        self.token = token
        self.certificate = certificate
        self.cluster_environment = cluster_environment
        self.entrypoint = entrypoint
        self.broken_image = broken_image
        self.files = PodFiles(store, pod, folder, address)
        self.ending = False
        self.grace_s = 0.0
        """Of the end that is under way."""
        self.silent = False
        self.evicted = ""
        self.began = now()
        spec = pod["spec"]
        self.containers = [Container(self, each) for each in spec["containers"]]
        inits = [Container(self, each) for each in spec.get("initContainers") or []]
        # Init containers that always restart run beside the others: sidecars.
        self.sidecars = [each for each in inits if each.spec.get("restartPolicy") == "Always"]
        self.inits = inits
        self.initialized = not inits
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Beside everything else, until the pod ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def run(self) -> None:
        """Until all containers have ended for good."""
        self.files.folder.mkdir(parents=True, exist_ok=True)
        self.report()
        try:
            beside = []
            for container in self.inits:
                if container in self.sidecars:
                    beside.append(self.spawn(container.run()))
                    while not container.started:
                        await asyncio.sleep(0.02)
                elif await container.run(once=True) != 0:
                    self.report(phase="Failed")
                    return
            self.initialized = True
            mains = [self.spawn(container.run()) for container in self.containers]
            codes = [await task for task in mains]
            for container in self.sidecars:
                await container.stop(1)
            if not self.ending:
                self.report(phase="Failed" if self.evicted or any(codes) else "Succeeded")
        finally:
            await self._cleared()

    async def end(self, grace_s: float) -> None:
        """With grace; containers first, sidecars after them."""
        self.ending, self.grace_s = True, grace_s
        await _together([container.stop(grace_s) for container in [*self.containers, *self.inits]])
        await self._cleared()
        self.report()

    def hurry(self, grace_s: float) -> None:
        """Somebody gives it less time than it was given first."""
        if grace_s < self.grace_s:
            self.grace_s = grace_s
            asyncio.get_running_loop().call_later(grace_s, self._kill_all)

    def _kill_all(self) -> None:
        for container in [*self.containers, *self.inits]:
            container.kill()

    async def _cleared(self) -> None:
        for container in [*self.containers, *self.inits]:
            container.kill()
        mine = asyncio.current_task()
        for task in list(self._tasks):
            if task is not mine:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    def evict(self, message: str) -> None:
        """The node is short of something: all containers end, the pod has failed."""
        self.ending, self.evicted = True, message
        for container in [*self.containers, *self.inits]:
            container.kill()
        self.report(phase="Failed")

    def report(self, phase: str = "") -> None:
        """Write status as it is now; a node that is lost writes nothing."""
        if self.silent:
            return
        metadata = self.pod["metadata"]
        key = ("", "pods", metadata["namespace"], metadata["name"])
        current = self.store.things.get(key)
        if current is None or current["metadata"]["uid"] != metadata["uid"]:
            return
        old = current["status"]
        if old.get("phase") in {"Failed", "Succeeded"}:
            return
        phase = phase or (
            "Running"
            if any(each.last_state or "running" in each.state for each in self.containers)
            else "Pending"
        )
        before = {each["type"]: each for each in old.get("conditions") or []}
        ready = self.initialized and all(each.ready for each in self.containers)

        def condition(name: str, true: bool) -> Json:
            status = "True" if true else "False"
            was: Json = before.get(name, {})
            if was.get("status") == status:
                return was
            made = {"type": name, "status": status, "lastTransitionTime": now()}
            if not true and name in {"Ready", "ContainersReady"}:
                made["reason"] = "ContainersNotReady"
            return made

        status: Json = {
            "phase": phase,
            "hostIP": "127.0.0.1",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "startTime": self.began,
            "qosClass": "Burstable",
            "conditions": [
                condition("PodScheduled", True),
                condition("Initialized", self.initialized),
                condition("ContainersReady", ready),
                condition("Ready", ready),
            ],
            "containerStatuses": [each.status() for each in self.containers],
        }
        if self.inits:
            status["initContainerStatuses"] = [each.status() for each in self.inits]
        if self.evicted:
            status.update(reason="Evicted", message=self.evicted)
        kind = self.store.kinds.named("pods")
        self.store.touch(kind, metadata["namespace"], metadata["name"], status=status)


async def _together(work: list[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for each in work:
            group.create_task(each)
