"""The machine in words: figures without it mean nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def describe() -> dict[str, str]:
    """What a reader needs to compare with their own machine."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    fields = {name.strip(): value.strip() for name, _, value in reversed(lines)}
    cpu = fields.get("model name", platform.machine())
    if "cpu family" in fields:
        cpu += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    virtual = "virtual machine" if "hypervisor" in fields.get("flags", "").split() else "no hypervisor seen"
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "CPU": cpu,
        "cores": f"{len(os.sched_getaffinity(0))} ({virtual})",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "load before": load,
        "commit": _commit(),
    }


def _commit() -> str:
    """The commit, and how much of Inferry differs from it."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", "src").splitlines()
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
    return head + (f", with {len(changed)} files of src changed" if changed else "")


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
