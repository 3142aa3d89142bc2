"""Reads what this machine has for engines: driver, memory, disk, limits. Starts nothing but nvidia-smi."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from inferry.engines.machine import BusyPort, Driver, Gpu, Machine
from inferry.fleet.threads import cores_available

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
SHARED_MEMORY = Path("/dev/shm")
AMD_DRIVER = Path("/dev/kfd")
NVIDIA_SMI_TIMEOUT_S = 20
"""It takes seconds on machines with many GPUs, and hangs where a GPU has fallen off the bus."""

_MIB = 1024**2


def read_machine(home: Path) -> Machine:
    """All readings; what can't be read is None. May take seconds where there are GPUs."""
    driver, driver_problem = read_driver()
    memory, available = read_memory(PROC, CGROUPS)
    folder = home / "models"
    free, writable = read_disk(folder)
    return Machine(
        python=(sys.version_info.major, sys.version_info.minor),
        cores=cores_available(),
        cores_of_machine=os.cpu_count() or 1,
        driver=driver,
        amd_gpu=AMD_DRIVER.exists(),
        driver_problem=driver_problem,
        memory_bytes=memory,
        memory_available_bytes=available,
        disk_folder=str(folder),
        disk_free_bytes=free,
        disk_writable=writable,
        shm_bytes=_size_of(SHARED_MEMORY),
        open_files_max=_open_files(),
        tasks_max=_cgroup_limit(PROC, CGROUPS, "pids.max", "pids/pids.max"),
    )


def read_driver() -> tuple[Driver | None, str | None]:
    """NVIDIA's driver; or why it does not answer though nvidia-smi is there. Neither: there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None, None
    try:
        done = subprocess.run(
            [program, "-q", "-x"],
            check=False,
            capture_output=True,
            text=True,
            timeout=NVIDIA_SMI_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return None, f"nvidia-smi did not answer within {NVIDIA_SMI_TIMEOUT_S} s"
    except OSError as error:
        return None, f"nvidia-smi can't be run: {error.strerror or error}"
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
        return None, f"nvidia-smi fails: {said[0]}"
    try:
        return driver_of(done.stdout), None
    except ElementTree.ParseError:
        return None, "nvidia-smi's answer can't be read"


def driver_of(page: str) -> Driver:
    """What `nvidia-smi -q -x` says. Raises ElementTree.ParseError if it is no XML."""
    root = ElementTree.fromstring(page)
    gpus = []
    for gpu in root.iter("gpu"):
        total = _mib(gpu.findtext("fb_memory_usage/total"))
        used = _mib(gpu.findtext("fb_memory_usage/used"))
        gpus.append(Gpu(gpu.findtext("product_name") or "a GPU", total, used))
    return Driver(root.findtext("driver_version") or "unknown", root.findtext("cuda_version"), tuple(gpus))


def _mib(text: str | None) -> int:
    """`81559 MiB`; 0 for N/A, as GPUs say that share the machine's memory."""
    number = (text or "").partition(" ")[0]
    return int(number) * _MIB if number.isdigit() else 0


def read_memory(proc: Path, cgroups: Path) -> tuple[int | None, int | None]:
    """Bytes in all, and those that are free: of the machine, or less if a cgroup has a limit."""
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None, None
    values = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines if len(line.split()) > 1}
    total, available = values.get("MemTotal"), values.get("MemAvailable")
    limit = _cgroup_limit(proc, cgroups, "memory.max", "memory/memory.limit_in_bytes")
    if limit is None or total is None or available is None or limit >= total:
        return total, available
    used = _cgroup_limit(proc, cgroups, "memory.current", "memory/memory.usage_in_bytes") or 0
    return limit, min(available, max(limit - used, 0))


def _cgroup_limit(proc: Path, cgroups: Path, name: str, name_v1: str) -> int | None:
    """The smallest number that this process' cgroup, or one above it, has under this name; None: no limit."""
    found = [
        number for folder in _cgroup_folders(proc, cgroups) if (number := _number(folder / name)) is not None
    ]
    if found:
        return min(found)
    return _number(cgroups / name_v1)


def _cgroup_folders(proc: Path, cgroups: Path) -> Iterator[Path]:
    """From the process' own to the root; in a container its own is the root of what can be seen."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    own = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
    folder = cgroups / own.lstrip("/")
    while folder != cgroups and cgroups in folder.parents:
        yield folder
        folder = folder.parent
    yield cgroups


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # `max`: no limit


def read_disk(folder: Path) -> tuple[int | None, bool]:
    """Bytes free where `folder` is or will be, and whether it can be written."""
    there = next((each for each in (folder, *folder.parents) if each.exists()), None)
    if there is None:
        return None, False
    try:
        return shutil.disk_usage(there).free, os.access(there, os.W_OK | os.X_OK)
    except OSError:
        return None, False


def _size_of(folder: Path) -> int | None:
    try:
        numbers = os.statvfs(folder)
    except OSError:
        return None
    return numbers.f_frsize * numbers.f_blocks


def _open_files() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def busy_port(key: str, host: str, port: int) -> BusyPort | None:
    """Tries the address for a moment; None: it is free. Port 0 always is."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return BusyPort(key, f"{host}:{port}", (error.strerror or str(error)).lower())
    return None
