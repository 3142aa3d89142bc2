"""How much memory process groups hold, as the kernel counts it; nothing where there is no /proc.

The proportional set size (`Pss`, proc_pid_smaps(5)): pages that several processes share, like the weights of a
model that two replicas map from one file, are shared out over them. What a GPU holds is not in it.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

_PROC = Path("/proc")


def memory_by_group(groups: Collection[int], proc: Path = _PROC) -> dict[int, int]:
    """Bytes, by process group, of those in `groups` that have a process. May take some 10 ms: call it in a thread."""
    totals: dict[int, int] = {}
    try:
        entries = [entry for entry in proc.iterdir() if entry.name.isdigit()]
    except OSError:
        return totals
    for entry in entries:
        try:
            # `pid (any name) state ppid pgrp ...`
            group = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[2])
            if group in groups:
                totals[group] = totals.get(group, 0) + _bytes_of(entry)
        except (OSError, ValueError, IndexError):
            continue  # it has just ended
    return totals


def _bytes_of(entry: Path) -> int:
    try:
        for line in (entry / "smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not allowed, or an old kernel: what is resident, shared pages counted fully
    return int((entry / "statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
