"""The `inferry` command as a person runs it: a child process, its terminal output, its control API."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx

T = TypeVar("T")


def wait_for(what: str, probe: Callable[[], T | None], timeout_s: float = 30.0) -> T:
    """What `probe` returns, once it is neither None nor False."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = probe()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.02)


def process_gone(pid: int) -> bool:
    """Whether no process has this id; a zombie that nobody has waited for counts as gone."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    except ProcessLookupError:
        return True
    return state == "Z"


class Inferry:
    """Runs `inferry` verbs in a home of their own."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        """`python`: of an environment that has Inferry."""
        self.folder = folder
        self.python = python
        self.home = folder / "home"
        self.home.mkdir(exist_ok=True)
        self.environ = {**os.environ, "INFERRY_HOME": str(self.home), "NO_COLOR": "1", "COLUMNS": "160"}

    def write(self, text: str, name: str = "inferry.yaml") -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def run(self, *words: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, "-m", "inferry", *words],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )

    def status(self) -> dict[str, Any]:
        done = self.run("status", "--json")
        assert done.returncode == 0, done.stderr
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    @contextlib.contextmanager
    def up(self, *words: str) -> Iterator[Up]:
        """`inferry up --port 0` in the foreground, until the block ends."""
        log_path = self.folder / "up.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [self.python, "-m", "inferry", "up", *words, "--port", "0"],
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield Up(self, process, log_path)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


class Up:
    """One `inferry up`."""

    def __init__(self, inferry: Inferry, process: subprocess.Popen[bytes], log_path: Path) -> None:
        self.inferry = inferry
        self.process = process
        self.log_path = log_path

    def output(self) -> str:
        return self.log_path.read_text()

    def wait_ready(self) -> str:
        """The gateway's address without /v1, once the terminal says ready."""

        def ready() -> bool:
            assert self.process.poll() is None, self.output()
            return "Ready after" in self.output() or "Listening after" in self.output()

        wait_for("inferry up is ready", ready, 60.0)
        return self.output().split()[2].removesuffix("/v1")

    def control(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Asks the control API, directly: a verb's start costs half a second."""
        records = [json.loads(p.read_text()) for p in self.inferry.home.glob("run/*/instance.json")]
        if len(records) > 1:
            records = [each for each in records if each["pid"] == self.process.pid]  # others were killed
        [record] = records
        transport = httpx.HTTPTransport(uds=record["socket"])
        with httpx.Client(transport=transport, base_url="http://control", timeout=60) as client:
            return client.request(method, path, json=body)

    def new_key(self, tenant: str, **settings: object) -> str:
        """The text of a new key."""
        made = self.control("POST", "/keys", {"tenant": tenant, **settings})
        assert made.status_code == 201, made.text
        return str(made.json()["key"])

    def gateway_pids(self) -> list[int]:
        """The gateway processes, in the order of their start."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [
            int(pid)
            for pid in children
            if b"inferry.cli.gateway_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def replicas(self) -> dict[str, dict[str, Any]]:
        """Replica records of the control API by id."""
        status = self.control("GET", "/status").json()
        return {each["id"]: each for one in status["deployments"] for each in one["replicas"]}
