"""`inferry simulate` as a person types it: the example of the documentation, offline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "simulate.yaml"
LOAD = ("--gpu", "a10g", "--steps", "2:5m,8:5m,2:10m", "--input-tokens", "800", "--output-tokens", "200")


def _inferry(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    # A proxy that nobody is at: whatever asked for the network would fail.
    nowhere = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
    return subprocess.run(
        [sys.executable, "-m", "inferry", "simulate", *argv],
        cwd=folder,
        env={
            **os.environ,
            **nowhere,
            "INFERRY_HOME": str(folder / "home"),
            "NO_COLOR": "1",
            "COLUMNS": "100",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.slow
def test_the_example_is_simulated_without_a_gpu_or_a_network(tmp_path: Path) -> None:
    """It scales up within the load, says so, and the page is written."""
    found = _inferry(tmp_path, str(EXAMPLE), *LOAD, "--html", "report.html")
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith(
        "SIMULATED: no engine ran. chat (vllm, hf:meta-llama/Llama-3.1-8B-Instruct)"
    )
    assert "the planner, for meta-llama/Llama-3.1-8B-Instruct on 1 x a10g" in found.stdout
    assert "2 -> " in found.stdout
    assert "</html>" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_errors_are_a_line_and_a_code(tmp_path: Path) -> None:
    """No traceback, exit code 1, and the way out."""
    found = _inferry(tmp_path, str(EXAMPLE), "--rate", "1", "--gpu", "a10g", "--deployment", "cht")
    assert found.returncode == 1
    assert "Did you mean 'chat'?" in found.stderr
    assert "Traceback" not in found.stderr
