"""The contenders from PyPI: each in an environment of its own below the cache, at a pinned version."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

# What was newest on PyPI when this was written. Raise them together, and write down the new figures.
PINNED = {
    "sglang-router": "sglang-router==0.3.2",
    "smg": "smg==1.13.0",
    "vllm-router": "vllm-router==0.1.17",
    "litellm": "litellm[proxy]==1.106.2",
}
INSTALL_LIMIT_S = 900.0


class NotInstalled(Exception):
    """A contender can't take part; the text says why."""


def environment(name: str, cache: Path) -> Path:
    """The `bin` folder of the contender's environment, made on first use; raises NotInstalled."""
    requirement = PINNED[name]
    folder = cache / requirement.replace("[", "-").replace("]", "").replace("==", "-")
    done = folder / "installed"
    if not done.exists():
        sys.stderr.write(f"installing {requirement}\n")
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if uv := shutil.which("uv"):
            _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
            _run([uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), requirement])
        else:
            _run([sys.executable, "-m", "venv", str(folder)])
            _run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", requirement])
        done.touch()
    return folder / "bin"


def _run(command: list[str]) -> None:
    try:
        ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=INSTALL_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"the installation took longer than {INSTALL_LIMIT_S:g} s") from None
    if ended.returncode:
        lines = [line for line in ended.stderr.splitlines() if line.strip()]
        raise NotInstalled("the installation failed: " + (lines[-1].strip() if lines else "without a word"))
