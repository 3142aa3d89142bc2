"""Facts for the planner from files: a deployment file, or one that holds nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inferry.cli.facts_file import read_own_facts
from inferry.core.errors import ConfigError
from inferry.core.facts_settings import Facts

from .conftest import Run

CONFIG = {
    "model_type": "llama",
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
    "vocab_size": 1000,
    "max_position_embeddings": 8192,
}
FACTS = """\
facts:
  devices:
    ours: {like: l40s, usd_per_hour: "${PRICE}"}
  models:
    house/model: {config: model}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


@pytest.mark.parametrize("rest", ["", "deployments: {d: {engine: simulated}}\n"])
def test_facts_stand_alone_or_in_a_deployment_file(folder: Path, rest: str) -> None:
    """Both are read alike: variables, and paths of models relative to the file."""
    path = folder / "facts.yaml"
    path.write_text(FACTS + rest)
    facts = read_own_facts(path, {"PRICE": "0.40"})
    price = facts.find_device("ours").price
    assert price is not None
    assert price.usd_per_hour == 0.4
    model = facts.find_model("house/model")
    assert model is not None
    assert model.layers == 16


def test_no_file_is_no_facts() -> None:
    """The catalog alone."""
    assert read_own_facts(None, {}).find_device("l4").name == "l4"


def test_mistakes_name_file_line_key_and_way_out(folder: Path) -> None:
    """As in the deployment file; a file that is not there, or is no JSON, is told too."""
    path = folder / "facts.yaml"
    path.write_text("facts:\n  devices:\n    ours: {like: l40s, bandwith_gb_per_second: 5}\n")
    with pytest.raises(
        ConfigError, match=r"facts\.yaml:3: facts\.devices\.ours\.bandwith.*'bandwidth_gb_per_second'"
    ):
        read_own_facts(path, {})
    path.write_text("facts: {models: {m: {config: nowhere.json}}}\n")
    with pytest.raises(ConfigError, match=r"facts\.models\.m\.config: .*nowhere\.json can't be read"):
        read_own_facts(path, {})
    (folder / "nowhere.json").write_text("[")
    with pytest.raises(ConfigError, match="is not JSON"):
        read_own_facts(path, {})
    with pytest.raises(ConfigError, match="does not exist"):
        read_own_facts(folder / "none.yaml", {})


def test_more_usable_than_there_is_makes_no_sense() -> None:
    """A driver reports less than the nameplate."""
    with pytest.raises(ValueError, match="'usable_memory' is more than 'nameplate_memory'"):
        Facts.model_validate(
            {"devices": {"d": {"like": "l4", "nameplate_memory": "24GiB", "usable_memory": "25GiB"}}}
        )


def test_a_plan_takes_them(folder: Path, run: Run) -> None:
    """A device that only its owner knows, at its owner's price; without the file it is unknown."""
    path = folder / "facts.yaml"
    path.write_text("facts: {devices: {ours: {like: l40s, usd_per_hour: 0.25}}}\n")
    asked = ("plan", "Qwen/Qwen2.5-7B-Instruct", "--gpu", "ours", "--count", "1", "--engine", "vllm")
    shown = run(*asked, "--facts", str(path))
    assert "1 x ours for 0.25 USD/h" in " ".join(shown.out.split())
    unknown = run(*asked)
    assert unknown.code == 2
    assert "'ours' is no device of the catalog" in unknown.err
    assert "--facts" in unknown.err
