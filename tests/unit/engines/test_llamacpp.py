"""What we tell and read of llama.cpp."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from inferry.core.errors import ConfigError
from inferry.core.local_engines import LlamaCppDeployment
from inferry.engines.adapter import LaunchContext, Verdict
from inferry.engines.llamacpp import LlamaCppAdapter

SECRET = "s3cret-of-this-process"


def adapter(**fields: object) -> LlamaCppAdapter:
    deployment = LlamaCppDeployment.model_validate(
        {
            "engine": "llamacpp",
            "model": "file:/models/m.gguf",
            "context_tokens": 2048,
            "parallel": 3,
            **fields,
        }
    )
    return LlamaCppAdapter("chat", deployment)


def context() -> LaunchContext:
    return LaunchContext("chat-0", "127.0.0.1", 8123, Path("/models/m.gguf"), "chat", 2, SECRET)


def value_after(argv: tuple[str, ...], flag: str) -> str:
    return argv[argv.index(flag) + 1]


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> object:
        return real("json") if name == "xllamacpp" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


@pytest.mark.usefixtures("embedded")
def test_embedded_launch_spec() -> None:
    """The child gets model, place, name and sizes as flags, and the key in its environment only."""
    spec = adapter(gpu_layers=7).launch(context(), {})
    assert spec.argv[1:4] == ("-P", "-m", "inferry.engines.llamacpp_child")
    assert value_after(spec.argv, "--model") == "/models/m.gguf"
    assert value_after(spec.argv, "--alias") == "chat"
    assert value_after(spec.argv, "--context-tokens") == "2048"
    assert value_after(spec.argv, "--parallel") == "3"
    assert value_after(spec.argv, "--threads") == "2"
    assert value_after(spec.argv, "--gpu-layers") == "7"
    assert spec.env == {"INFERRY_ENGINE_KEY": SECRET}
    assert spec.endpoint.headers == (("Authorization", f"Bearer {SECRET}"),)
    assert spec.endpoint.url == "http://127.0.0.1:8123"
    assert SECRET not in " ".join(spec.argv) + repr(spec) + repr(context())


def test_missing_extra_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without xllamacpp, the message holds the pip command and the other way out."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'inferry\[local\]'.*binary"):
        adapter().launch(context(), {})


def test_own_binary_gets_its_own_flags(tmp_path: Path) -> None:
    """A llama-server is told where to listen, the context of all slots together, metrics, and our extras last."""
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    subject = adapter(binary="llama-server", extra_args=["--flash-attn", "on"])
    spec = subject.launch(context(), {"PATH": str(tmp_path)})
    assert spec.argv[0] == str(program)
    assert value_after(spec.argv, "--host") == "127.0.0.1"
    assert value_after(spec.argv, "--port") == "8123"
    assert value_after(spec.argv, "--ctx-size") == str(3 * 2048)
    assert "--metrics" in spec.argv
    assert spec.argv[-2:] == ("--flash-attn", "on")
    assert spec.env == {"LLAMA_API_KEY": SECRET}
    assert SECRET not in " ".join(spec.argv)


def test_binary_that_is_not_there(tmp_path: Path) -> None:
    """The message names the key and the value."""
    subject = adapter(binary="llama-servre")
    with pytest.raises(ConfigError, match=r"deployments\.chat\.binary: 'llama-servre'"):
        subject.launch(context(), {"PATH": str(tmp_path)})


@pytest.mark.parametrize(
    ("argument", "hint"), [("--port", "itself"), ("-c", "context_tokens"), ("--host=::", "")]
)
def test_extra_args_may_not_undo_ours(argument: str, hint: str) -> None:
    """A flag that Inferry sets is refused in extra_args, with the key to use instead."""
    with pytest.raises(ConfigError, match=rf"drop '{argument}'.*{hint}"):
        adapter(binary="/bin/sh", extra_args=[argument, "1"]).launch(context(), {})


def test_probe_readings() -> None:
    """503 is loading, 200 ready, anything else a complaint."""
    subject = adapter()
    assert subject.read_probe(503, b'{"error":{"message":"Loading model"}}').verdict is Verdict.LOADING
    assert subject.read_probe(200, b'{"status":"ok"}').verdict is Verdict.READY
    assert subject.read_probe(500, b"").verdict is Verdict.UNWELL


def test_metrics_under_our_names() -> None:
    """llama.cpp's own page, as version 2026.10 prints it."""
    page = (
        "llamacpp:tokens_predicted_total 25\nllamacpp:requests_processing 2\nllamacpp:requests_deferred 1\n"
    )
    metrics = adapter().read_metrics(page)
    assert (metrics.running, metrics.waiting, metrics.tokens_generated) == (2, 1, 25)
    assert metrics.kv_cache_use is None


def test_prompt_tokens_are_those_computed_and_those_cached() -> None:
    """As in its usage, which counts both; a build that does not count cached ones tells nothing comparable."""
    page = "llamacpp:prompt_tokens_total 44\n"
    assert adapter().read_metrics(page).tokens_prompt is None
    assert adapter().read_metrics(page + "llamacpp:prompt_tokens_cached_total 42\n").tokens_prompt == 86


def test_exit_readings() -> None:
    """The child's own words are the message; only its 'don't try again' is final; signals have names."""
    subject = adapter()
    told = subject.read_exit(78, ["loading ...", "inferry: x.gguf is not a GGUF file"])
    assert (told.retryable, told.message) == (False, "x.gguf is not a GGUF file")
    assert subject.read_exit(75, ["inferry: port 1 is taken"]).retryable
    killed = subject.read_exit(-9, ["inferry: serving x.gguf"])
    assert killed.retryable
    assert "SIGKILL" in killed.message
    assert "code 3" in subject.read_exit(3, []).message


def test_routes_that_llamacpp_refuses_are_left_out() -> None:
    """Embeddings and rerank answer 501 on a chat server, so they are not offered."""
    assert "/v1/chat/completions" in adapter().routes
    assert not {"/v1/embeddings", "/v1/rerank"} & adapter().routes
