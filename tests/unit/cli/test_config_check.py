"""`inferry config check`: what is told of a file whose keys and values are right."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Run, Shown


def checked(run: Run, text: str) -> Shown:
    Path("inferry.yaml").write_text(text)
    return run("config", "check")


# --- models -------------------------------------------------------------------------------------------


def test_a_model_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    """A `file:` model is looked for where `up` looks, below the file's folder, and its key's line is named."""
    text = "deployments:\n  a:\n    engine: llamacpp\n    model: file:models/m.gguf\n"
    path = tmp_path / "models" / "m.gguf"
    refused = checked(run, text)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        f"error: inferry.yaml:4: deployments.a.model: {path} does not exist. Correct the path behind 'file:'.\n"
    )
    path.parent.mkdir()
    path.write_bytes(b"GGUF")
    assert checked(run, text).code == 0


def test_a_model_that_the_engine_cannot_load(run: Run) -> None:
    """A folder without config.json is told by the check, as `up` tells it."""
    Path("empty").mkdir()
    refused = checked(run, "deployments:\n  a: {engine: vllm, model: 'file:empty'}\n")
    assert refused.code == 1
    assert refused.err.startswith("error: inferry.yaml:2: deployments.a.model: its model ")
    assert "has no config.json" in refused.err


@pytest.mark.parametrize("model", ["hf:org/tiny/tiny.gguf", "https://example.org/tiny.gguf"])
def test_a_model_that_is_yet_to_be_fetched(run: Run, model: str) -> None:
    """What `up` would fetch need not be here."""
    assert checked(run, f"deployments:\n  a: {{engine: llamacpp, model: '{model}'}}\n").code == 0


def test_lines_of_what_is_found_late(run: Run) -> None:
    """What only shows when parts are built has file and line, too; a name may hold dots."""
    refused = checked(
        run,
        "deployments:\n  a: {engine: simulated}\n"
        "  a.b:\n    engine: simulated\n    prompt_truth: {tokenizer: nowhere}\n",
    )
    assert refused.err.startswith("error: inferry.yaml:5: deployments.a.b.prompt_truth: ")
