"""Finds the real tools that check what is rendered: those of `make tools` (or INFERRY_TEST_TOOLS), then the machine's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def tool(name: str) -> str:
    """Its path; skips the test, with the reason, where it is not here."""
    place = os.environ.get("INFERRY_TEST_TOOLS") or Path(__file__).parents[2] / ".venv" / "tools"
    path = shutil.which(name, path=str(Path(place, "bin")))
    # Debian keeps servers where only root looks.
    path = path or shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not here: 'make tools' (or your distribution) installs it")
    return path


def run(
    *argv: str, timeout_s: float = 120, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end; what it said is for the assertion's message."""
    return subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=None if env is None else {**os.environ, **env},
    )


def passes(*argv: str, timeout_s: float = 120) -> str:
    """Run a tool that must be content; its output."""
    done = run(*argv, timeout_s=timeout_s)
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}{done.stderr}"
    return done.stdout
