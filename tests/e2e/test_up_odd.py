"""`inferry up` in odd places: readers that leave, signals that were ignored, homes that can't be written."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .inferry_process import Inferry, Up, wait_for

SIMULATED = "deployments:\n  chat: {engine: simulated}\n"


@pytest.fixture
def inferry(tmp_path: Path) -> Inferry:
    inferry = Inferry(tmp_path)
    inferry.write(SIMULATED)
    return inferry


@contextlib.contextmanager
def started(inferry: Inferry, *words: str, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """`inferry WORDS`, with Popen's arguments in `how`; killed at the end if it still runs."""
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(
        [sys.executable, "-m", "inferry", *words],
        **{**silent, "cwd": inferry.folder, "env": inferry.environ, "start_new_session": True, **how},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def settled(inferry: Inferry, process: subprocess.Popen[bytes]) -> dict[str, dict[str, Any]]:
    """The replicas by id, once all are ready."""
    up = Up(inferry, process, inferry.folder / "none")

    def ready() -> dict[str, dict[str, Any]] | None:
        assert process.poll() is None, "inferry up has ended"
        try:
            replicas = up.replicas()
        except (ValueError, httpx.HTTPError):
            return None  # not yet
        return replicas if all(each["state"] == "ready" for each in replicas.values()) else None

    return wait_for("all replicas are ready", ready)


# --- those who read what it says ----------------------------------------------------------------------


def test_a_reader_that_leaves_ends_nothing(inferry: Inferry) -> None:
    """`inferry up | head -1`: the instance runs on, and its good end stays one."""
    with started(inferry, "up", "--port", "0", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"inferry ")
        process.stdout.close()
        settled(inferry, process)
        process.send_signal(signal.SIGTERM)
        assert (process.wait(20), process.stderr.read()) == (0, b"")


def test_a_reader_that_is_stuck_holds_nothing_up(inferry: Inferry) -> None:
    """A pipe that is full from the start: the instance comes up, answers and ends."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 65536)
    os.set_blocking(writing, True)
    with started(inferry, "up", "--port", "0", stdout=writing) as process:
        os.close(writing)
        settled(inferry, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    os.close(reading)
