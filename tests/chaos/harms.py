"""What is done to replicas under load."""

from __future__ import annotations

import asyncio
import os
import signal

from .campaign import Harm, Scene


def kill_at_random(every_s: float) -> Harm:
    """kill -9 for a random ready replica, every `every_s` seconds on average, as long as another one is ready."""

    async def harm(scene: Scene) -> None:
        while True:
            await scene.load.pause(scene.dice.uniform(0.5, 1.5) * every_s)
            if scene.load.stopping:
                return
            ready = await scene.stand.ready()
            if len(ready) < 2:
                scene.note(f"no kill: ready are {list(ready)}")
                continue
            victim = scene.dice.choice(list(ready))
            os.kill(ready[victim]["pid"], signal.SIGKILL)
            scene.note(f"killed {victim}, pid {ready[victim]['pid']}")

    return harm


async def no_harm(scene: Scene) -> None:
    """Only load."""
    await asyncio.sleep(0)
