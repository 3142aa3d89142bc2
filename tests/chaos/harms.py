"""What is done to replicas under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import struct
import time
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


HARM_LASTS_S = 6.0
"""The longest that a harm of `anything_at_random` lasts; a stall is one stream's only."""


def anything_at_random(every_s: float) -> Harm:
    """Every `every_s` seconds on average, something befalls a random ready replica: a signal, a port that refuses, a
    loading engine, or one of SIMULATED_FAULTS. One replica at least is always ready and was left alone for 6 s."""

    async def harm(scene: Scene) -> None:
        dice = scene.dice
        harmed_s: dict[str, float] = {}
        async with asyncio.TaskGroup() as continuing:
            while True:
                await scene.load.pause(dice.uniform(0.5, 1.5) * every_s)
                if scene.load.stopping:
                    return
                ready = await scene.stand.ready()
                victim = dice.choice(list(ready)) if ready else None
                now_s = time.monotonic()
                well = [id for id in ready if now_s - harmed_s.get(id, -HARM_LASTS_S) >= HARM_LASTS_S]
                if victim is None or not set(well) - {victim}:
                    scene.note(f"nothing done: well are {well}")
                    continue
                harmed_s[victim] = now_s
                continuing.create_task(_harm_one(scene, victim, ready[victim]["pid"]))

    return harm


async def _harm_one(scene: Scene, victim: str, pid: int) -> None:
    dice = scene.dice
    match dice.choice(("kill", "stop", "refuse", "loading", "fault", "fault", "fault", "fault")):
        case "kill":
            scene.note(f"{victim}: kill")
            os.kill(pid, signal.SIGKILL)
        case "stop":
            seconds = dice.uniform(0.2, HARM_LASTS_S)
            scene.note(f"{victim}: stopped for {seconds:.1f} s")
            await _stop_for(scene, pid, seconds)
        case "refuse" | "loading" as kind:
            scene.note(f"{victim}: {kind}")
            await scene.stand.arm(victim, kind=kind, seconds=dice.uniform(0.5, 3.0))
        case _:
            fault = {**dice.choice(SIMULATED_FAULTS), "after_tokens": dice.randint(1, 30)}
            scene.note(f"{victim}: {fault}")
            await scene.stand.arm(victim, **fault, times=dice.randint(1, 4))


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
