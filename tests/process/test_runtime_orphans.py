"""No engine outlives the process that started it, however that one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from .children import DEAF, PARENT_OF_DEAF, SLEEPER, holds_within, is_alive

# A parent that owns a runtime, prints the pids of what it starts, and then hangs, so that only we can end it.
OWNER = """
import asyncio, sys, time
from pathlib import Path
from inferry.core.launch import LaunchSpec
from inferry.core.replica import Endpoint
from inferry.runtime.local import LocalRuntime

async def main():
    runtime = LocalRuntime(Path(sys.argv[1]))
    for number, code in enumerate(sys.argv[2:]):
        spec = LaunchSpec(f"chat-{number}", (sys.executable, "-c", code), Endpoint("127.0.0.1", 1))
        handle = await runtime.run(spec)
        print("engine", handle.pid, flush=True)
        while "up" not in str(handle.log_tail()) and "child" not in str(handle.log_tail()):
            await asyncio.sleep(0.01)
        for line in handle.log_tail():
            if line.startswith("child"):
                print("engine", line.split()[1], flush=True)
    print("guard", runtime.guard_pid, flush=True)
    time.sleep(600)

asyncio.run(main())
"""

# The same, killed in the middle of a start: the marker in the engine's argv finds it later.
STARTER = """
import asyncio, os, sys
from pathlib import Path
from inferry.core.launch import LaunchSpec
from inferry.core.replica import Endpoint
from inferry.runtime.local import LocalRuntime

async def main():
    runtime = LocalRuntime(Path(sys.argv[1]))
    async def start(number):
        await runtime.run(LaunchSpec(f"chat-{number}", ("/bin/sleep", "600", sys.argv[2]), Endpoint("h", 1)))
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(start(number))
    await asyncio.sleep(600)

print("begin", flush=True)
asyncio.run(main())
"""


Own = Callable[..., tuple[subprocess.Popen[str], list[int], int]]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Own]:
    """Starts a parent that owns one engine per piece of code, and returns when all are up: the parent, the
    engines' pids, the guard's pid."""
    parents: list[subprocess.Popen[str]] = []

    def start(*codes: str) -> tuple[subprocess.Popen[str], list[int], int]:
        parent = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(tmp_path), *codes], stdout=subprocess.PIPE, text=True
        )
        parents.append(parent)
        assert parent.stdout is not None
        engines: list[int] = []
        for line in parent.stdout:
            match line.split():
                case ["engine", pid]:
                    engines.append(int(pid))
                case ["guard", pid]:
                    return parent, engines, int(pid)
        raise AssertionError("the parent ended early")

    yield start
    for parent in parents:
        kill(parent)


def kill(parent: subprocess.Popen[str]) -> None:
    parent.kill()
    parent.wait()
    assert parent.stdout is not None
    parent.stdout.close()


def test_nothing_outlives_a_killed_parent(own: Own) -> None:
    """After kill -9 of the parent, polite and deaf engines, a deaf grandchild and the guard are gone in 3 s."""
    parent, engines, guard = own(SLEEPER, DEAF, PARENT_OF_DEAF)
    assert len(engines) == 4
    kill(parent)
    assert holds_within(3, lambda: not any(map(is_alive, [*engines, guard])))


def test_signals_that_kill_parents_dont_kill_the_guard(own: Own) -> None:
    """Ctrl-C and a shutdown's SIGTERM leave the guard at its post until the parent is gone."""
    parent, engines, guard = own(DEAF)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(guard, number)
    kill(parent)
    assert holds_within(3, lambda: not any(map(is_alive, [*engines, guard])))


def test_a_replaced_guard_still_guards(own: Own) -> None:
    """After the guard was killed, its successor knows the engines that were started before."""
    parent, engines, guard = own(PARENT_OF_DEAF)
    os.kill(guard, signal.SIGKILL)
    assert holds_within(2, lambda: guards_of(parent.pid) not in ([], [guard]))
    kill(parent)
    assert holds_within(3, lambda: not any(map(is_alive, engines)))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process die with its parent")
def test_killing_parent_and_guard_together_still_ends_engines(own: Own) -> None:
    """On Linux the engines themselves die with their parent, also when `pkill -9` hits the guard too."""
    parent, engines, guard = own(DEAF)
    os.kill(guard, signal.SIGSTOP)
    kill(parent)
    os.kill(guard, signal.SIGKILL)
    assert holds_within(3, lambda: not any(map(is_alive, engines)))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_parent_killed_in_the_middle_of_a_start(tmp_path: Path) -> None:
    """Killed at any moment from before the fork to after the exec, it leaves no engine and no launcher."""
    for step in range(10):
        marker = f"inferry-test-{os.getpid()}-{step}"
        parent = subprocess.Popen(
            [sys.executable, "-c", STARTER, str(tmp_path), marker], stdout=subprocess.PIPE, text=True
        )
        assert parent.stdout is not None
        parent.stdout.readline()
        holds_within(0.012 * step, lambda: False)
        kill(parent)
        assert holds_within(3, partial(none_runs_with, marker)), f"left behind after {12 * step} ms"


def none_runs_with(marker: str) -> bool:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and marker.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return not any(map(is_alive, found))


def guards_of(parent: int) -> list[int]:
    """Children of `parent` that run the guard's script."""
    found = subprocess.run(
        ["ps", "-ww", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in found.splitlines()]
    return [int(pid) for pid, ppid, args in rows if int(ppid) == parent and "guard.py" in args]
