"""Small real processes for tests, and ways to see whether they live."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from inferry.core.launch import LaunchSpec
from inferry.core.replica import Endpoint

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
# One write for a line: an unbuffered interpreter would write what a comma separates piece by piece.
PARENT_OF_DEAF = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', {DEAF!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(f'child {{child.pid}}', flush=True)
time.sleep(600)
"""


def spec_of(code: str, replica_id: str = "chat-0", env: dict[str, str] | None = None) -> LaunchSpec:
    """Runs `code` in a bare interpreter."""
    return LaunchSpec(replica_id, (sys.executable, "-c", code), Endpoint("127.0.0.1", 1), env or {})


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie, which only waits to be reaped, does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return sys.platform != "linux"  # gone in between; elsewhere there is no /proc


def holds_within(seconds: float, fact: Callable[[], bool]) -> bool:
    """Whether `fact` becomes true in time."""
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        if fact():
            return True
        time.sleep(0.01)
    return fact()
