"""What the adapter relies on, asked of the real `transformers serve`: its parser, its names, its streams, its end.

Slow: the environment is installed first, unless INFERRY_TEST_ENGINES names a folder that has one. How it serves behind
Inferry is in tests/e2e/test_vllm_live.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from inferry.core.server_engines import TransformersDeployment
from inferry.engines.adapter import LaunchContext, Verdict
from inferry.engines.flag_table import table_for
from inferry.engines.program import version_of
from inferry.engines.transformers_serve import PROGRAM, TransformersAdapter
from tests.e2e.inferry_process import Inferry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ASK = Path(__file__).parents[1] / "engine_parsers" / "ask_transformers.py"
NAME = "chat"
CHAT: dict[str, Any] = {
    "model": NAME,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 8,
    "temperature": 0,
}


@pytest.fixture(scope="module")
def inferry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inferry]:
    """An Inferry whose home has transformers."""
    inferry = Inferry(tmp_path_factory.mktemp("transformers"))
    kept = os.environ.get("INFERRY_TEST_ENGINES")
    if kept is not None:
        Path(kept).mkdir(parents=True, exist_ok=True)
        (inferry.home / "engines").symlink_to(kept)
    try:
        done = inferry.run("engines", "install", "transformers", "--yes", timeout_s=1500)
        assert done.returncode == 0, done.stdout + done.stderr
        yield inferry
    finally:
        if kept is None:  # gigabytes, and pytest keeps the folders of three runs
            shutil.rmtree(inferry.home / "engines", ignore_errors=True)
        shutil.rmtree(inferry.folder / "weights", ignore_errors=True)


@pytest.fixture(scope="module")
def program(inferry: Inferry) -> Path:
    return inferry.home / "engines" / "transformers" / "bin" / PROGRAM


@pytest.fixture(scope="module")
def weights(inferry: Inferry, sample_model: Path) -> Path:
    """The sample model as a folder of safetensors."""
    done = inferry.run("models", "convert", str(sample_model), "weights", timeout_s=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return inferry.folder / "weights"


@dataclass(frozen=True, slots=True)
class Running:
    client: httpx.Client
    process: subprocess.Popen[bytes]
    log: Path


def adapter(program: Path | None = None, **fields: object) -> TransformersAdapter:
    binary = None if program is None else str(program)
    keys = {"engine": "transformers", "model": "file:/m", "binary": binary, "device": "cpu", **fields}
    return TransformersAdapter(NAME, TransformersDeployment.model_validate(keys))


@pytest.fixture(scope="module")
def engine(inferry: Inferry, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Started by the adapter's own launch spec, ready by its own probe."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("replica")
    context = LaunchContext("chat-0", "127.0.0.1", port, weights, NAME, 1, "unused", folder / "files")
    subject = adapter()
    spec = subject.launch(context, inferry.environ)
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            spec.argv, env={**os.environ, **spec.env}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        with httpx.Client(base_url=spec.endpoint.url, timeout=120, trust_env=False) as client:
            _wait_until_ready(subject, client, process, log)
            yield Running(client, process, log)
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(
    subject: TransformersAdapter, client: httpx.Client, process: subprocess.Popen[bytes], log: Path
) -> None:
    deadline_s = time.monotonic() + 300
    while True:
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < deadline_s, log.read_text(errors="replace")
        try:
            answer = client.get(subject.probe_path)
        except httpx.TransportError:
            time.sleep(0.1)  # it does not listen before the model is loaded
        else:
            assert subject.read_probe(answer.status_code, answer.content).verdict is Verdict.READY
            return


def ask_parser(program: Path, verb: str, argvs: object = None) -> Any:
    done = subprocess.run(
        [str(program.with_name("python")), str(ASK), verb],
        input=json.dumps(argvs),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_the_table_is_what_its_parser_has(program: Path) -> None:
    """Every flag of our table, and none besides, with what follows it."""
    version = version_of(str(program), "transformers")
    assert version is not None
    assert ask_parser(program, "table") == table_for("transformers", version).flags


def test_every_command_is_accepted_by_its_parser(program: Path) -> None:
    """All keys of the file, alone and together, give a command line that the engine takes; a wrong one it refuses."""
    choices: list[dict[str, object]] = [
        {},
        {"device": "cuda:0"},
        {"dtype": "bfloat16"},
        {"quantization": "bnb-4bit", "trust_remote_code": True},
        {"device": "cuda:0", "dtype": "float16", "extra_args": ["--reasoning", "off", "--compile"]},
    ]
    context = LaunchContext("chat-0", "127.0.0.1", 8123, Path("/m"), NAME, 1, "unused", Path("/run/files"))
    argvs = []
    for fields in choices:
        words = adapter(program, **fields).launch(context, {}).argv
        argvs.append(words[words.index(NAME) :])
    assert ask_parser(program, "accept", argvs) == [None] * len(choices)
    [complaint] = ask_parser(program, "accept", [[NAME, "--devise", "cpu"]])
    assert "No such option" in complaint


def test_a_whole_chat(engine: Running) -> None:
    """Asked by the deployment's name, it answers under that name, without any path of this machine."""
    answer = engine.client.post("/v1/chat/completions", json=CHAT)
    body = answer.json()
    assert "Paris" in body["choices"][0]["message"]["content"]
    assert body["usage"]["completion_tokens"] == 8
    assert body["model"].partition("@")[0] == NAME


