"""Engines with far more to do than they have places for, and whether Inferry takes one of them for sick."""

from __future__ import annotations

import asyncio
from typing import Any

from .campaign import Scene

SATURATED: dict[str, Any] = {
    "parallel": 4,
    "itl_ms": 25,
    "queue": {"running_max": 40, "wait_max_s": 600},
}
"""Keys of the deployment: four places per engine, and up to 36 requests that wait in it without a token."""


class ReadyWatch:
    """Looks at all replicas five times a second, and notes each moment at which one is not ready."""

    def __init__(self) -> None:
        self.not_ready: list[str] = []
        self.looks = 0

    async def harm(self, scene: Scene) -> None:
        """None; but it watches until the load stops."""
        while not scene.load.stopping:
            self.looks += 1
            for id, each in (await scene.stand.replicas()).items():
                if each["state"] != "ready" or each["restarts"]:
                    self.not_ready.append(f"{id}: {each['state']} {each['message']}")
            await asyncio.sleep(0.2)
