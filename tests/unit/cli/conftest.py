"""Runs the `inferry` command in this process, as `main` does, and shows what a person would see."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from inferry.cli.main import main


@dataclass(frozen=True)
class Shown:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Shown]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("config", "check")` in an empty folder with a home of its own; `typed` comes from stdin."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INFERRY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("INFERRY_DEBUG", raising=False)

    def invoke(*argv: str, typed: str = "") -> Shown:
        monkeypatch.setattr("sys.argv", ["inferry", *argv])
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capsys.readouterr()
        assert isinstance(code, int)
        assert "Traceback" not in out + err
        return Shown(code, out, err)

    return invoke
