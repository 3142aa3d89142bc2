"""What the kernel says of a process group: the CPU time it has used, and whether one of it is stopped.

Read from /proc, as proc(5) describes `stat`; where there is none (macOS), nobody knows.
"""

from __future__ import annotations

import os
from pathlib import Path

from inferry.runtime.base import Vitals

_PROC = Path("/proc")
_STATE, _GROUP, _USER, _SYSTEM = 0, 2, 11, 12
"""Fields behind the name, which may hold spaces and brackets: proc(5)'s 3rd, 5th, 14th and 15th."""
LOOKS_PER_SEARCH = 60
"""A search of all of /proc costs 2 ms per hundred processes, a look at one of them 0.02 ms; a group changes seldom."""


class GroupVitals:
    """Reads one group, again and again. Not for several threads."""

    def __init__(self, group: int) -> None:
        self._group = group
        self._pids: list[int] = []
        self._looks = 0
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")

    def read(self) -> Vitals | None:
        """None: nobody can tell, or the group is gone."""
        if self._looks % LOOKS_PER_SEARCH == 0:
            self._pids = _members(self._group)
        self._looks += 1
        stats = [fields for fields in map(_stat, self._pids) if fields is not None]
        if len(stats) < len(self._pids):
            self._looks = 0  # one has ended: look for its successor the next time
        if not stats:
            return None
        ticks = sum(int(fields[_USER]) + int(fields[_SYSTEM]) for fields in stats)
        return Vitals(ticks / self._ticks_per_s, any(fields[_STATE] == b"T" for fields in stats))


def _members(group: int) -> list[int]:
    try:
        pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    except OSError:
        return []
    return [pid for pid in pids if (fields := _stat(pid)) is not None and int(fields[_GROUP]) == group]


def _stat(pid: int) -> list[bytes] | None:
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields if len(fields) > _SYSTEM else None
