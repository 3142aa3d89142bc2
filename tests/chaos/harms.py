"""What is done to replicas under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import struct
from pathlib import Path
from typing import Any

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


SIMULATED_FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "crash"},
    {"kind": "cut"},
    {"kind": "bad_bytes"},
    {"kind": "bad_bytes", "where": "event"},
    {"kind": "error_status", "status": 500},
    {"kind": "error_status", "status": 503},
    {"kind": "stall", "seconds": 20},
    {"kind": "slow", "factor": 4},
)
"""What a simulated engine does to a few requests, after some of their tokens."""


def anything_at_random(every_s: float) -> Harm:
    """Every `every_s` seconds on average, something befalls a random ready replica, as long as another one is ready:
    a signal, a port that refuses, a loading engine, or one of SIMULATED_FAULTS."""

    async def harm(scene: Scene) -> None:
        dice = scene.dice
        async with asyncio.TaskGroup() as continuing:
            while True:
                await scene.load.pause(dice.uniform(0.5, 1.5) * every_s)
                if scene.load.stopping:
                    return
                ready = await scene.stand.ready()
                if len(ready) < 2:
                    scene.note(f"nothing done: ready are {list(ready)}")
                    continue
                victim = dice.choice(list(ready))
                what = dice.choice(("kill", "stop", "refuse", "loading", "fault", "fault", "fault", "fault"))
                match what:
                    case "kill":
                        os.kill(ready[victim]["pid"], signal.SIGKILL)
                    case "stop":
                        continuing.create_task(_stop_for(scene, ready[victim]["pid"], dice.uniform(0.2, 6.0)))
                    case "refuse" | "loading":
                        await scene.stand.arm(victim, kind=what, seconds=dice.uniform(0.5, 3.0))
                    case _:
                        fault = {**dice.choice(SIMULATED_FAULTS), "after_tokens": dice.randint(1, 30)}
                        what = f"{fault}"
                        await scene.stand.arm(victim, **fault, times=dice.randint(1, 4))
                scene.note(f"{victim}: {what}")

    return harm


async def _stop_for(scene: Scene, pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        await scene.load.pause(seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):  # it was ended meanwhile
            os.kill(pid, signal.SIGCONT)


async def no_harm(scene: Scene) -> None:
    """Only load."""
    await asyncio.sleep(0)


def fill_the_disk(after_s: float, for_s: float) -> Harm:
    """From `after_s` on, no file of the control process or of a gateway process takes a byte more, for `for_s`.

    By their limit of file sizes, which needs no rights: writes fail with EFBIG there, where a full disk says ENOSPC.
    """

    async def harm(scene: Scene) -> None:
        await scene.load.pause(after_s)
        pids = scene.stand.own_pids()
        before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[pid][1]))
        scene.note(f"disk full for {pids}")
        await scene.load.pause(for_s)
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before[pid])
        scene.note("disk has room again")

    return harm


def step_the_clock(path: Path, steps_s: tuple[float, ...], every_s: float) -> Harm:
    """Sets the wall clock of all processes, again and again; see clock_steps/sitecustomize.py."""

    async def harm(scene: Scene) -> None:
        for step_s in steps_s:
            await scene.load.pause(every_s)
            await asyncio.to_thread(_overwrite, path, struct.pack("d", step_s))
            scene.note(f"wall clock {step_s:+,.0f} s from the true time")

    return harm


def _overwrite(path: Path, data: bytes) -> None:
    # In place: a file that is emptied first kills, by SIGBUS, whoever reads it as memory just then.
    with path.open("r+b") as file:
        file.write(data)


def at_once(*harms: Harm) -> Harm:
    """All of them, side by side."""

    async def harm(scene: Scene) -> None:
        async with asyncio.TaskGroup() as group:
            for each in harms:
                group.create_task(each(scene))

    return harm
