"""Which model a plan is about: files, hubs, the store and shipped facts by one way, and its name in a deployment file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inferry.cli.local_model import read_local_model
from inferry.cli.plan_model import planned_model
from inferry.core.errors import ConfigError
from inferry.core.model_ref import parse_model_ref
from inferry.models.manifest import Fetched, StoredFile
from inferry.models.store import ModelStore
from inferry.planner.facts.own_facts import OwnFacts

from .conftest import Run
from .gguf_file import HIDDEN, VOCAB, write_gguf

CONFIG = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "vocab_size": 100,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
Q8_BYTES = HIDDEN * VOCAB * 34 // 32


def test_a_gguf_file_is_planned_by_its_own_bytes(tmp_path: Path) -> None:
    """Its header tells the architecture and its tensors the bytes; the deployment file names the file."""
    path = write_gguf(tmp_path / "m.gguf")
    found = planned_model(str(path), OwnFacts(), {})
    assert (found.architecture.hidden, found.architecture.layers) == (HIDDEN, 2)
    assert (found.architecture.native_format, found.architecture.stored_bytes) == ("gguf", Q8_BYTES)
    assert (found.source, found.path) == (f"file:{path}", path)


def test_a_folder_and_its_config_are_the_same_model(tmp_path: Path) -> None:
    """Both are served as the folder."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    sources = {
        planned_model(str(each), OwnFacts(), {}).source for each in (tmp_path, tmp_path / "config.json")
    }
    assert sources == {f"file:{tmp_path}"}


def test_a_stored_model_is_planned_by_its_files_under_its_own_words(tmp_path: Path) -> None:
    """What was pulled needs no hub: its files tell, and the deployment file keeps the words that name it."""
    environ = {"INFERRY_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    words = "hf:org/name/m.gguf"
    store, ref = ModelStore(tmp_path), parse_model_ref(words)
    folder = store.unfinished(ref) / "fetched"
    folder.mkdir()
    size = write_gguf(folder / "m.gguf").stat().st_size
    kept = store.publish(ref, Fetched(folder, (StoredFile("m.gguf", size, "0" * 64),), "m.gguf", ""), 0.0)
    found = planned_model(words, OwnFacts(), environ)
    assert (found.source, found.path, found.architecture.stored_bytes) == (words, kept.path, Q8_BYTES)


def test_a_repository_falls_back_on_shipped_facts(tmp_path: Path) -> None:
    """hf: asks the hub; where it can't be reached the shipped facts stand in, with a note."""
    environ = {"INFERRY_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    found = planned_model("hf:Qwen/Qwen3-8B", OwnFacts(), environ)
    assert (found.source, found.path, found.architecture.layers) == ("hf:Qwen/Qwen3-8B", None, 36)
    assert "shipped facts" in found.architecture.notes[0]
    assert planned_model("qwen3:8b", OwnFacts(), environ).source == "hf:Qwen/Qwen3-8B"


def test_a_path_without_a_model_is_told_as_a_path(tmp_path: Path) -> None:
    """`./nothing` is not looked up among the models' names."""
    with pytest.raises(ConfigError, match=r"There is no nothing"):
        planned_model("./nothing", OwnFacts(), {"INFERRY_HOME": str(tmp_path)})


def test_a_gguf_file_gets_a_plan_on_a_gpu(run: Run, tmp_path: Path) -> None:
    """From the file to a deployment file that names it, with what the engine's support for it is worth."""
    path = write_gguf(tmp_path / "m.gguf")
    argv = (
        "plan",
        str(path),
        "--gpu",
        "l4",
        "--users",
        "2",
        "--input",
        "100",
        "--engine",
        "vllm",
        "--write",
        "a.yaml",
    )
    shown = run(*argv)
    assert shown.code == 0
    said = " ".join(shown.out.split())
    assert "vLLM, weights in gguf: experimental" in said
    assert "--engine llamacpp" in said
    assert f"model: file:{path}" in (tmp_path / "a.yaml").read_text()


def test_a_name_without_a_repository_is_planned_but_not_written(run: Run) -> None:
    """`Qwen3-8B-FP8` tells sizes and format; whose repository is to be served, only a whole name tells."""
    shown = run("plan", "Qwen3-8B-FP8", "--gpu", "l4", "--write", "a.yaml")
    assert (shown.code, shown.out) == (2, "")
    assert "Name it whole, as org/name" in shown.err
    assert run("plan", "Qwen3-8B-FP8", "--gpu", "l4").code == 0


def test_a_file_in_parts_counts_as_a_whole(tmp_path: Path) -> None:
    """What a CPU loads are all parts: their bytes, and the second copies of types that are interleaved."""
    first = write_gguf(tmp_path / "m-00001-of-00002.gguf", kind="Q4_0")
    second = write_gguf(tmp_path / "m-00002-of-00002.gguf", kind="Q4_0", tensors=2, header=False)
    found = read_local_model(first)
    each = HIDDEN * VOCAB * 18 // 32
    assert found.format == "q4_0"
    assert found.weights_bytes == first.stat().st_size + second.stat().st_size
    assert (found.arch.stored_bytes, found.copies_bytes) == (3 * each, 2 * each)


def test_an_ollama_name_is_planned_and_written_for_ollama(run: Run) -> None:
    """The 20 GB file of a model of 65 GB on one card of 32; with vLLM it is the repository that it was made of."""
    shown = run("plan", "qwen3:32b", "--gpu", "rtx5090", "--users", "2", "--write", "a.yaml")
    assert shown.code == 0
    assert "Take 1 x rtx5090" in shown.out
    assert "never compared with measurements" in " ".join(shown.out.split())
    text = Path("a.yaml").read_text()
    assert "engine: ollama" in text
    assert "model: qwen3:32b" in text
    assert run("config", "check", "a.yaml").code == 0
    argv = (
        "plan",
        "llama3.1:8b",
        "--gpu",
        "rtx4090",
        "--users",
        "2",
        "--engine",
        "vllm",
        "--write",
        "b.yaml",
    )
    assert run(*argv).code == 0
    assert "model: hf:meta-llama/Llama-3.1-8B-Instruct\n" in Path("b.yaml").read_text()
