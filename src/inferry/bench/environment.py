"""What the client's machine is like: facts by which a figure can be judged, and none by which it can be found."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from inferry import __version__


def environment(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """By name, in words. No host names, no addresses, no users."""
    system = os.uname()
    facts = {
        "inferry": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{system.sysname} {system.release}",
        "machine": system.machine,
        "cores": str(_cores()),
    }
    if model := _cpu_model(cpuinfo):
        facts["cpu"] = model
    return facts


def _cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model(cpuinfo: Path) -> str | None:
    """None: the system does not say, as macOS and most ARM machines do not."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
