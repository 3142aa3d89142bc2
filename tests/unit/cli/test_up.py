"""What `inferry up` finds out before it starts anything."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from typing import Any

import pytest

from inferry.admin.run_record import run_folder
from inferry.cli.up import _run_detached

from .conftest import Run


def test_a_missing_embedded_engine_is_said_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the `local` extra: one message for all deployments, before a model is looked for."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    Path("inferry.yaml").write_text(
        "deployments:\n"
        "  a: {engine: llamacpp, model: 'file:none.gguf', replicas: 2}\n"
        "  b: {engine: llamacpp, model: 'file:none.gguf'}\n"
        "  c: {engine: llamacpp, model: 'file:none.gguf', binary: llama-server}\n"
    )
    shown = run("up", "--port", "0")
    assert (shown.code, shown.out) == (1, "")
    assert shown.err.startswith(
        "error: inferry.yaml:2: deployments.a, deployments.b: the embedded llama.cpp is not installed."
    )
    assert "pip install 'inferry[local]'" in shown.err
    assert "make setup" in shown.err


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("m.gguf", "is a GGUF file, and vllm wants a folder: take engine: llamacpp"),
        ("empty", "has no config.json"),
    ],
)
def test_a_model_of_the_wrong_kind_is_said_before_the_start(
    run: Run, tmp_path: Path, model: str, told: str
) -> None:
    """A GGUF file, or a folder with something else, for an engine that wants safetensors: no start is tried."""
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    Path("m.gguf").write_bytes(b"GGUF")
    Path("empty").mkdir()
    Path("inferry.yaml").write_text(
        f"deployments:\n  a: {{engine: vllm, model: 'file:{model}', binary: {program}}}\n"
    )
    shown = run("up", "--port", "0")
    assert shown.code == 1
    assert "error: inferry.yaml:2: deployments.a.model: " in shown.err
    assert told in shown.err


def test_what_no_engine_could_start_with_is_said_before_anything_is_fetched(run: Run, tmp_path: Path) -> None:
    """Missing programs and wrong arguments of all deployments in one message; no model is looked for."""
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    Path("inferry.yaml").write_text(
        "deployments:\n"
        f"  a: {{engine: vllm, model: 'hf:none/none', binary: {program}, extra_args: [--disable-log-requests]}}\n"
        "  b: {engine: ollama, model: 'none:1b', binary: ./no-ollama}\n"
        "  c: {engine: simulated}\n"
    )
    shown = run("up", "--port", "0")
    assert (shown.code, shown.out) == (1, "")
    first, second = shown.err.rstrip().splitlines()
    assert first.startswith(
        "error: inferry.yaml:2: deployments.a.extra_args: '--disable-log-requests' is gone"
    )
    assert second.startswith("inferry.yaml:3: deployments.b")
    assert "no-ollama" in second


def test_in_the_background_no_modules_come_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process of `--detach` is started with -P: a random.py where it is typed is not run."""
    started: list[list[str]] = []

    def start(argv: list[str], **settings: Any) -> None:
        started.append(argv)
        raise InterruptedError

    monkeypatch.setattr(subprocess, "Popen", start)
    run_folder(tmp_path, 8080).mkdir(parents=True)
    with pytest.raises(InterruptedError):
        _run_detached(tmp_path / "inferry.yaml", 8080, tmp_path)
    assert started[0][1:4] == ["-P", "-m", "inferry"]
