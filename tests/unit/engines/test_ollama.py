"""What we tell and read of Ollama."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from inferry.core.errors import ConfigError
from inferry.core.launch import CommandPlace
from inferry.core.server_engines import OllamaDeployment
from inferry.engines.adapter import CommandAdapter, LaunchContext
from inferry.engines.ollama import OllamaAdapter

from .golden_files import assert_golden
from .spec_text import at_8123, spec_text

PLACE = CommandPlace("::1", 8123, "llama3.2:1b", "llama3.2:1b", "/files")


def adapter(**fields: object) -> OllamaAdapter:
    deployment = OllamaDeployment.model_validate(
        {"engine": "ollama", "model": "llama3.2:1b", "binary": sys.executable, **fields}
    )
    return OllamaAdapter("chat", deployment)


def test_everything_goes_by_the_environment() -> None:
    """`ollama serve` has no flags: address, sizes and types are variables, and the model is pinned."""
    command = adapter(
        parallel=4, context_tokens=8192, kv_cache_dtype="q8_0", env={"OLLAMA_DEBUG": "1"}
    ).command(PLACE)
    assert (command.program, command.args) == ("ollama", ("serve",))
    assert command.env == {
        "OLLAMA_DEBUG": "1",
        "OLLAMA_HOST": "[::1]:8123",
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_NUM_PARALLEL": "4",
        "OLLAMA_CONTEXT_LENGTH": "8192",
        "OLLAMA_KV_CACHE_TYPE": "q8_0",
        "OLLAMA_FLASH_ATTENTION": "1",
    }
    assert (command.secret_env, dict(command.files)) == ((), {})


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("plain", {}),
        (
            "full",
            {
                "parallel": 4,
                "context_tokens": 8192,
                "kv_cache_dtype": "q4_0",
                "models_folder": "/m",
                "gpus": [2],
            },
        ),
    ],
)
def test_golden_launch_spec(name: str, fields: dict[str, object]) -> None:
    """Every word and variable, as kept."""
    assert_golden(f"ollama-0.33.1-{name}.txt", spec_text(adapter(**fields).launch(at_8123(), {})))


def test_what_the_file_leaves_out_is_ollamas_choice() -> None:
    """Only the address and the pin are always set."""
    assert set(adapter().command(PLACE).env) == {"OLLAMA_HOST", "OLLAMA_KEEP_ALIVE"}
    assert adapter(flash_attention=False).command(PLACE).env["OLLAMA_FLASH_ATTENTION"] == "0"
    assert "OLLAMA_FLASH_ATTENTION" not in adapter(kv_cache_dtype="f16").command(PLACE).env


@pytest.mark.parametrize(
    ("variable", "hint"), [("OLLAMA_HOST", "itself"), ("OLLAMA_CONTEXT_LENGTH", "'context_tokens'")]
)
def test_env_may_not_undo_ours(variable: str, hint: str) -> None:
    """A variable that Inferry sets is refused, with the key to use instead."""
    with pytest.raises(ConfigError, match=rf"deployments\.chat\.env: drop '{variable}'.*{hint}"):
        adapter(env={variable: "1"}).command(PLACE)


def test_a_process_has_this_machines_folder() -> None:
    """Where models are kept is for a process, since a container has a volume; which GPUs it may see, for both."""
    context = LaunchContext("chat-0", "127.0.0.1", 8123, None, "llama3.2:1b", 2, "s3cret")
    subject = adapter(models_folder="/big/models", gpus=[1, 3])
    spec = subject.launch(context, {})
    assert spec.argv == (sys.executable, "serve")
    assert (spec.env["OLLAMA_MODELS"], spec.env["CUDA_VISIBLE_DEVICES"]) == ("/big/models", "1,3")
    assert spec.endpoint.headers == ()
    assert "OLLAMA_MODELS" not in subject.command(PLACE).env
    assert adapter(gpus=[]).launch(context, {}).env["CUDA_VISIBLE_DEVICES"] == "-1"


def test_its_container() -> None:
    """The image of the version, its program said, a volume for its models, and the GPUs of the file."""
    needs = adapter(version="0.14.2", gpus=[0, 1]).container()
    assert (needs.image, needs.entrypoint, needs.gpus) == ("ollama/ollama:0.14.2", ("ollama",), 2)
    assert needs.cache_folder == "/root/.ollama"
    assert adapter(image="mirror.example/ollama:x", gpus=[]).container().image == "mirror.example/ollama:x"
    assert (adapter().container().gpus, adapter(gpus=[]).container().gpus) == (1, 0)
    assert isinstance(adapter(), CommandAdapter)


@pytest.mark.parametrize(
    ("version", "lacks"),
    [
        ("0.9.0", {"/v1/responses", "/v1/messages"}),
        ("0.13.3", {"/v1/messages"}),
        ("0.14.0", set()),
        (None, set()),
    ],
)
def test_older_versions_have_fewer_routes(version: str | None, lacks: set[str]) -> None:
    """Responses came with 0.13.3 and messages with 0.14.0; it never had rerank nor tokenize."""
    newest = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"}
    assert adapter(version=version).routes == newest - lacks


def test_the_model_is_fetched_only_where_it_is_missing_and_wished() -> None:
    """The load comes first, so a machine without a network starts what it has; times are those of the start."""
    load, token = adapter(start_timeout_s=900).warmups
    assert load.path == "/api/generate"
    assert json.loads(load.body) == {"model": "llama3.2:1b", "keep_alive": -1, "stream": False}
    assert load.if_missing is not None
    assert (load.if_missing.path, load.if_missing.timeout_s, load.timeout_s) == ("/api/pull", 900, 900)
    assert json.loads(load.if_missing.body) == {"model": "llama3.2:1b", "stream": False}
    assert token.path == "/v1/completions"
    assert adapter(pull=False).warmups[0].if_missing is None


def test_its_last_words_say_why_it_ended() -> None:
    """Ollama prints `Error:` and why; a signal has its name."""
    said = adapter().read_exit(1, ["time=...", "Error: listen tcp 127.0.0.1:1: bind: address already in use"])
    assert said.retryable
    assert (
        said.message == "the engine exited with code 1: listen tcp 127.0.0.1:1: bind: address already in use"
    )
    assert "SIGKILL" in adapter().read_exit(-9, ["Error: x"]).message


def test_what_would_be_ignored_is_refused(tmp_path: Path) -> None:
    """A quantized cache without flash attention would be none; paths are those beside the file."""
    with pytest.raises(ValueError, match="has no effect without flash attention"):
        adapter(kv_cache_dtype="q4_0", flash_attention=False)
    with pytest.raises(ValueError, match="not a name in Ollama's library"):
        adapter(model="a model")
    deployment = OllamaDeployment.model_validate({"engine": "ollama", "model": "m", "models_folder": "here"})
    assert deployment.resolved_against(tmp_path).models_folder == str(tmp_path / "here")
