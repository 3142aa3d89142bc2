"""The toy kubelet of all nodes: runs pods as processes or only writes their statuses, and breaks on command."""

from __future__ import annotations

import asyncio
import copy
import itertools
import os
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from tests.standins.kubernetes.permissions import Tokens
from tests.standins.kubernetes.pod_life import PodLife
from tests.standins.kubernetes.refusal import Json, bad_request
from tests.standins.kubernetes.scheduling import schedule, set_node
from tests.standins.kubernetes.store import Store, now

# Each pod of each stand-in on this machine has an address of its own.
_ADDRESSES = itertools.count(1)


def pod_address() -> str:
    """127.x.y.z that no other pod has: the process' id says x and y."""
    number = next(_ADDRESSES)
    block = (os.getpid() * 8 + number // 250) % (126 * 250)
    return f"127.{block // 250 + 100}.{block % 250 + 1}.{number % 250 + 2}"


class Kubelet:
    """What runs on the nodes."""

    def __init__(
        self,
        store: Store,
        tokens: Tokens,
        how: str,
        folder: Path,
        images: Mapping[str, list[str]],
        pace: float,
        ready_after_s: float,
    ) -> None:
        self.store = store
        self.tokens = tokens
        self.how = how
        self.folder = folder
        self.images = images
        self.pace = pace
        self.ready_after_s = ready_after_s
        self.certificate = ""
        self.cluster_environment: dict[str, str] = {}
        self.broken: dict[str, str] = {}
        self.lost: dict[str, float] = {}
        self.evict_after_s = 300 * pace
        self.lives: dict[str, PodLife] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Task[None]] = {}
        self._folders: dict[tuple[str, str], Path] = {}
        self._http: aiohttp.ClientSession | None = None

    async def run(self) -> None:
        """Until cancelled; then every pod's processes end."""
        async with aiohttp.ClientSession() as self._http:
            try:
                while True:
                    changed = self.store.changed
                    try:
                        self._once()
                    except Exception:  # noqa: BLE001 - a toy's fault must be seen, and not end all others
                        traceback.print_exc(file=sys.stderr)
                    try:
                        async with asyncio.timeout(0.5):
                            await changed.wait()
                    except TimeoutError:
                        continue
                    await asyncio.sleep(0.005)
            finally:
                tasks = [*self._runs.values(), *self._ends.values()]
                for life in self.lives.values():
                    life.silent = True
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _once(self) -> None:
        schedule(self.store)
        pods = {pod["metadata"]["uid"]: pod for pod in self.store.of("pods")}
        for uid, pod in pods.items():
            node = pod["spec"].get("nodeName")
            if node in self.lost:
                self._away(pod, node)
                continue
            ends = "deletionTimestamp" in pod["metadata"]
            if node and not ends and uid not in self._runs and pod["status"].get("phase") == "Pending":
                self._begin(uid, pod)
            elif ends and uid not in self._ends:
                self._ends[uid] = asyncio.create_task(self._end(uid, pod))
            elif ends and uid in self.lives:
                self.lives[uid].hurry(float(pod["metadata"].get("deletionGracePeriodSeconds", 30)))
        for uid in [uid for uid in self._runs if uid not in pods and uid not in self._ends]:
            # Deleted without grace.
            self._runs.pop(uid).cancel()
            self.lives.pop(uid, None)

    # --- one pod ---

    def _begin(self, uid: str, pod: Json) -> None:
        if self.how == "processes":
            self._runs[uid] = asyncio.create_task(self._process(uid, pod))
        else:
            self._runs[uid] = asyncio.create_task(self._status_only(pod))

    async def _process(self, uid: str, pod: Json) -> None:
        assert self._http is not None
        metadata = pod["metadata"]
        folder = self.folder / f"{metadata['namespace']}_{metadata['name']}_{uid[:8]}"
        self._folders[metadata["namespace"], metadata["name"]] = folder
        account = pod["spec"].get("serviceAccountName", "default")
        life = PodLife(
            self.store,
            pod,
            folder,
            pod_address(),
            self.pace,
            self._http,
            self.tokens.issue(f"system:serviceaccount:{metadata['namespace']}:{account}"),
            self.certificate,
            self.cluster_environment,
            self.entrypoint,
            self.broken_image,
        )
        self.lives[uid] = life
        try:
            await life.run()
        except Exception:  # noqa: BLE001 - as above
            traceback.print_exc(file=sys.stderr)

    async def _status_only(self, pod: Json) -> None:
        metadata, kind = pod["metadata"], self.store.kinds.named("pods")
        address = pod_address()
        while (broken := next(filter(None, map(self.broken_image, _images(pod))), None)) is not None:
            self._write_statuses(pod, address, {"waiting": {"reason": "ImagePullBackOff", "message": broken}})
            await asyncio.sleep(0.1)
        await asyncio.sleep(self.ready_after_s)
        current = self.store.things.get(self.store.key(kind, metadata["namespace"], metadata["name"]))
        if current is not None and current["metadata"]["uid"] == metadata["uid"]:
            self._write_statuses(pod, address, {"running": {"startedAt": now()}})

    def _write_statuses(self, pod: Json, address: str, state: Json) -> None:
        metadata, running = pod["metadata"], "running" in state
        flag = "True" if running else "False"
        conditions = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}]
        conditions += [
            {"type": name, "status": flag, "lastTransitionTime": now()}
            for name in ("Initialized", "ContainersReady", "Ready")
        ]
        containers = [
            {
                "name": each["name"],
                "image": each["image"],
                "imageID": "",
                "ready": running,
                "started": running,
                "restartCount": 0,
                "state": state,
                "lastState": {},
            }
            for each in pod["spec"]["containers"]
        ]
        status = {
            "phase": "Running" if running else "Pending",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": conditions,
            "containerStatuses": containers,
        }
        old = self.store.things.get(("", "pods", metadata["namespace"], metadata["name"]))
        same = old is not None and (old["status"].get("containerStatuses") == containers)
        if not same:
            kind = self.store.kinds.named("pods")
            self.store.touch(kind, metadata["namespace"], metadata["name"], status=status)

    async def _end(self, uid: str, pod: Json) -> None:
        grace_s = float(pod["metadata"].get("deletionGracePeriodSeconds", 30))
        life, run = self.lives.get(uid), self._runs.get(uid)
        if life is not None:
            await life.end(grace_s)
        if run is not None:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
        kind = self.store.kinds.named("pods")
        current = self.store.things.get(("", "pods", pod["metadata"]["namespace"], pod["metadata"]["name"]))
        if current is not None and current["metadata"]["uid"] == uid:
            self.store.remove(kind, current)
        for place in (self.lives, self._runs, self._ends):
            place.pop(uid, None)

    # --- what pods need ---

    def entrypoint(self, image: str) -> list[str]:
        """The command of an image, by the longest name that it begins with."""
        fitting = [name for name in self.images if image.startswith(name)]
        return list(self.images[max(fitting, key=len)]) if fitting else []

    def broken_image(self, image: str) -> str | None:
        """Why it can't be pulled, if a test broke it."""
        for text, why in self.broken.items():
            if text in image:
                return why
        return None

    async def read_log(self, pod: Json, container: str, previous: bool, follow: bool) -> AsyncIterator[bytes]:
        """A container's words."""
        life = self.lives.get(pod["metadata"]["uid"])
        every = [] if life is None else [*life.containers, *life.inits]
        found = next((each for each in every if each.name == container), None)
        if found is None:
            said = f'container "{container}" in pod "{pod["metadata"]["name"]}" is waiting to start'
            raise bad_request(said)
        restart = found.restarts - 1 if previous else found.restarts
        path = found.log_path(restart)
        if restart < 0 or (previous and not path.is_file()):
            said = f'previous terminated container "{container}" in pod "{pod["metadata"]["name"]}" not found'
            raise bad_request(said)
        if not path.is_file() and found.restarts:
            path = found.log_path(found.restarts - 1)
        if not path.is_file():
            reason = (found.state.get("waiting") or {}).get("reason", "ContainerCreating")
            said = f'container "{container}" in pod "{pod["metadata"]["name"]}" is waiting to start: {reason}'
            raise bad_request(said)
        with path.open("rb") as log:
            while True:
                chunk = log.read(65536)
                if chunk:
                    yield chunk
                elif not follow or found.process is None:
                    return
                else:
                    await asyncio.sleep(0.05)

    # --- faults ---

    def life_of(self, namespace: str, name: str) -> PodLife:
        """A running pod, by its name."""
        pod = self.store.get(self.store.kinds.named("pods"), namespace, name)
        return self.lives[pod["metadata"]["uid"]]

    def lose(self, name: str) -> None:
        """The node is gone: its processes at once, its pods' statuses not."""
        self.lost[name] = asyncio.get_running_loop().time()
        set_node(self.store, name, ready=False)
        for pod in self.store.of("pods"):
            if pod["spec"].get("nodeName") != name:
                continue
            uid, metadata = pod["metadata"]["uid"], pod["metadata"]
            life = self.lives.get(uid)
            if life is not None:
                life.silent = True
            if uid in self._runs:
                self._runs.pop(uid).cancel()
            status = copy.deepcopy(pod["status"])
            for condition in status.get("conditions") or []:
                if condition["type"] in {"Ready", "ContainersReady"}:
                    condition.update(status="False", reason="NodeLost", lastTransitionTime=now())
            self.store.touch(
                self.store.kinds.named("pods"), metadata["namespace"], metadata["name"], status=status
            )

    def find(self, name: str) -> None:
        """The node is back, without what ran on it."""
        self.lost.pop(name, None)
        kind = self.store.kinds.named("pods")
        for pod in self.store.of("pods"):
            if pod["spec"].get("nodeName") == name:
                self.lives.pop(pod["metadata"]["uid"], None)
                self.store.remove(kind, pod)
        set_node(self.store, name, ready=True)

    def _away(self, pod: Json, node: str) -> None:
        """Pods of a node that is lost for long are evicted: Terminating, until the node is back."""
        since = asyncio.get_running_loop().time() - self.lost[node]
        metadata = pod["metadata"]
        if since >= self.evict_after_s and "deletionTimestamp" not in metadata:
            kind = self.store.kinds.named("pods")
            self.store.delete(kind, metadata["namespace"], metadata["name"], {})

    def each_life(self, wanted: Callable[[PodLife], bool]) -> list[PodLife]:
        """Those pods."""
        return [life for life in self.lives.values() if wanted(life)]


def _images(pod: Json) -> list[Any]:
    return [each["image"] for each in pod["spec"]["containers"]]
