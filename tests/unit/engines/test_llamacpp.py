"""What we tell and read of llama.cpp."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from inferry.core.errors import ConfigError
from inferry.core.launch import CommandPlace, ContainerNeeds
from inferry.core.local_engines import LlamaCppDeployment
from inferry.engines.adapter import CommandAdapter, LaunchContext, Verdict
from inferry.engines.llamacpp import LlamaCppAdapter

from .golden_files import assert_golden
from .spec_text import at_8123, spec_text

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


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "llama-server"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_own_binary_gets_its_own_flags(program: str) -> None:
    """A llama-server is told where to listen, the context of all slots together, metrics, and our extras last."""
    subject = adapter(binary="llama-server", extra_args=["--flash-attn", "on"], env={"GGML_VK_VISIBLE": "0"})
    spec = subject.launch(context(), {"PATH": str(Path(program).parent)})
    assert spec.argv[0] == program
    assert value_after(spec.argv, "--host") == "127.0.0.1"
    assert value_after(spec.argv, "--port") == "8123"
    assert value_after(spec.argv, "--ctx-size") == str(3 * 2048)
    assert "--metrics" in spec.argv
    assert spec.argv[-2:] == ("--flash-attn", "on")
    assert spec.env == {"LLAMA_API_KEY": SECRET, "GGML_VK_VISIBLE": "0"}
    assert spec.endpoint.headers == (("Authorization", f"Bearer {SECRET}"),)
    assert SECRET not in " ".join(spec.argv)


def test_golden_launch_spec() -> None:
    """Every word and variable of a llama-server, as kept."""
    subject = adapter(
        binary=sys.executable, gpu_layers=20, env={"GGML_CUDA_P2P": "1"}, extra_args=["--jinja"]
    )
    assert_golden("llamacpp-b10434-full.txt", spec_text(subject.launch(at_8123("/models/m.gguf"), {})))


def test_the_command_of_a_container(program: str) -> None:
    """The same words for an embedded deployment, with paths as seen from inside; the key by name only."""
    place = CommandPlace("0.0.0.0", 8000, "/model/m.gguf", "chat", "/inferry", threads=4)
    command = adapter(gpu_layers=9).command(place)
    assert isinstance(adapter(), CommandAdapter)
    assert command.program == "llama-server"
    assert " ".join(command.args) == (
        "--model /model/m.gguf --host 0.0.0.0 --port 8000 --alias chat --metrics --ctx-size 6144 --parallel 3 "
        "--threads 4 --threads-http 256 --n-gpu-layers 9"
    )
    assert command.secret_env == ("LLAMA_API_KEY",)
    assert adapter(binary=program, gpu_layers=9).command(place) == command


def test_its_images() -> None:
    """The build's own image, for the CPU unless layers go to the GPU; the entry point is always said."""
    assert adapter().container() == ContainerNeeds(
        "ghcr.io/ggml-org/llama.cpp:server-b10481", ("/app/llama-server",), gpus=0
    )
    on_gpu = adapter(gpu_layers=99, version="b10731").container()
    assert (on_gpu.image, on_gpu.gpus) == ("ghcr.io/ggml-org/llama.cpp:server-cuda-b10731", 1)
    assert adapter(image="mirror.example/x:1").container().image == "mirror.example/x:1"


def test_binary_that_is_not_there(tmp_path: Path) -> None:
    """The message names the key and the value."""
    subject = adapter(binary="llama-servre")
    with pytest.raises(ConfigError, match=r"deployments\.chat\.binary: 'llama-servre'"):
        subject.launch(context(), {"PATH": str(tmp_path)})


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--port", "1"], "drop '--port': Inferry sets it itself"),
        (["-c", "1"], "drop '-c': write 'context_tokens' in the deployment instead"),
        (["--host=::"], "drop '--host'"),
        (["--ssl-key-file", "k"], "drop '--ssl-key-file'"),
        (
            ["--draft-max", "8"],
            "'--draft-max' is gone (llamacpp 10434 has it no more): use --spec-draft-n-max",
        ),
        (["--mlock"], "use --load-mode mlock"),
        (["--flash-atn", "on"], "no flag '--flash-atn'. Did you mean '--flash-attn'?"),
        (["--flash-attn"], "'--flash-attn' needs a value"),
        (["--batch-size=512"], "as a word of its own: '--batch-size', '512'"),
    ],
)
def test_extra_args_are_checked(args: list[str], words: str) -> None:
    """What Inferry sets, what is gone, what is unknown and what llama-server can't read, each with the way out."""
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        adapter(binary="/bin/sh", extra_args=args).launch(context(), {})
    assert caught.value.message.startswith("deployments.chat.extra_args: ")


