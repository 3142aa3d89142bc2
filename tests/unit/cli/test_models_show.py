"""`inferry models show` for names, folders, GGUF files and a hub on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from inferry.cli.model_facts import model_facts
from inferry.cli.models import app
from inferry.cli.models_show import show
from inferry.core.errors import ConfigError, ModelFetchFailed

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
PARAMS = 100 * 64 + 2 * (64 * (64 + 32 + 32 + 64) + 3 * 64 * 128 + 128) + 64


@pytest.fixture
def hub() -> Iterator[str]:
    """A hub with the repository o/n: a config, ModelOpt's file beside it, and a count of its elements."""
    files = {
        "config.json": json.dumps(CONFIG).encode(),
        "hf_quant_config.json": b'{"quantization": {"quant_algo": "FP8"}}',
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path.startswith("/api/models/"):
                siblings = [{"rfilename": name} for name in (*files, "model.safetensors")]
                counted = {"parameters": {"BF16": PARAMS}, "total": PARAMS}
                info = {"id": "o/n", "sha": COMMIT, "siblings": siblings, "safetensors": counted}
                self._send(json.dumps(info).encode())
            else:
                self._send(files[path.rsplit("/", 1)[-1]])

        do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

        def _send(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", '"e"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_address[1]}"
        finally:
            running.shutdown()
            thread.join()


def shown(*argv: str) -> str:
    command = CliRunner()
    if not any(each.name == "show" for each in app.registered_commands):
        app.command("show")(show)
    result = command.invoke(app, ["show", *argv])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_a_name_shows_parts_bytes_and_source() -> None:
    """Parameters by part, bytes by format, KV bytes per token: the published sizes of Llama 3.1 8B."""
    text = shown("llama3.1:8b")
    assert "8,030,261,248" in text
    assert "GQA, 32 heads of 128, 8 for KV; MLP 14,336" in text
    assert "128.00 KiB" in text
    assert "config.json" in text


def test_without_a_model_the_known_ones_are_listed() -> None:
    """Each with its size and format, for people and programs."""
    text = shown()
    assert "openai/gpt-oss-120b" in text
    assert "116.8 B" in text
    listed = {each["name"]: each for each in json.loads(shown("--json"))}
    assert listed["Qwen/Qwen3-8B"]["params"] == 8_190_735_360


def test_an_ollama_name_is_a_file_of_its_own() -> None:
    """`llama3.1:8b` is the instruct model in 4 bit, as Ollama's library has it (4.9 GB); the note names the repository."""
    text = shown("llama3.1:8b")
    assert "4.61 GiB" in text
    assert "meta-llama/Llama-3.1-8B-Instruct as a GGUF file" in text


def test_json_holds_the_same() -> None:
    """One object with numbers, not words."""
    document = json.loads(shown("openai/gpt-oss-120b", "--json"))
    assert document["params"]["total"] == 116_829_156_672
    assert document["format"] == "mxfp4"
    assert document["kv_bytes_per_token"]["bf16"] == 18 * 2 * 8 * 64 * 2


def test_a_folder_tells_exact_counts(tmp_path: Path) -> None:
    """Headers of the weights add parameters and bytes; a config that disagrees with them is noted."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    header = json.dumps({"w": {"dtype": "F16", "shape": [PARAMS], "data_offsets": [0, 2 * PARAMS]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    found = model_facts(str(tmp_path), {})
    assert (found.params_exact, found.stored_bytes, found.notes) == (PARAMS, 2 * PARAMS, ())
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 4}))
    assert "its files hold" in model_facts(str(tmp_path), {}).notes[0]


def test_a_gguf_file_shows_its_own_bytes(sample_model: Path) -> None:
    """The sample: SmolLM2-135M, every parameter counted, stored as its file says."""
    found = model_facts(str(sample_model), {})
    assert found.params_exact == 134_515_008
    assert found.native_format == "gguf"
    assert found.stored_bytes is not None
    assert "in its files" in shown(str(sample_model))


def test_a_hub_is_asked_for_kilobytes(hub: str, tmp_path: Path) -> None:
    """config.json, the format beside it and the count of elements come; weights don't."""
    environ = {"HF_ENDPOINT": hub, "INFERRY_HOME": str(tmp_path)}
    found = model_facts("hf:o/n", environ)
    assert (found.params_exact, found.stored_bytes) == (PARAMS, 2 * PARAMS)
    assert found.native_format == "fp8"
    assert found.source == f"config.json of o/n at {COMMIT[:12]}"


def test_without_a_hub_the_shipped_facts_stand_in(tmp_path: Path) -> None:
    """And say so; a repository that does not ship keeps the hub's error."""
    environ = {"HF_ENDPOINT": "http://127.0.0.1:9", "INFERRY_HOME": str(tmp_path)}
    found = model_facts("hf:Qwen/Qwen3-8B", environ)
    assert found.notes[0] == "the hub could not be asked; these are shipped facts"
    with pytest.raises(ModelFetchFailed):
        model_facts("hf:nobody/of-this-name", environ)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lama-3.1-8b", "Did you mean"),
        ("pypi:some-wheel/model.gguf", "inferry models pull"),
        ("file:/nowhere", "There is no /nowhere"),
    ],
)
def test_what_is_not_known_ends_in_a_way_out(text: str, words: str, tmp_path: Path) -> None:
    """A near name, the verb that fetches, or the path."""
    with pytest.raises(ConfigError, match=words):
        model_facts(text, {"INFERRY_HOME": str(tmp_path)})


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    """A model in several GGUF files needs all of them to be counted."""
    first = tmp_path / "m-00001-of-00002.gguf"
    first.write_bytes(b"GGUF")
    with pytest.raises(ConfigError, match=r"m-00002-of-00002\.gguf is missing"):
        model_facts(str(first), {})


def test_the_page_shows_what_is_printed() -> None:
    """The example in docs/models.md is the verb's own output."""
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
    assert shown("Qwen/Qwen3-30B-A3B") in page
