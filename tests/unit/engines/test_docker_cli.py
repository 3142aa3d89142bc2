"""The printed text, read by Docker's own command line: what it would ask its daemon for.

The daemon is a stand-in that writes down one request, in the form of Docker's Engine API 1.45. Where there is no
`docker`, the tests are skipped; tests/unit/engines/test_container.py holds without it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from inferry.engines.container import ContainerPlan
from inferry.engines.shell_text import docker_text

from .container_plans import FROM_HUB, FULL, PLAIN

pytestmark = pytest.mark.skipif(shutil.which("docker") is None, reason="there is no docker command here")

KEY = "k3y-of-this-test"


class _Daemon(BaseHTTPRequestHandler):
    """Enough of the Engine API for `docker run --detach`."""

    created: list[tuple[str, dict[str, Any]]]

    def _answer(self, status: int, content: object = None) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Api-Version", "1.45")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self._answer(200)

    def do_GET(self) -> None:
        self._answer(200, {"ApiVersion": "1.45"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "/containers/create" in self.path:
            self.created.append((self.path, json.loads(body)))
            self._answer(201, {"Id": "c0ffee", "Warnings": []})
        else:
            self._answer(204)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def daemon() -> Iterator[ThreadingHTTPServer]:
    handler = type("Handler", (_Daemon,), {"created": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def asked(plan: ContainerPlan, daemon: ThreadingHTTPServer, folder: Path) -> tuple[str, dict[str, Any]]:
    """Path and body of the request for a new container, after a shell ran the text."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "DOCKER_HOST": f"tcp://127.0.0.1:{daemon.server_address[1]}",
        "INFERRY_ENGINE_KEY": KEY,
        "REGISTRY_TOKEN": "from outside",
    }
    text = docker_text(replace(plan, files_folder=folder / "my, files"))
    done = subprocess.run(["sh", "-eu", "-c", text], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    created: list[tuple[str, dict[str, Any]]] = daemon.RequestHandlerClass.created  # type: ignore[attr-defined]
    [request] = created
    return request


def test_docker_reads_everything_as_it_is_meant(daemon: ThreadingHTTPServer, tmp_path: Path) -> None:
    """GPUs, mounts, memory, port, user, command: Docker asks for exactly what the plan says."""
    path, body = asked(FULL, daemon, tmp_path)
    host = body["HostConfig"]
    assert "name=inferry-chat" in path
    assert body["Image"] == "example/engine:1.0"
    assert (*body["Entrypoint"], *body["Cmd"]) == FULL.inside
    assert body["User"] == "1000:1000"
    assert body["StopTimeout"] == 31
    assert host["Init"] is True
    assert host["ShmSize"] == 8 * 1024**3
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["PortBindings"] == {"8001/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8001"}]}
    assert host["SecurityOpt"] == ["no-new-privileges"]
    [gpus] = host["DeviceRequests"]
    assert gpus["DeviceIDs"] == ["2", "3"]
    mounts = {each["Target"]: each for each in host["Mounts"]}
    assert mounts["/model"]["Source"] == "/srv/models/big, new"
    assert mounts["/inferry"]["Source"] == str(tmp_path / "my, files")
    assert {each["Target"] for each in host["Mounts"] if each.get("ReadOnly")} == {
        "/model", "/inferry", "/srv/adapters/law"
    }  # fmt: skip
    assert mounts["/var/cache/engine"]["Type"] == "volume"


def test_docker_takes_secrets_from_the_environment(daemon: ThreadingHTTPServer, tmp_path: Path) -> None:
    """What is named only, Docker fills in itself: key and token arrive in the container, and were in no argument."""
    _, body = asked(FULL, daemon, tmp_path)
    env = dict(each.split("=", 1) for each in body["Env"])
    assert env == {"LEVEL": "a b$", "ENGINE_API_KEY": KEY, "REGISTRY_TOKEN": "from outside"}


def test_a_token_that_is_not_set_is_not_passed(daemon: ThreadingHTTPServer, tmp_path: Path) -> None:
    """The hub's token is optional: without it the container has no such variable, not an empty one."""
    _, body = asked(FROM_HUB, daemon, tmp_path)
    assert not [each for each in body["Env"] or [] if each.startswith("HF_TOKEN=")]


def test_gpus_by_number(daemon: ThreadingHTTPServer, tmp_path: Path) -> None:
    """Without indexes Docker is asked for as many GPUs as the engine needs; without a need, for none."""
    two = replace(PLAIN, needs=replace(PLAIN.needs, gpus=2))
    [gpus] = asked(two, daemon, tmp_path)[1]["HostConfig"]["DeviceRequests"]
    assert gpus["Count"] == 2
