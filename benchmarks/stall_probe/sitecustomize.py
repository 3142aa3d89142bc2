"""Measures each callback of a gateway process' event loop. Python loads this at the start of every program whose path
has this folder; it acts in gateway processes only, and writes what it found when the process ends.

The loop is asyncio's own, since uvloop's callbacks can't be wrapped: what a callback of ours costs is the same in
both, but asyncio's transports leave garbage and uvloop's don't. With KEEP_LOOP_VARIABLE set it stays uvloop, and
only collections are measured. CPU time is the thread's own clock, so that other programs on the machine don't count. A callback that waited
(for a disk, a lock, another thread that holds the GIL) shows as a voluntary switch of the thread; one that was only
pushed aside by others does not.
"""

from __future__ import annotations

import os
import sys

RESULT_VARIABLE = "INFERRY_STALLS_TO"
KEEP_LOOP_VARIABLE = "INFERRY_STALLS_UVLOOP"
START_NS = 1_000_000_000
"""What happens before it serves does not count."""
KEPT = 200
"""The longest callbacks that are kept one by one."""


def install(result_path: str) -> None:
    import asyncio
    import atexit
    import functools
    import gc
    import heapq
    import json
    import resource
    import time
    from pathlib import Path
    from typing import Any

    import uvloop

    by_name: dict[str, list[int]] = {}
    """Count, CPU ns, most CPU ns, over 0.5 ms, waits, waited ns, longest wait ns."""
    longest: list[tuple[int, int, str]] = []
    collections: list[tuple[int, int, int, int]] = []
    """Generation, CPU ns, found, when."""
    cpu_ns, wall_ns, usage, thread = (
        time.thread_time_ns, time.perf_counter_ns, resource.getrusage, resource.RUSAGE_THREAD,
    )  # fmt: skip
    began_ns = wall_ns()

    def name_of(callback: Any) -> str:
        while isinstance(callback, functools.partial):
            callback = callback.func
        owner = getattr(callback, "__self__", None)
        if isinstance(owner, asyncio.Task):
            return f"task {getattr(owner.get_coro(), '__qualname__', '?')}"
        protocol = getattr(owner, "_protocol", None)
        name = getattr(callback, "__qualname__", type(callback).__name__)
        return name if protocol is None else f"{type(protocol).__name__} {name.rpartition('.')[2]}"

    inner = asyncio.Handle._run

    def measured(handle: Any) -> None:
        callback = handle._callback  # cleared when it runs
        waits, wall, cpu = usage(thread).ru_nvcsw, wall_ns(), cpu_ns()
        inner(handle)
        took = cpu_ns() - cpu
        waited = wall_ns() - wall - took
        if wall - began_ns < START_NS:
            return
        waits = usage(thread).ru_nvcsw - waits
        name = name_of(callback)
        row = by_name.setdefault(name, [0] * 7)
        row[0] += 1
        row[1] += took
        row[2] = max(row[2], took)
        row[3] += took > 500_000
        if waits:
            row[4] += waits
            row[5] += waited
            row[6] = max(row[6], waited)
        heapq.heappush(longest, (took, wall - began_ns, name))
        if len(longest) > KEPT:
            heapq.heappop(longest)

    started = [0]

    def on_collection(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            started[0] = cpu_ns()
        elif (when := wall_ns() - began_ns) > START_NS:
            collections.append((info["generation"], cpu_ns() - started[0], info["collected"], when))

    def write() -> None:
        threads = {
            (task / "comm").read_text().strip() + f" {task.name}": int(
                (task / "schedstat").read_text().split()[0]
            )
            for task in Path("/proc/self/task").iterdir()
        }
        found = {
            "callbacks": by_name,
            "longest": sorted(longest, reverse=True),
            "collections": collections,
            "threads_ns": threads,
            "lived_ns": wall_ns() - began_ns,
        }
        Path(result_path).write_text(json.dumps(found))

    if KEEP_LOOP_VARIABLE not in os.environ:
        asyncio.Handle._run = measured  # type: ignore[assignment,method-assign]
        uvloop.run = asyncio.run  # type: ignore[assignment]
    gc.callbacks.append(on_collection)
    atexit.register(write)


if RESULT_VARIABLE in os.environ and "inferry.cli.gateway_worker" in sys.orig_argv:
    install(os.environ[RESULT_VARIABLE])
