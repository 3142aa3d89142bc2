"""`inferry plan` beside what launches taught: both figures, and how far off facts alone were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inferry.cli.main import app
from inferry.fleet.launch_journal import append_launch
from inferry.planner.learning import Launch
from inferry.planner.setup import Setup

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
PLAN = ["plan", MODEL, "--gpu", "rtx4090", "--users", "10", "--engine", "vllm"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where three launches had a tenth fewer KV tokens than predicted, and a fifth more time between tokens."""
    monkeypatch.setenv("INFERRY_HOME", str(tmp_path))
    for number in range(3):
        append_launch(
            tmp_path,
            Launch(
                wall_s=1e9 + number, engine="vllm", device="rtx4090", model=MODEL, family="llama", weights="bf16",
                setup=Setup("vllm", memory_fraction=0.9),
                predicted={"kv_tokens": 40_000.0, "rest_bytes": 16e9, "itl_ms": 20.0, "loaded_bytes": 16e9},
                measured={"kv_tokens": 36_000.0, "rest_bytes": 16.5e9, "itl_ms": 24.0, "start_s": 40.0},
            ),
        )  # fmt: skip
    return tmp_path


def test_both_figures_are_told(home: Path) -> None:
    """The plan reckons with what was learned, shows the figure by facts alone beside it, and how far off that was."""
    said = json.loads(CliRunner().invoke(app, [*PLAN, "--json"]).stdout)
    learned = {each["figure"]: each for each in said["learned"]}
    tokens = learned["kv_tokens"]
    bytes_per_token = 128 * 1024  # of Llama-3.1-8B's cache in 16 bit
    assert tokens["without"] - tokens["with"] == pytest.approx(0.48e9 / bytes_per_token, rel=0.05)
    assert tokens["error_without"] == pytest.approx(1 / 9)
    assert (tokens["launches"], tokens["other_models"]) == (3, 0)
    assert learned["itl_ms"]["with"] > 1.1 * learned["itl_ms"]["without"]
    assert learned["start_s"]["with"] == pytest.approx(40, rel=0.1)
    words = CliRunner().invoke(app, PLAN).stdout
    assert "s, by 3 launches of it" in words
    assert "with 3 launches of it; facts alone were off by 11%" in words


def test_facts_alone_can_be_asked_for(home: Path) -> None:
    """--no-learning plans as if nothing had ever been launched."""
    learned, alone = (
        json.loads(CliRunner().invoke(app, [*PLAN, "--json", *more]).stdout)
        for more in ([], ["--no-learning"])
    )
    assert alone["learned"] == []
    assert len(learned["learned"]) == 3
    assert learned["recommended"]["memory"] != alone["recommended"]["memory"]
