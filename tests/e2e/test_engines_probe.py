"""`inferry engines probe` against servers: the simulated engine, stand-ins, and real llama.cpp."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inferry.core.local_engines import LlamaCppDeployment, SimulatedDeployment
from inferry.engines.adapter import LaunchableAdapter
from inferry.engines.llamacpp import LlamaCppAdapter
from inferry.engines.simulated import SimulatedAdapter
from tests.contract.engine_cases import NAME, SECRET
from tests.contract.test_engine_http import start
from tests.standins.ollama import OllamaStandin
from tests.standins.serving import served
from tests.standins.tensorrt_llm import TensorRtLlmStandin
from tests.standins.tgi import TgiStandin


def run(*words: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != "INFERRY_ENGINE_KEY"}
    if key is not None:
        environ["INFERRY_ENGINE_KEY"] = key
    command = [sys.executable, "-m", "inferry", "engines", "probe", *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)


def probed(url: str, *words: str, key: str | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """The report, and what each feature came to."""
    done = run(url, "--json", *words, key=key)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    return report, {each["name"]: each["can"] for each in report["features"]}


def test_a_model_that_is_not_there_is_one_error(simulated: str) -> None:
    """Not a report of twenty times the same 404: what was asked for, and what there is."""
    done = run(simulated, "--model", "nope-xyz", key=SECRET)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"the model 'nope-xyz' does not exist there. Known: {NAME}." in done.stderr


@contextmanager
def started(adapter: LaunchableAdapter, model: Path | None, log: Path) -> Iterator[str]:
    running = start(adapter, model, log)
    try:
        yield running.endpoint.url
    finally:
        running.client.close()
        running.process.terminate()
        running.process.wait()


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    deployment = SimulatedDeployment(engine="simulated", ttft_ms=1, itl_ms=1)
    log = tmp_path_factory.mktemp("simulated") / "log"
    with started(SimulatedAdapter(NAME, deployment), None, log) as url:
        yield url


def test_the_simulated_engine_is_told_as_such(simulated: str) -> None:
    """With its routes and streams; whether half an answer is continued can't be told from random words."""
    report, can = probed(simulated, key=SECRET)
    assert (report["engine"], report["simulated"], report["model"]) == ("simulated", True, NAME)
    for name in ("chat", "completions", "completions by token ids", "tokenize", "embeddings", "rerank"):
        assert can[name] == "yes", name
    assert can["streams, with usage at the end"] == can["streams, with usage in each event"] == "yes"
    assert can["goes on by continue_final_message"] != "yes"


def test_the_table_is_for_people(simulated: str) -> None:
    """A line that says who it is, then a tick or a cross for each feature, and never the key."""
    done = run(f"{simulated}/v1/", key=SECRET)
    first, *rest = done.stdout.splitlines()
    assert first.startswith(f"{simulated}: simulated ")
    assert len(rest) == 17
    assert all(line[2] in "✓✗?" for line in rest)
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize(("key", "words"), [(None, "wants a key"), ("wrong", "refuses the key")])
def test_a_key_that_is_wanted_is_asked_for(simulated: str, key: str | None, words: str) -> None:
    """One line that names the variable; no traceback, and not the key."""
    done = run(simulated, key=key)
    assert done.returncode != 0
    assert words in done.stderr
    assert "INFERRY_ENGINE_KEY" in done.stderr
    assert "Traceback" not in done.stderr
    assert "wrong" not in done.stderr


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1", "no answer"),
        ("127.0.0.1:8000", "base URL"),
        ("http://user:s3cret@127.0.0.1:1/v1", "key"),
        ("ftp://h/v1", "base URL"),
    ],
)
def test_a_url_that_leads_nowhere_is_told(url: str, words: str) -> None:
    """In one line, without what may be a secret in it."""
    done = run(url, "--timeout", "5")
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stdout + done.stderr


def test_stand_ins_are_known_for_what_they_stand_for() -> None:
    """TGI, TensorRT-LLM and Ollama, by their own pages, with the streams that their protocols have."""
    with served(TgiStandin().app) as url:
        report, can = probed(url)
        assert report["engine"] == "tgi"
        assert can["chat"] == can["completions"] == "yes"
        assert can["embeddings"] == can["refuses what is wrong, as OpenAI does"] == "no"
    with served(TensorRtLlmStandin().app) as url:
        report, can = probed(url)
        assert report["engine"] == "tensorrt-llm"
        assert can["chat"] == can["streams, with usage at the end"] == can["Prometheus metrics"] == "yes"
    with served(OllamaStandin({"STANDIN_MODELS": "llama3.2:1b"}).app) as url:
        report, can = probed(url)
        assert report["engine"] == "ollama"
        assert can["Prometheus metrics"] == can["tokenize"] == "no"


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_real_llamacpp(sample_model: Path, tmp_path: Path) -> None:
    """What the docs say of it: it goes on by a trailing message, tokenizes, and has no embeddings when it generates."""
    deployment = LlamaCppDeployment(
        engine="llamacpp", model=f"file:{sample_model}", context_tokens=512, parallel=1
    )
    with started(LlamaCppAdapter(NAME, deployment), sample_model, tmp_path / "log") as url:
        report, can = probed(url, key=SECRET)
    assert (report["engine"], report["model"], report["simulated"]) == ("llamacpp", NAME, False)
    for name in (
        "health page", "Prometheus metrics", "chat", "completions", "tokenize", "responses", "messages (Anthropic)",
        "streams, with usage at the end", "goes on by a trailing message", "structured output (JSON schema)",
    ):  # fmt: skip
        assert can[name] == "yes", name
    assert can["embeddings"] == can["rerank"] == "no"
