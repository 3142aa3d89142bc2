"""A Ray cluster of several nodes on one machine, each of which can be killed whole, and an environment that has Ray."""

from __future__ import annotations

import os
import signal
import site
import socket
import subprocess
import threading
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil

ROOT = Path(__file__).parents[2]
UP_S = 60.0


def environment(folder: Path) -> Path:
    """The interpreter of an environment with all that this one has, and Ray. Made once in `folder`."""
    python = folder / "bin" / "python"
    done = folder / "done"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        [packages] = (folder / "lib").glob("python*/site-packages")
        lines = [f"import site; site.addsitedir({each!r})" for each in site.getsitepackages()]
        (packages / "beside.pth").write_text("\n".join(lines) + "\n")
        lock = str(ROOT / "locks" / "ray.txt")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "--requirement", lock]
        made = subprocess.run(pip, capture_output=True, text=True, timeout=600)
        assert made.returncode == 0, made.stderr[-3000:]
        done.touch()
    return python


def _drain(stream: IO[str]) -> None:
    with stream:
        while stream.readline():
            pass


class Node:
    """One `ray start --block` with all that came of it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def descendants(self) -> list[psutil.Process]:
        """Ray's processes on this node, our agents and their engines."""
        with suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        return []

    def listens_on(self, port: int) -> bool:
        """Whether one of them does."""
        for each in self.descendants():
            with suppress(psutil.Error):
                for found in each.net_connections(kind="tcp"):
                    if found.status == psutil.CONN_LISTEN and found.laddr.port == port:
                        return True
        return False

    def kill(self) -> None:
        """As if its plug were pulled: all at once, and nobody says goodbye."""
        doomed = self.descendants()
        for each in doomed:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGSTOP)
        for each in doomed:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait(10)

    def end(self) -> None:
        """At the end of a test."""
        if self.process.poll() is None:
            self.kill()


class RayNodes:
    """A head that takes no replicas, and nodes that do."""

    def __init__(self, python: Path) -> None:
        self._ray = str(python.with_name("ray"))
        self.environ = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        """For whoever joins it."""
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{one.getsockname()[1]}"
        port = self.address.partition(":")[2]
        self.head = self._start("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false")
        self.nodes: list[Node] = []

    def add(self, cpus: int = 1) -> Node:
        """One more."""
        node = self._start(f"--address={self.address}", f"--num-cpus={cpus}")
        self.nodes.append(node)
        return node

    def node_of(self, port: int) -> Node:
        """Whose engine listens there."""
        [found] = [node for node in self.nodes if node.listens_on(port)]
        return found

    def end(self) -> None:
        """Nothing of it stays."""
        for node in (*self.nodes, self.head):
            node.end()

    def _start(self, *words: str) -> Node:
        process = subprocess.Popen(
            [
                self._ray,
                "start",
                "--block",
                "--node-ip-address=127.0.0.1",
                "--disable-usage-stats",
                "--object-store-memory=100000000",
                *words,
            ],
            env={**os.environ, **self.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        limit = threading.Timer(UP_S, process.kill)
        limit.start()
        said = ""
        for line in process.stdout:
            said += line
            if "runtime started" in line:
                break
        limit.cancel()
        assert process.poll() is None, said
        threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
        return Node(process)


@contextmanager
def ray_nodes(python: Path, count: int) -> Iterator[RayNodes]:
    """A cluster with so many nodes for replicas."""
    cluster = RayNodes(python)
    try:
        for _ in range(count):
            cluster.add()
        yield cluster
    finally:
        cluster.end()
