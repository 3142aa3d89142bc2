"""What the kernel says of a process group: CPU time grows with work, and a stopped process is seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inferry.runtime.process_group import signal_group
from inferry.runtime.vitals import GroupVitals

from .children import holds_within

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here")


@contextmanager
def group(program: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    try:
        yield process
    finally:
        signal_group(process.pid, signal.SIGKILL)
        process.wait()


def cpu_s(vitals: GroupVitals) -> float:
    seen = vitals.read()
    return 0.0 if seen is None else seen.cpu_s


def test_work_of_the_whole_group_is_seen() -> None:
    """A child of the engine that computes counts as the engine's own work."""
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    with group(program) as process:
        vitals = GroupVitals(process.pid)
        assert holds_within(20, lambda: cpu_s(vitals) > 0.3)


def test_a_stopped_process_is_seen_and_uses_nothing() -> None:
    """SIGSTOP shows at once, the CPU time stands still, and SIGCONT undoes it."""
    with group("while True: pass") as process:
        vitals = GroupVitals(process.pid)
        assert holds_within(10, lambda: cpu_s(vitals) > 0)
        os.kill(process.pid, signal.SIGSTOP)
        assert holds_within(5, lambda: (seen := vitals.read()) is not None and seen.stopped)
        used_s = cpu_s(vitals)
        assert not holds_within(0.3, lambda: cpu_s(vitals) > used_s)
        os.kill(process.pid, signal.SIGCONT)
        assert holds_within(5, lambda: (seen := vitals.read()) is not None and not seen.stopped)


def test_a_group_that_is_gone_has_none() -> None:
    """Nothing is known of the dead."""
    with group("pass") as process:
        process.wait()
        assert GroupVitals(process.pid).read() is None
