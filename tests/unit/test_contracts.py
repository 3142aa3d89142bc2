"""The import contracts hold, and they bite: a violation put into a scratch copy is found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter over the package in `folder`."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_contracts_are_kept(copy: Path) -> None:
    """As the source stands, every contract is kept."""
    done = lint(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("core/clock.py", "import inferry.gateway.gateway", "rooms: who may import whom"),
        ("engines/openai.py", "import inferry.policy.routing", "rooms: who may import whom"),
        ("policy/retry.py", "import asyncio", "policies are pure"),
        ("planner/load.py", "import subprocess", "policies are pure"),
        ("gateway/exchange.py", "import time", "one clock"),
        ("gateway/exchange.py", "import httpx", "the hot path needs no HTTP client library"),
        ("fleet/fleet.py", "import inferry.testing.manual_clock", "production never imports the test kit"),
        ("gateway/served.py", "import inferry.gateway.gateway", "no cycles between rooms"),
    ],
)
def test_a_violation_is_found(copy: Path, file: str, line: str, contract: str) -> None:
    """One wrong import breaks the contract that forbids it."""
    path = copy / "src" / "inferry" / file
    path.write_text(f"{path.read_text()}\n{line}  # noqa\n")
    done = lint(copy)
    assert done.returncode != 0
    broken = [text for text in done.stdout.splitlines() if " BROKEN" in text]
    assert any(text.startswith(contract) for text in broken), done.stdout


def test_a_room_without_a_place_is_found(copy: Path) -> None:
    """A new room must be given its place among the layers."""
    (copy / "src" / "inferry" / "utils").mkdir()
    (copy / "src" / "inferry" / "utils" / "__init__.py").write_text('"""?"""\n')
    assert lint(copy).returncode != 0
