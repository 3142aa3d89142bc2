"""What processes cost: CPU time and memory of a process and everything it started, from /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_ESTABLISHED = "01"


def tree(root: int) -> list[int]:
    """`root` and all processes below it."""
    parents: dict[int, int] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue  # ended meanwhile
            parents[int(entry.name)] = int(text.rpartition(")")[2].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time of all threads, also of those that have ended; a process that is gone counts 0.

    Read from the process's CPU clock, which counts nanoseconds: /proc/PID/stat has the same number in ticks of
    10 ms. The clock's id is made as clock_getcpuclockid(3) makes it on Linux.
    """
    total_ns = 0
    for pid in pids:
        try:
            total_ns += time.clock_gettime_ns((~pid << 3) | 2)
        except OSError:
            continue
    return total_ns / 1e9


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes, now and at most."""

    rss_bytes: int
    peak_bytes: int


def memory(pids: Iterable[int]) -> Memory:
    """Resident memory of the processes together. Pages that they share count once for each."""
    rss = peak = 0
    for pid in pids:
        try:
            lines = (_PROC / str(pid) / "status").read_text().splitlines()
        except OSError:
            continue
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        rss += int(fields.get("VmRSS", "0 kB").split()[0]) * 1024
        peak += int(fields.get("VmHWM", "0 kB").split()[0]) * 1024
    return Memory(rss, peak)


def serving(pids: Iterable[int], port: int) -> list[int]:
    """Those of the processes that hold an open connection of a client to `port`."""
    inodes = set()
    for line in (_PROC / "net" / "tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == _ESTABLISHED and int(fields[1].partition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    return [pid for pid in pids if inodes & set(_open_files(pid))]


def _open_files(pid: int) -> list[str]:
    found = []
    try:
        names = list((_PROC / str(pid) / "fd").iterdir())
    except OSError:
        return []
    for name in names:
        try:
            found.append(os.readlink(name))  # noqa: PTH115 # a socket's link is no path
        except OSError:
            continue
    return found
