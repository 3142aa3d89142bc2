"""What the runtimes' contract suite needs of each: a runtime, engines that are small programs, and ways to harm them."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from inferry.core.kubernetes_settings import KubernetesSettings
from inferry.core.launch import LaunchOrder, LaunchSpec, Needs, Seat
from inferry.core.ray_settings import RaySettings
from inferry.core.replica import Endpoint
from inferry.runtime.base import Runtime
from inferry.runtime.kubernetes.access import read_kubeconfig
from inferry.runtime.kubernetes.client import KubernetesClient
from inferry.runtime.kubernetes.handle import PodHandle
from inferry.runtime.kubernetes.pod_runtime import KubernetesRuntime
from inferry.runtime.local import LocalRuntime
from tests.standins.kubernetes import StandinKubernetes

ENGINE = """
import http.server, os, signal, sys
if os.environ.get("DEAF"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
        if self.path.startswith("/exit/"):
            self.wfile.flush()
            print("told to exit", flush=True)
            os._exit(int(self.path.rpartition("/")[2]))
    def log_message(self, *words):
        pass
server = http.server.HTTPServer((sys.argv[1], int(sys.argv[2])), Handler)
print("engine is up", flush=True)
server.serve_forever()
"""
"""Answers `ok`; GET /exit/N ends it with code N. SIGTERM ends it, unless it is started deaf."""


@dataclass
class Orders:
    """Makes orders for one runtime, and keeps what was asked for."""

    said: list[str] = field(default_factory=list)

    def order(self, replica_id: str, *, deaf: bool = False, program: str = sys.executable) -> LaunchOrder:
        def spec_at(seat: Seat) -> LaunchSpec:
            argv = (program, "-c", ENGINE, seat.host, str(seat.port))
            env = {"DEAF": "1"} if deaf else {}
            return LaunchSpec(replica_id, argv, Endpoint(seat.host, seat.port), env)

        return LaunchOrder(replica_id, replica_id.rpartition("-")[0], Needs(), spec_at, self.said.append)


class RuntimeCase(Protocol):
    """One kind of runtime under test."""

    @property
    def kind(self) -> str: ...

    @property
    def grace_code(self) -> tuple[int, ...]:
        """Exit codes of a program that SIGTERM ends there."""

    @property
    def refuses_programs(self) -> bool:
        """A program that is not there is known before `start` returns; else its handle ends, and says so."""

    def made(self, folder: Path) -> AbstractAsyncContextManager[Runtime]: ...


class LocalCase:
    kind = "local"
    grace_code = (-15,)
    refuses_programs = True

    @asynccontextmanager
    async def made(self, folder: Path) -> AsyncIterator[Runtime]:
        runtime = LocalRuntime(folder / "logs")
        try:
            yield runtime
        finally:
            await runtime.close()


@functools.cache
def ray_head() -> str:
    """The address of a head of its own, which ends with this process."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
    host, _, port = address.partition(":")
    os.environ["RAY_AUTH_MODE"] = "disabled"  # of the head, and of us
    words = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--node-ip-address={host}",
        f"--port={port}", "--num-cpus=4", "--include-dashboard=false", "--disable-usage-stats",
        "--object-store-memory=100000000",
    ]  # fmt: skip
    head = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    atexit.register(head.wait, 30)
    atexit.register(head.terminate)
    assert head.stdout is not None
    said = ""
    for line in head.stdout:
        said += line
        if "runtime started" in line:
            threading.Thread(target=head.stdout.read, daemon=True).start()
            return address
    raise AssertionError(said)


class RayCase:
    """Joins a cluster of this machine alone, which is started once for all tests."""

    kind = "ray"
    grace_code = (-15,)
    refuses_programs = True

    @asynccontextmanager
    async def made(self, folder: Path) -> AsyncIterator[Runtime]:
        from inferry.runtime.ray.ray_runtime import RayRuntime

        settings = RaySettings(kind="ray", address=ray_head(), cpus_per_replica=0.5)
        runtime = RayRuntime(settings, folder / "logs")
        try:
            yield runtime
        finally:
            await runtime.close()


class _DescribedRuntime(KubernetesRuntime):
    """Has each order's program as its deployment's pod: what a cluster's Deployment objects say in life."""

    pods_described: dict[str, dict[str, Any]]

    async def start(self, order: LaunchOrder) -> PodHandle:
        spec = order.spec_at(Seat("$(POD_IP)", POD_PORT, Path("/nowhere")))
        address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        container = {
            "name": "engine",
            "image": "engine:1",
            "command": list(spec.argv),
            "env": [address, *({"name": name, "value": value} for name, value in spec.env.items())],
        }
        self.pods_described[order.deployment] = {"containers": [container]}
        return await super().start(order)


POD_PORT = 8000


class KubernetesCase:
    """On a stand-in for an API server, which runs pods as processes; it is not Kubernetes."""

    kind = "kubernetes"
    grace_code = (-15,)
    refuses_programs = False

    @asynccontextmanager
    async def made(self, folder: Path) -> AsyncIterator[Runtime]:
        with StandinKubernetes(pods="processes", folder=folder / "standin", images={"engine": []}) as cluster:
            settings = KubernetesSettings(kind="kubernetes", keep=False, pod_start_timeout_s=5.0)
            access = read_kubeconfig(cluster.kubeconfig(folder / "kubeconfig"), settings)
            described: dict[str, dict[str, Any]] = {}
            runtime = _DescribedRuntime(
                KubernetesClient(access),
                settings,
                folder / "logs",
                random.Random(1),
                port=POD_PORT,
                pod_spec_of=described.get,
            )
            runtime.pods_described = described
            try:
                yield runtime
            finally:
                await runtime.close()


CASES: dict[str, RuntimeCase] = {"kubernetes": KubernetesCase(), "local": LocalCase()}
if importlib.util.find_spec("ray") is not None:
    CASES["ray"] = RayCase()