@pytest.mark.parametrize("more", [{}, {"stream_options": {"include_usage": True}}])
def test_a_streamed_chat_ends_with_reason_and_usage(engine: Running, more: dict[str, Any]) -> None:
    """They are in one event, asked for or not, and no [DONE] follows: the end is where the gateway looks for it."""
    text = engine.client.post("/v1/chat/completions", json={**CHAT, "stream": True, **more}).text
    events = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line]
    assert "Paris" in "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    assert events[-1]["choices"][0]["finish_reason"] == "length"
    assert events[-1]["usage"]["completion_tokens"] == 8


def test_only_its_own_model_is_served(engine: Running) -> None:
    """A request can't make it load another model, from the hub or from a folder."""
    for model in ("org/other", "/etc", f"{NAME}@main"):
        answer = engine.client.post("/v1/chat/completions", json={**CHAT, "model": model})
        assert answer.status_code == 400
        assert "pinned" in answer.text


def test_the_warm_up_works(engine: Running) -> None:
    """The adapter's own request is answered with 200."""
    (warmup,) = adapter().warmups
    answer = engine.client.post(
        warmup.path, content=warmup.body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200


def test_it_has_no_metrics_page(engine: Running) -> None:
    """As the adapter says: nothing is asked there."""
    assert engine.client.get("/metrics").status_code == 404


def test_a_client_that_leaves_makes_room(engine: Running) -> None:
    """A long answer whose client is gone does not hold up the next request: they are served one after the other."""
    long = {
        **CHAT,
        "max_tokens": 2000,
        "stream": True,
        "messages": [{"role": "user", "content": "Tell a story."}],
    }
    with engine.client.stream("POST", "/v1/chat/completions", json=long) as answer:
        next(answer.iter_lines())
    answered = threading.Event()

    def ask() -> None:
        engine.client.post("/v1/chat/completions", json={**CHAT, "max_tokens": 1})
        answered.set()

    thread = threading.Thread(target=ask)
    thread.start()
    # 2000 tokens take a minute and more on this machine's CPU; one takes a second.
    assert answered.wait(30)
    thread.join()


def test_health_answers_while_it_computes(engine: Running) -> None:
    """A busy one is not taken for a hung one."""
    long = {**CHAT, "max_tokens": 200, "stream": True}
    with engine.client.stream("POST", "/v1/chat/completions", json=long) as answer:
        lines = answer.iter_lines()
        next(lines)
        probe = httpx.get(f"{engine.client.base_url}/health", timeout=30)
        assert adapter().read_probe(probe.status_code, probe.content).verdict is Verdict.READY


def test_it_ends_when_asked_to(engine: Running) -> None:
    """SIGTERM reaches it through the shell that started it, which has become it."""
    engine.process.send_signal(signal.SIGTERM)
    code = engine.process.wait(timeout=30)
    reading = adapter().read_exit(code, engine.log.read_text(errors="replace").splitlines()[-20:])
    assert reading.retryable
    assert "code 0" in reading.message or "SIGTERM" in reading.message