@pytest.mark.parametrize(
    "args",
    [
        ["-fa", "on", "--no-kv-offload", "-nkvo", "-ctk", "q8_0"],
        ["--control-vector-layer-range", "1", "4", "--jinja"],
        ["--seed", "-1", "--load-mode", "mmap+mlock"],
    ],
)
def test_extra_args_of_its_own_go_through(args: list[str]) -> None:
    """Short and negated spellings, two values, and negative numbers."""
    assert adapter(binary="/bin/sh", extra_args=args).launch(context(), {}).argv[-len(args) :] == tuple(args)


def test_flags_are_those_of_the_build() -> None:
    """A flag that is not in the table passes for a build newer than it; one that went later, for a build that has it."""
    args = ["--brand-new", "1"]
    with pytest.raises(ConfigError, match="has no flag '--brand-new'"):
        adapter(binary="/bin/sh", extra_args=args).launch(context(), {})
    old = ["--mlock"]
    assert adapter(binary="/bin/sh", extra_args=old, version="b10434").launch(context(), {}).argv[
        -1:
    ] == tuple(old)
    newer = adapter(binary="/bin/sh", extra_args=args, version="b99999")
    assert newer.launch(context(), {}).argv[-2:] == tuple(args)


def test_env_and_extra_args_are_for_a_program() -> None:
    """The embedded engine has neither."""
    for fields in ({"env": {"A": "1"}}, {"extra_args": ["--jinja"]}):
        with pytest.raises(ValueError, match="name it in 'binary'"):
            adapter(**fields)
    with pytest.raises(ValueError, match="not a variable's name"):
        adapter(binary="x", env={"A B": "1"})


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


@pytest.mark.parametrize(
    ("log", "retryable", "says"),
    [
        (["error: invalid argument: --nonsense"], False, "error: invalid argument: --nonsense"),
        (
            ['error while handling argument "--ctx-size": stoi', "", "usage:", "-c, --ctx-size N   size"],
            False,
            'error while handling argument "--ctx-size": stoi',
        ),
        (
            [
                "0.00.003.118 E srv         start: couldn't bind HTTP server socket, hostname: h, port: 1",
                "0.00.003.223 E srv  llama_server: exiting due to HTTP server error",
            ],
            True,
            "couldn't bind HTTP server socket",
        ),
        (["nothing to see"], True, "code 1"),
    ],
)
def test_exits_of_a_llama_server(log: list[str], retryable: bool, says: str) -> None:
    """Build b10434's own words: its first complaint is told, and an argument that it refuses is final."""
    reading = adapter(binary="x").read_exit(1, log)
    assert (reading.retryable, says in reading.message) == (retryable, True)


def test_a_page_of_build_b10434() -> None:
    """A page recorded from a llama-server with 2 slots and 5 requests."""
    page = (Path(__file__).parents[2] / "fixtures" / "metrics" / "llamacpp-b10434.txt").read_text()
    metrics = adapter().read_metrics(page)
    assert (metrics.running, metrics.waiting) == (2, 3)
    assert (metrics.tokens_prompt, metrics.tokens_generated) == (10, 0)


def test_routes_that_llamacpp_refuses_are_left_out() -> None:
    """Embeddings and rerank answer 501 on a chat server, so they are not offered."""
    assert "/v1/chat/completions" in adapter().routes
    assert not {"/v1/embeddings", "/v1/rerank"} & adapter().routes
