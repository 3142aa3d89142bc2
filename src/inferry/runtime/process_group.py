"""Signals to a process group, and whether anyone in it still lives."""

from __future__ import annotations

import os
import signal
from pathlib import Path

_PROC = Path("/proc")


def signal_group(group: int, number: signal.Signals) -> None:
    """Send `number` to all of the group; nothing happens if nobody is left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return
    except PermissionError:
        return  # macOS says so for a group of zombies


def group_lives(group: int) -> bool:
    """Whether a process of the group still runs. Zombies hold nothing and don't count: where the first process
    of a container reaps nobody, they stay forever."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    try:
        entries = list(_PROC.iterdir())
    except OSError:
        return True  # macOS has no /proc, and its launchd reaps
    return any(_runs_in(entry, group) for entry in entries if entry.name.isdigit())


def _runs_in(entry: Path, group: int) -> bool:
    try:
        # `pid (any name) state ppid pgrp ...`
        state, _, pgrp, *_ = (entry / "stat").read_bytes().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return False
    return int(pgrp) == group and state not in (b"Z", b"X")
