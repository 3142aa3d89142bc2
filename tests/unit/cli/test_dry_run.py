"""`inferry up --dry-run`: the launch commands of a file, on any machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Run


def test_it_prints_each_replica_and_starts_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that are not here are shown as they would be started where they are, each replica on its own port."""
    monkeypatch.setenv("PATH", "/nonexistent")
    Path("inferry.yaml").write_text(
        "deployments:\n"
        "  a: {engine: vllm, model: 'hf:org/name', replicas: 2, standby: 1, context_tokens: 4096, gpus: [3]}\n"
        "  b: {engine: simulated}\n"
        "  c: {engine: openai, model: far, endpoints: ['http://10.0.0.7:8000/v1']}\n"
    )
    shown = run("up", "--dry-run", "--port", "8123")
    assert (shown.code, shown.err) == (0, "")
    assert "listen on 127.0.0.1:8123" in shown.out
    for title in ("# a-0: vllm, port 20001", "# a-1: vllm, port 20002", "# a-2 (standby): vllm, port 20003"):
        assert title in shown.out
    assert shown.out.count("vllm serve org/name") == 3
    assert "--max-model-len 4096" in shown.out
    assert "CUDA_VISIBLE_DEVICES=3" in shown.out
    assert "can't be started here" in shown.out
    assert "# c: run by others; nothing to start" in shown.out


def test_values_from_the_environment_stay_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that the file refers to is named, and its value is nowhere."""
    monkeypatch.setenv("HUB_SECRET", "hunter2-in-the-open")
    Path("inferry.yaml").write_text(
        "deployments:\n  a: {engine: vllm, model: 'hf:org/name', env: {TOKEN: '${HUB_SECRET}'}}\n"
    )
    shown = run("up", "--dry-run")
    assert shown.code == 0
    assert 'export TOKEN="${TOKEN:?' in shown.out
    assert "hunter2" not in shown.out


def test_values_in_the_file_are_not_shown_either(run: Run) -> None:
    """Tokens and passwords are written under `env` as they are: their names are printed, what Inferry itself sets is whole."""
    Path("inferry.yaml").write_text(
        "deployments:\n  a: {engine: vllm, model: 'hf:org/name', gpus: [3], env: {HF_TOKEN: hf_hunter2, DB: pass word}}\n"
    )
    shown = run("up", "--dry-run")
    assert shown.code == 0
    assert 'export HF_TOKEN="${HF_TOKEN:?' in shown.out
    assert 'export DB="${DB:?' in shown.out
    assert "hunter2" not in shown.out
    assert "pass word" not in shown.out
    assert "CUDA_VISIBLE_DEVICES=3" in shown.out


def test_a_wrong_file_is_said_as_up_says_it(run: Run) -> None:
    """An argument that the engine's version does not know is an error with its line."""
    Path("inferry.yaml").write_text(
        "deployments:\n  a: {engine: vllm, model: 'hf:org/name', extra_args: ['--no-such-flag']}\n"
    )
    shown = run("up", "--dry-run")
    assert (shown.code, shown.out) == (1, "")
    assert shown.err.startswith("error: inferry.yaml:2: deployments.a.extra_args")
