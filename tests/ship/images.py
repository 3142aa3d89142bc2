"""Really built images and containers, by podman and buildah: no registry is asked, and no daemon is needed.

The base image stands in for `python:3.11-slim`: a Debian of the same Python, made here by debootstrap, under its name.
"""

from __future__ import annotations

import configparser
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from inferry.cli.rendered_files import write_folder
from inferry.render.docker import BASE, render_docker
from inferry.render.shipment import Shipment
from tests.ship.shipments import small_shipment
from tests.ship.tools import passes, run, tool

ROOT = Path(__file__).parents[2]
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
NEEDED = ("podman", "buildah", "runc", "debootstrap")
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
[network]
network_backend = "netavark"
"""
"""For machines without systemd, and those that are containers themselves."""


@cache
def folder() -> Path:
    """Kept between sessions where INFERRY_TEST_ENGINES names a folder; else of this one."""
    kept = os.environ.get("INFERRY_TEST_ENGINES")
    found = Path(kept, "images") if kept else Path(tempfile.mkdtemp(prefix="inferry-images-"))
    found.mkdir(parents=True, exist_ok=True)
    return found


@cache
def container_env() -> dict[str, str]:
    """The environment for podman, buildah and Compose; skips where no containers can be run."""
    for name in NEEDED:
        tool(name)
    if os.geteuid() != 0:
        pytest.skip("containers are tested as root: without systemd, podman wants it here")
    path = folder() / "containers.conf"
    path.write_text(CONTAINERS_CONF)
    os.environ["CONTAINERS_CONF"] = str(path)
    probe = run(tool("podman"), "info")
    if probe.returncode:
        pytest.skip(f"podman does not run here: {probe.stderr[-300:]}")
    return {"CONTAINERS_CONF": str(path)}


def podman(*argv: str, timeout_s: float = 120) -> str:
    """What it says; fails with its words."""
    container_env()
    return passes(tool("podman"), *argv, timeout_s=timeout_s).strip()


@contextmanager
def _alone() -> Iterator[None]:
    """One builder at a time, whoever they are."""
    with (folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def has_image(name: str) -> bool:
    return run(tool("podman"), "image", "exists", name).returncode == 0


def base_image() -> str:
    """The stand-in under its real name; made once."""
    container_env()
    if not has_image(BASE):
        archive = folder() / "base.tar"
        if not archive.exists():
            with tempfile.TemporaryDirectory() as work:
                root = Path(work, "rootfs")
                command = (tool("debootstrap"), "--variant=minbase", f"--include={BASE_PACKAGES}")
                passes(*command, "bookworm", str(root), _mirror(), timeout_s=600)
                passes("tar", "-C", str(root), "-cf", f"{archive}.part", ".")
                Path(f"{archive}.part").rename(archive)
        # python:3.11-slim calls it `python`, too.
        podman("import", str(archive), BASE, timeout_s=300)
    return BASE


def _mirror() -> str:
    """Where this machine's apt fetches from; skips where that can't be read."""
    place = Path("/etc/apt")
    lines = [
        line.split()
        for path in (
            *sorted(place.glob("sources.list.d/*.sources")),
            *sorted(place.glob("sources.list*/*.list")),
            place / "sources.list",
        )
        if path.is_file()
        for line in path.read_text().splitlines()
    ]
    for words in lines:
        if words[:1] in (["URIs:"], ["deb"]):
            for word in words[1:]:
                if word.startswith(("http:", "https:", "file:")) and "security" not in word:
                    return word
    pytest.skip("the base image is made from apt's mirror, and this machine's is not to be found")


@cache
def wheel() -> Path:
    """Of this checkout."""
    target = Path(tempfile.mkdtemp(prefix="inferry-wheel-"))
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    passes(*pip, "--wheel-dir", str(target), str(ROOT), timeout_s=300)
    [found] = target.glob("inferry-*.whl")
    return found


def machine_mounts(work: Path) -> list[str]:
    """`-v` options that let pip inside of a build fetch as it does here: its settings, what they name, certificates."""
    settings = configparser.ConfigParser(interpolation=None)
    settings["global"] = {}
    paths = set()
    for line in passes(sys.executable, "-m", "pip", "config", "list").splitlines():
        key, _, value = line.partition("=")
        value = value.strip("'")
        settings["global"][key.removeprefix("global.").removeprefix(":env:.")] = value.replace("\\n", "\n")
        named = [word.removeprefix("file://") for word in value.replace("\\n", " ").split()]
        paths |= {_top(Path(word)) for word in named if word.startswith("/") and Path(word).exists()}
    with (work / "pip.conf").open("w") as target:
        settings.write(target)
    mounts = {str(work / "pip.conf"): "/etc/pip.conf"} | {str(path): str(path) for path in paths}
    return [word for outside, inside in mounts.items() for word in ("-v", f"{outside}:{inside}:ro")]


def _top(path: Path) -> Path:
    """Files by themselves, of folders below /opt all of them: links in them lead to their neighbours."""
    return path if path.is_file() or len(path.parts) < 4 else Path(*path.parts[:3])


def build(context: Path, name: str) -> None:
    """As `docker build` would, without a network of its own and without any registry."""
    container_env()
    with tempfile.TemporaryDirectory() as work:
        command = [tool("buildah"), "bud", "--isolation", "chroot", "--network", "host", "--pull-never"]
        command += ["--layers", "--format", "docker", *machine_mounts(Path(work)), "-t", name, str(context)]
        passes(*command, timeout_s=600)


def gateway_image(shipment: Shipment | None = None) -> str:
    """The name of the gateway's image, really built from what `inferry render docker` writes and this checkout's wheel.

    Built once for the same sources.
    """
    container_env()
    files = dict(render_docker(shipment or small_shipment()))
    name = f"localhost/inferry:{_fingerprint(files)}"
    with _alone():
        if not has_image(name):
            base_image()
            with tempfile.TemporaryDirectory() as work:
                write_folder(Path(work), files)
                shutil.copy(wheel(), work)
                build(Path(work), name)
    return name


def _fingerprint(files: Mapping[str, str]) -> str:
    seen = hashlib.sha256(repr(sorted(files.items())).encode())
    for path in sorted((ROOT / "src").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            seen.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return seen.hexdigest()[:16]


@contextmanager
def podman_socket() -> Iterator[str]:
    """Podman's answer to Docker's API, for Compose: the value for DOCKER_HOST. Its health checks are run here, each
    second, as no systemd does."""
    env = {**os.environ, **container_env()}
    with tempfile.TemporaryDirectory(prefix="inferry-podman-") as work:
        url = f"unix://{work}/podman.sock"
        server = subprocess.Popen(
            (tool("podman"), "system", "service", "--time", "0", url),
            env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        loop = f"while sleep 1; do for c in $({tool('podman')} ps -q); do {tool('podman')} healthcheck run $c; done; done"
        checks = subprocess.Popen(
            ("sh", "-c", loop), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield url
        finally:
            for process in (checks, server):
                process.kill()
                process.wait()
