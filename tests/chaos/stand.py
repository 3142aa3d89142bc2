"""One `inferry up` with replicas to break: which processes they are, and what is done to them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import httpx
import yaml

from tests.e2e.inferry_process import Inferry, Up

PROMPT_NANO, COMPLETION_NANO = 500, 1500
"""Prices of one token, in billionths."""
SIMULATED: dict[str, Any] = {
    "engine": "simulated",
    "replicas": 4,
    "parallel": 256,  # two of four have places for all: otherwise what is measured is waiting for one
    "ttft_ms": 50,
    "itl_ms": 100,
    "faults": True,
}
CARE: dict[str, Any] = {
    "price": {"prompt_per_mtok": PROMPT_NANO / 1000, "completion_per_mtok": COMPLETION_NANO / 1000},
    "health": {"interval_s": 0.5},
    "restart": {"crashes_max": 1000, "backoff_initial_s": 0.1, "backoff_max_s": 0.2},
}
GATEWAY: dict[str, Any] = {"attempts_max": 10}
"""Replicas die faster in these tests than answers end: one request may meet several kills."""


def write_file(inferry: Inferry, gateway: dict[str, Any] | None = None, **chat: Any) -> None:
    """inferry.yaml with one deployment `chat`, simulated unless the keywords, its keys, name an engine."""
    keys = CARE | (chat if "engine" in chat else SIMULATED | chat)
    content = {"gateway": GATEWAY | (gateway or {}), "deployments": {"chat": keys}}
    inferry.write(yaml.safe_dump(content, sort_keys=False))


class Stand:
    """Replicas of a running Inferry. Methods that ask it run in a thread: the load goes on meanwhile."""

    def __init__(self, up: Up) -> None:
        self._up = up

    async def replicas(self) -> dict[str, dict[str, Any]]:
        return await asyncio.to_thread(self._up.replicas)

    async def ready(self) -> dict[str, dict[str, Any]]:
        """Those that are, by id, in order."""
        return {
            key: each for key, each in sorted((await self.replicas()).items()) if each["state"] == "ready"
        }

    def own_pids(self) -> list[int]:
        """The control process and the gateway processes."""
        return [self._up.process.pid, *self._up.gateway_pids()]

    async def kill(self, replica_id: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Its process id, which has the signal now."""
        pid: int = (await self.replicas())[replica_id]["pid"]
        os.kill(pid, number)
        return pid

    async def arm(self, replica_id: str, **fault: Any) -> bool:
        """Command a fault of a simulated replica; see docs/simulated-engine.md. Whether it heard."""
        url = (await self.replicas())[replica_id]["url"]
        async with httpx.AsyncClient(timeout=2) as client:
            try:
                answer = await client.post(f"{url}/simulate/fault", json=fault)
            except httpx.TransportError:  # another fault came first
                return False
            assert answer.status_code == 200, answer.text
        return True

    async def until(
        self, what: str, fact: Callable[[dict[str, dict[str, Any]]], bool], timeout_s: float = 60.0
    ) -> float:
        """Wait until `fact` holds of the replicas; how long that took, in seconds."""
        begun_s = time.monotonic()
        while not fact(seen := await self.replicas()):
            waited_s = time.monotonic() - begun_s
            assert waited_s < timeout_s, f"{what}: not within {timeout_s:g} s; {seen}"
            await asyncio.sleep(0.05)
        return time.monotonic() - begun_s

    async def until_back(self, replica_id: str, restarts_before: int, count: int) -> float:
        """Wait until it has been started anew, and all `count` replicas are ready."""

        def back(seen: dict[str, dict[str, Any]]) -> bool:
            states = [each["state"] for each in seen.values()]
            return seen[replica_id]["restarts"] > restarts_before and states == ["ready"] * count

        return await self.until(f"{replica_id} is back", back)

    async def until_all_ready(self, count: int) -> float:
        return await self.until(
            f"{count} replicas are ready",
            lambda seen: sum(each["state"] == "ready" for each in seen.values()) == count,
        )

    async def rollout_ends(self, deployment: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Its rollout, as the control API tells it, when it is done or taken back."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            rollouts = (await asyncio.to_thread(self._up.control, "GET", "/rollouts")).json()
            for each in rollouts:
                if each["deployment"] == deployment and each["phase"] in ("done", "rolled_back"):
                    found: dict[str, Any] = each
                    return found
            assert time.monotonic() < deadline_s, f"the rollout has no end: {rollouts}"
            await asyncio.sleep(0.1)
