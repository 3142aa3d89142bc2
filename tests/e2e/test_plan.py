"""`inferry plan` as a person types it: quick, offline, and its file is ready to start."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

PLAN = (
    "plan", "meta-llama/Llama-3.1-8B-Instruct", "--gpu", "rtx4090", "--users", "50", "--input", "500", "--output", "200"
)  # fmt: skip
ENOUGH_S = 1.0
TRIES = 3


def inferry(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    # A proxy that nobody is at: whatever asked for the network would fail.
    nowhere = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
    return subprocess.run(
        [sys.executable, "-m", "inferry", *argv],
        cwd=folder,
        env={**os.environ, **nowhere, "INFERRY_HOME": str(folder / "home"), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.slow
def test_a_plan_takes_less_than_a_second(tmp_path: Path) -> None:
    """Of the processor's time, the best of three, since other processes are none of its business."""
    used = []
    for _ in range(TRIES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert inferry(tmp_path, *PLAN).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(used) < ENOUGH_S


@pytest.mark.slow
def test_from_a_name_to_a_launch_command(tmp_path: Path) -> None:
    """Plan, check and dry run one after the other, as three processes without a network."""
    planned = inferry(tmp_path, *PLAN, "--write", "inferry.yaml")
    assert planned.returncode == 0
    assert "Take 1 x rtx4090" in planned.stdout
    assert inferry(tmp_path, "config", "check").returncode == 0
    dry = inferry(tmp_path, "up", "--dry-run")
    assert dry.returncode == 0
    assert "meta-llama/Llama-3.1-8B-Instruct" in dry.stdout
    assert "CUDA_VISIBLE_DEVICES=0" in dry.stdout
