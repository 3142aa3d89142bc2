"""One replica that is a pod: a claim on one life of its container."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from inferry.core.errors import InferryError
from inferry.core.replica import Endpoint
from inferry.runtime.base import Exit, Vitals
from inferry.runtime.kubernetes.client import KubernetesClient
from inferry.runtime.kubernetes.mirror import Mirror
from inferry.runtime.kubernetes.pods import Life, PodEnd, end_of_life, read_pod

LOG_LINES = 100
LOG_BYTES_MAX = 262_144


class PodHandle:
    """See the module. `deployment` is the name in the file."""

    def __init__(
        self,
        replica_id: str,
        deployment: str,
        life: Life | None,
        container: str,
        endpoint: Endpoint,
        client: KubernetesClient,
        pods: Mirror,
        log_path: Path,
        end: PodEnd | None = None,
    ) -> None:
        """`life` None: no pod came, and `end` says why."""
        self.replica_id = replica_id
        self.deployment = deployment
        self.life = life
        self.endpoint = endpoint
        """Where it listens; its address is known only now."""
        self.pid: int | None = None
        """It has none that means anything here."""
        self.log_path = log_path
        """Written when it has ended; until then `kubectl logs` has it."""
        self._container = container
        self._client = client
        self._pods = pods
        self._end = end
        self._log: list[str] | None = None
        self._reading = asyncio.Lock()

    @property
    def pod(self) -> str:
        """The pod's name; empty: none came."""
        return "" if self.life is None else self.life.pod

    def look(self) -> PodEnd | None:
        """How it ended, by what is known now; once it has, for good."""
        if self._end is None and self.life is not None:
            found = self._pods.objects.get(self.life.pod)
            last = self._pods.deleted.get(self.life.pod) if found is None else found
            self._end = end_of_life(
                self.life, None if last is None else read_pod(last), is_gone=found is None
            )
        return self._end

    async def ended(self) -> Exit:
        return (await self._pods.until(self.look)).exit

    async def wait(self) -> Exit:
        end = await self._pods.until(self.look)
        async with self._reading:
            if self._log is None:
                self._log = [
                    *await self._read_log(end),
                    f"[kubernetes] pod {self.pod or '(none)'}: {end.because}",
                ]
                await asyncio.to_thread(self._keep_log, self._log)
        return end.exit

    def log_tail(self) -> Sequence[str]:
        if self._log is not None:
            return self._log
        return [] if self._end is None else [f"[kubernetes] pod {self.pod or '(none)'}: {self._end.because}"]

    def vitals(self) -> Vitals | None:
        """Nobody here sees a pod's processes."""
        return None

    async def _read_log(self, end: PodEnd) -> list[str]:
        """The last lines; none where the pod took them with it."""
        if self.life is None:
            return []
        lines: list[str] = []
        # A kubelet that is quick starts the container again meanwhile: what was asked for then came from the next life.
        previous = end.in_previous_log or self._is_followed()
        for is_previous in dict.fromkeys((previous, True)):
            params = {
                "container": self._container,
                "tailLines": str(LOG_LINES),
                "limitBytes": str(LOG_BYTES_MAX),
                "previous": str(is_previous).lower(),
            }
            path = self._client.path("v1", "pods", self.life.pod, "log")
            try:
                lines = (await self._client.text(path, params)).splitlines()[-LOG_LINES:]
            except InferryError:
                lines = []
            if not self._is_followed():
                break
        return lines

    def _is_followed(self) -> bool:
        """The same pod has another life by now."""
        found = None if self.life is None else self._pods.objects.get(self.life.pod)
        if found is None or self.life is None:
            return False
        now = read_pod(found).life
        return now.uid == self.life.uid and now.restarts > self.life.restarts

    def _keep_log(self, lines: Sequence[str]) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self.log_path.touch(mode=0o600)
        self.log_path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
