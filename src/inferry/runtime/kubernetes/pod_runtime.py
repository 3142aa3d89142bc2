"""Replicas as pods: a start claims one, a stop gives one back. How many there are is a Deployment's number.

`start` claims a pod of the deployment that runs and that nobody has claimed, the ones of an earlier gateway among them.
If there is none, the Deployment's number grows by one, and the pod that comes of it is claimed. A container that ends
ends its handle; Kubernetes starts it again, and the next start claims that new life. Only `stop` makes the number
smaller, after it has marked the pod that is to go.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path

import structlog

from inferry.core.errors import InferryError, StartFailed
from inferry.core.kubernetes_settings import KubernetesSettings
from inferry.core.launch import Headers, LaunchOrder
from inferry.core.replica import Endpoint
from inferry.engines.pod import dns_label
from inferry.runtime.base import EXIT_CODE_UNKNOWN, Exit, Handle
from inferry.runtime.kubernetes.client import KubernetesClient
from inferry.runtime.kubernetes.errors import ApiRefused
from inferry.runtime.kubernetes.handle import PodHandle
from inferry.runtime.kubernetes.mirror import Mirror
from inferry.runtime.kubernetes.objects import DEPLOYMENT_LABEL, chosen_by, leaves_first, selector_text
from inferry.runtime.kubernetes.pods import PodEnd, PodFacts, read_pod
from inferry.runtime.kubernetes.scale import PodSpecOf, Scale

log = structlog.get_logger()

FIRST_LIST_S = 30.0
SHORTEST_GRACE_S = 1
"""With 0, the API server forgets the pod at once, and nobody knows whether its engine still runs."""
SAY_S = 5.0
"""So often somebody who waits for a pod is told what for."""
GONE_S = 15.0
"""Beyond its grace, for a pod to vanish from the API; one on a lost node may stay for ever."""


class KubernetesRuntime:
    """See the module. Use it from one event loop, and `close` it there."""

    def __init__(
        self,
        client: KubernetesClient,
        settings: KubernetesSettings,
        log_dir: Path,
        rng: random.Random,
        *,
        port: int,
        pod_spec_of: PodSpecOf = lambda _: None,
        headers_of: Callable[[str], Headers] = lambda _: (),
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """`port`: where engines listen in their pods. `headers_of`: what is sent to the engines of a deployment, its key
        among it. `leads`: whether this gateway is the one that scales."""
        self._client = client
        self._settings = settings
        self._log_dir = log_dir
        self._port = port
        self._headers_of = headers_of
        self._leads = leads
        self._scale = Scale(client, settings.prefix, pod_spec_of, rng)
        chosen = selector_text(chosen_by(settings.prefix))
        self.pods = Mirror(client, client.path("v1", "pods"), chosen, rng)
        self.deployments = Mirror(client, client.path("apps/v1", "deployments"), chosen, rng)
        self._tasks: list[asyncio.Task[None]] = []
        self._handles: list[PodHandle] = []
        self._stopping: set[PodHandle] = set()
        self._doing: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, int] = {}
        self._no_grace = False
        self._let_go = False

    @property
    def follows(self) -> bool:
        """Others say how many replicas there are: an autoscaler of the cluster, or the gateway that leads."""
        return self._settings.scaled_by == "others" or not self._leads()

    def is_leaving(self, replica_id: str) -> bool:
        """Its pod is on its way out, or gone."""
        for each in self._handles:
            if each.replica_id == replica_id and each.life is not None:
                found = self.pods.objects.get(each.life.pod)
                return found is None or read_pod(found).leaving
        return True

    def wanted(self, deployment: str) -> int | None:
        """What its Deployment object wants; None: there is none, or nobody has seen it yet."""
        for each in self.deployments.objects.values():
            if each["metadata"].get("labels", {}).get(DEPLOYMENT_LABEL) == dns_label(deployment):
                return int(each["spec"].get("replicas", 1))
        return None

    async def follow(self, deployments: Sequence[str], on_wanted: Callable[[str, int], None]) -> None:
        """Tell of each number that a Deployment wants while we follow, until cancelled: the fleet is to have as many."""
        told: dict[str, int] = {}
        await self._open()

        def changed() -> dict[str, int] | None:
            if not self.follows:
                told.clear()
                return None
            now = {name: wanted for name in deployments if (wanted := self.wanted(name)) is not None}
            if self._settings.scaled_by == "inferry":
                # None at all is a Deployment that nobody has decided for yet: whoever comes to lead does.
                now = {name: number for name, number in now.items() if number > 0}
            return {name: number for name, number in now.items() if told.get(name) != number} or None

        while True:
            for name, number in (await self.deployments.until(changed)).items():
                told[name] = number
                on_wanted(name, number)

    async def start(self, order: LaunchOrder) -> PodHandle:
        """A pod whose container runs; what runs in it is described by its Deployment, so that the order is not asked.
        Without one in time, a handle that has ended already and says why.

        Raises StartFailed where no try will help: no access, no permission, nothing to make a pod from.
        """
        deployment = order.deployment
        await self._open()
        self._waiting[deployment] = self._waiting.get(deployment, 0) + 1
        grew = False
        try:
            async with asyncio.timeout(self._settings.pod_start_timeout_s):
                while True:
                    # Again each time: meanwhile this gateway may have come to lead.
                    grew = await self._make_room(deployment) or grew
                    try:
                        async with asyncio.timeout(SAY_S):
                            handle = await self.pods.until(lambda: self._take(order))
                            break
                    except TimeoutError:
                        order.say(f"waits for a pod: {self._waits_for(deployment)}")
        except TimeoutError:
            return self._none_came(order)
        except ApiRefused as error:
            raise StartFailed(error.message) from error
        except StartFailed:
            raise
        except InferryError as error:  # away: the restart policy knows when to try again
            return self._ended(order, error.message)
        except asyncio.CancelledError:
            if grew and not self._let_go:
                self._do(self._shrink(deployment))
            raise
        finally:
            self._waiting[deployment] -= 1
        log.info("pod_claimed", replica=order.replica_id, pod=handle.pod)
        return handle

    async def _make_room(self, deployment: str) -> bool:
        """Its Deployment wants as many as we do, if that is ours to say. Whether it wanted fewer before."""
        if self.follows:
            return False
        await self._scale.ensure(deployment)
        was = await self._scale.change(deployment, lambda was: max(was, self._needed(deployment)))
        return was < self._needed(deployment)

    async def _shrink(self, deployment: str) -> None:
        """Whoever wanted one more wants it no longer."""
        try:
            await self._scale.change(deployment, lambda was: min(was, max(was - 1, self._needed(deployment))))
        except InferryError as error:
            log.warning("pod_too_many", deployment=deployment, because=error.message)

    async def stop(self, handle: Handle, grace_s: float) -> Exit:
        """The number goes down by one and the pod away. Where others say the number, the claim only is given back; but a
        pod that is to be killed (no grace: it is stuck) goes, and its Deployment makes another."""
        assert isinstance(handle, PodHandle)
        end = handle.look()
        if handle not in self._handles or handle.life is None:
            return Exit(EXIT_CODE_UNKNOWN) if end is None else end.exit
        counts = not self.follows
        if self._let_go or (not counts and (grace_s > 0 or self._no_grace)):
            self._forget(handle)
            return Exit(0) if end is None else end.exit
        grace_s = 0.0 if self._no_grace else grace_s
        path = self._client.path("v1", "pods", handle.pod)
        self._stopping.add(handle)
        try:
            if counts:
                await self._mark(path)
                await self._scale.change(handle.deployment, lambda was: was - 1)
            # The mark is a hint only, and a controller prefers pods that are not ready: so this one by its uid, too.
            await self._client.delete(path, max(round(grace_s), SHORTEST_GRACE_S), handle.life.uid)
            async with asyncio.timeout(grace_s + GONE_S):
                await handle.wait()
        except TimeoutError:
            log.warning("pod_does_not_go", replica=handle.replica_id, pod=handle.pod, grace_s=grace_s)
        except InferryError as error:
            log.warning("pod_not_stopped", replica=handle.replica_id, pod=handle.pod, because=error.message)
        except asyncio.CancelledError:
            self._do(self._kill(handle))
            raise
        finally:
            self._stopping.discard(handle)
        self._forget(handle)
        end = handle.look()
        return Exit(EXIT_CODE_UNKNOWN) if end is None else end.exit

    async def _mark(self, path: str) -> None:
        """It is the one that should go first."""
        try:
            await self._client.patch(path, leaves_first())
        except ApiRefused as error:
            if error.http_status != 404:
                raise

    def let_go(self) -> None:
        """The gateway ends, and its pods stay, if the settings say so: each `stop` from here on only gives a claim back."""
        if self._settings.keep and not self._let_go:
            self._let_go = True
            log.info("pods_stay", pods=[each.pod for each in self.running()])

    def kill_now(self) -> None:
        """No grace from here on; with `keep`, the pods stay."""
        self._no_grace = True
        self.let_go()
        for handle in self._stopping:
            self._do(self._kill(handle))

    async def _kill(self, handle: PodHandle) -> None:
        """One that was given more time has no more."""
        assert handle.life is not None
        try:
            path = self._client.path("v1", "pods", handle.pod)
            await self._client.delete(path, SHORTEST_GRACE_S, handle.life.uid)
        except InferryError as error:
            log.warning("pod_not_killed", replica=handle.replica_id, pod=handle.pod, because=error.message)

    def running(self) -> Sequence[PodHandle]:
        return [each for each in self._handles if each.look() is None]

    async def close(self) -> None:
        """Pods stay with `keep`; else they go, each one that was claimed."""
        self.kill_now()
        for handle in list(self._handles):
            await self.stop(handle, 0)
        if self._doing:
            await asyncio.wait(self._doing)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks.clear()
        await self._client.close()

    async def _open(self) -> None:
        """Watches run, and have seen what there is. Raises StartFailed when that can't be had."""
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(each.run()) for each in (self.pods, self.deployments)]
        for mirror in (self.pods, self.deployments):
            try:
                async with asyncio.timeout(FIRST_LIST_S):
                    refusal = await mirror.until(partial(_first_word, mirror))
            except TimeoutError:
                raise StartFailed(
                    f"the API server gave no list within {FIRST_LIST_S:g} s: "
                    f"{'no answer' if mirror.refusal is None else mirror.refusal.message}"
                ) from None
            if isinstance(refusal, ApiRefused):
                raise StartFailed(refusal.message) from refusal

    def _needed(self, deployment: str) -> int:
        claimed = sum(1 for each in self.running() if each.deployment == deployment)
        return claimed + self._waiting.get(deployment, 0)

    def _take(self, order: LaunchOrder) -> PodHandle | None:
        """Choose and claim in one step: nobody else runs between."""
        lives = {each.life for each in self._handles}
        for facts in self._pods_of(order.deployment):
            if facts.running and facts.ip and not facts.leaving and facts.life not in lives:
                endpoint = Endpoint(facts.ip, self._port, headers=self._headers_of(order.deployment))
                handle = PodHandle(
                    order.replica_id, order.deployment, facts.life, facts.container, endpoint, self._client, self.pods,
                    self._log_path(order),
                )  # fmt: skip
                self._handles = [*self.running(), handle]
                return handle
        return None

    def _pods_of(self, deployment: str) -> list[PodFacts]:
        label = dns_label(deployment)
        return [
            read_pod(each)
            for _, each in sorted(self.pods.objects.items())
            if each["metadata"].get("labels", {}).get(DEPLOYMENT_LABEL) == label
        ]

    def _waits_for(self, deployment: str) -> str:
        waits = [
            f"pod {each.life.pod}: {each.waits_for}{f' (last: {each.last_end.because})' if each.last_end else ''}"
            for each in self._pods_of(deployment)
            if each.waits_for
        ]
        return "; ".join(waits) or f"nobody made one; it wants {self.wanted(deployment)} replicas"

    def _none_came(self, order: LaunchOrder) -> PodHandle:
        within = f"no pod ran within {self._settings.pod_start_timeout_s:g} s"
        return self._ended(order, f"{within}: {self._waits_for(order.deployment)}")

    def _ended(self, order: LaunchOrder, because: str) -> PodHandle:
        end = PodEnd(Exit(EXIT_CODE_UNKNOWN, because), because)
        return PodHandle(
            order.replica_id, order.deployment, None, "", Endpoint("0.0.0.0", self._port), self._client, self.pods,
            self._log_path(order), end,
        )  # fmt: skip

    def _log_path(self, order: LaunchOrder) -> Path:
        return self._log_dir / f"{order.replica_id}.log"

    def _do(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)

    def _forget(self, handle: PodHandle) -> None:
        self._handles = [each for each in self._handles if each is not handle]
        self.pods.poke()


def _first_word(mirror: Mirror) -> bool | ApiRefused | None:
    """True: it has listed. A refusal before that is final enough to tell; silence is not."""
    if mirror.has_listed:
        return True
    return mirror.refusal if isinstance(mirror.refusal, ApiRefused) else None
