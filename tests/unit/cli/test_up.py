"""What `inferry up` finds out before it starts anything."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

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
        "error: deployments.a, deployments.b: the embedded llama.cpp is not installed."
    )
    assert "pip install 'inferry[local]'" in shown.err
    assert "make setup" in shown.err
