"""What the gateway relies on over HTTP, asked of every engine that we start: the fake is held to the real one.

Each engine runs as a process by its adapter's own launch spec. llama.cpp needs the sample model (marker
`engine`); the simulated engine needs nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from inferry.core.local_engines import LlamaCppDeployment, SimulatedDeployment
from inferry.core.replica import Endpoint
from inferry.engines.adapter import LaunchableAdapter, Verdict
from inferry.engines.registry import adapter_for

from .engine_cases import NAME, context
from .simulated_client import events, said

CHAT_BODY: dict[str, Any] = {
    "model": NAME,
    "messages": [{"role": "user", "content": "Count from one to twenty in words."}],
    "max_tokens": 24,
    "temperature": 0,
}
FINISHED = ("stop", "length")


@dataclass(slots=True)
class Running:
    """A replica's process, its adapter, and a client that has its key."""

    adapter: LaunchableAdapter
    endpoint: Endpoint
    client: httpx.Client
    process: subprocess.Popen[bytes]

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return self.client.post(path, json=body)

    def stream(self, path: str, body: dict[str, Any]) -> tuple[str, str]:
        """Content type and text of a streamed answer."""
        with self.client.stream("POST", path, json={**body, "stream": True}) as response:
            assert response.status_code == 200, response.read()
            return response.headers["content-type"], "".join(response.iter_text())

    def running(self) -> int | None:
        assert self.adapter.metrics_path is not None
        return self.adapter.read_metrics(self.client.get(self.adapter.metrics_path).text).running


def start(adapter: LaunchableAdapter, model_path: Path | None, log: Path) -> Running:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spec = adapter.launch(context(port, model_path=model_path), os.environ)
    with log.open("wb") as output:
        process = subprocess.Popen(
            spec.argv, env={**os.environ, **spec.env}, stdout=output, stderr=subprocess.STDOUT
        )
    client = httpx.Client(
        base_url=spec.endpoint.url,
        headers=dict(spec.endpoint.headers),
        timeout=60,
        # llama.cpp closes the connection after each stream, without `connection: close` before: a client that
        # keeps connections must be ready for that, and this one is about something else.
        limits=httpx.Limits(max_keepalive_connections=0),
    )
    deadline_s = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < deadline_s, log.read_text(errors="replace")
        try:
            probe = client.get(adapter.probe_path)
        except httpx.TransportError:
            pass  # not listening yet
        else:
            reading = adapter.read_probe(probe.status_code, probe.content)
            assert reading.verdict in (Verdict.LOADING, Verdict.READY), reading
            if reading.verdict is Verdict.READY:
                return Running(adapter, spec.endpoint, client, process)
        time.sleep(0.02)


LLAMA_SERVER = shutil.which("llama-server")
ENGINES = [
    "simulated",
    pytest.param("llamacpp", marks=pytest.mark.engine),
    pytest.param(
        "llama-server",
        marks=[
            pytest.mark.engine,
            pytest.mark.slow,
            pytest.mark.skipif(LLAMA_SERVER is None, reason="no llama-server on the PATH"),
        ],
    ),
]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A started engine that is ready; ended politely, whatever the tests did to it."""
    log = tmp_path_factory.mktemp("engine") / "log"
    if request.param != "simulated":
        model: Path | None = request.getfixturevalue("sample_model")
        binary = None if request.param == "llamacpp" else LLAMA_SERVER
        settings: LlamaCppDeployment | SimulatedDeployment = LlamaCppDeployment(
            engine="llamacpp", model=f"file:{model}", context_tokens=512, parallel=2, binary=binary
        )
    else:
        model = None
        settings = SimulatedDeployment(
            engine="simulated", context_tokens=512, parallel=2, ttft_ms=1, itl_ms=1
        )
    adapter = adapter_for(NAME, settings)
    assert isinstance(adapter, LaunchableAdapter)
    running = start(adapter, model, log)
    try:
        yield running
    finally:
        running.client.close()
        running.process.send_signal(signal.SIGTERM)
        try:
            code = running.process.wait(timeout=10)
        finally:
            running.process.kill()
            running.process.wait()
        assert code == 0, log.read_text(errors="replace")


def test_only_the_key_gets_in(engine: Running) -> None:
    """Health is open; inference without the key, or with another, is 401."""
    with httpx.Client(base_url=engine.endpoint.url, timeout=60) as stranger:
        assert stranger.get(engine.adapter.probe_path).status_code == 200
        assert stranger.post("/v1/chat/completions", json=CHAT_BODY).status_code == 401
        wrong = {"authorization": "Bearer other"}
        assert stranger.post("/v1/chat/completions", json=CHAT_BODY, headers=wrong).status_code == 401


def test_the_warm_up_works(engine: Running) -> None:
    """The adapter's own warm-up request is answered with 200."""
    assert engine.adapter.warmups
    headers = {"content-type": "application/json"}
    for warmup in engine.adapter.warmups:
        assert engine.client.post(warmup.path, content=warmup.body, headers=headers).status_code == 200


def test_a_whole_chat(engine: Running) -> None:
    """One choice with role, content and reason, and a usage that adds up."""
    answer = engine.post("/v1/chat/completions", CHAT_BODY)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert body["object"] == "chat.completion"
    assert body["model"] == NAME
    assert isinstance(body["id"], str)
    (choice,) = body["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["finish_reason"] in FINISHED
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 1 <= usage["completion_tokens"] <= 24


def test_a_streamed_chat(engine: Running) -> None:
    """Role first, content, one reason, then the usage chunk without choices, then [DONE], all under one id."""
    kind, text = engine.stream(
        "/v1/chat/completions", {**CHAT_BODY, "stream_options": {"include_usage": True}}
    )
    assert kind.startswith("text/event-stream")
    assert all(line == "" or line.startswith(("data: ", ":")) for line in text.split("\n"))
    *chunks, usage, done = events(text)
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in [*chunks, usage]}) == 1
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert len(choices) == len(chunks)
    assert choices[0]["delta"]["role"] == "assistant"
    assert "".join(choice["delta"].get("content") or "" for choice in choices)
    assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
    assert choices[-1]["finish_reason"] in FINISHED
    assert usage["choices"] == []
    counts = usage["usage"]
    assert counts["total_tokens"] == counts["prompt_tokens"] + counts["completion_tokens"]


def test_no_usage_unless_asked_for(engine: Running) -> None:
    """Without include_usage no chunk is without choices: clients that index into them don't break."""
    _, text = engine.stream("/v1/chat/completions", CHAT_BODY)
    *chunks, done = events(text)
    assert done == "[DONE]"
    assert all(chunk["choices"] for chunk in chunks)
    assert not any(chunk.get("usage") for chunk in chunks)


def test_a_streamed_completion(engine: Running) -> None:
    """Text instead of delta, one reason, usage in the last event before [DONE].

    vLLM gives usage a chunk of its own, without choices; llama.cpp puts it into the chunk with the reason.
    """
    body = {"model": NAME, "prompt": "One, two,", "max_tokens": 8, "temperature": 0}
    whole = engine.post("/v1/completions", body).json()
    assert whole["object"] == "text_completion"
    assert whole["choices"][0]["finish_reason"] in FINISHED
    _, text = engine.stream("/v1/completions", {**body, "stream_options": {"include_usage": True}})
    *chunks, done = events(text)
    assert done == "[DONE]"
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["text"] for choice in choices) == whole["choices"][0]["text"]
    assert choices[-1]["finish_reason"] in FINISHED
    assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert chunks[-1]["choices"] == [] or engine.adapter.engine == "llamacpp"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "content",
    [b"{", b"{}", json.dumps({**CHAT_BODY, "messages": "hi"}).encode(), json.dumps({"model": NAME}).encode()],
)
def test_errors_have_openais_shape(engine: Running, content: bytes, streamed: bool) -> None:
    """What can't be answered is an HTTP error with an object that has a message, also if a stream was asked for."""
    if streamed and len(content) > 2:
        content = json.dumps({**json.loads(content), "stream": True}).encode()
    headers = {"content-type": "application/json"}
    answer = engine.client.post("/v1/chat/completions", content=content, headers=headers)
    assert 400 <= answer.status_code <= 500
    error = answer.json()["error"]
    assert isinstance(error["message"], str)
    assert error["message"]
    assert {"message", "type", "code"} <= set(error)


def test_a_prompt_that_does_not_fit_is_a_400(engine: Running) -> None:
    """More prompt than context is refused, and the message speaks of the context."""
    body = {**CHAT_BODY, "messages": [{"role": "user", "content": "word and " * 2000}]}
    answer = engine.post("/v1/chat/completions", body)
    assert answer.status_code == 400
    assert "context" in answer.json()["error"]["message"]


def test_an_unknown_path_is_a_404(engine: Running) -> None:
    """And no page of the engine's own."""
    answer = engine.post("/v1/nowhere", {})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"]


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [False, True])
def test_a_partial_answer_is_continued(engine: Running, streamed: bool) -> None:
    """Given its first half as a trailing assistant message, it goes on from there.

    In a whole answer llama.cpp repeats the given half before the rest; streamed, and at vLLM, the rest is alone.
    """
    whole = engine.post("/v1/chat/completions", CHAT_BODY).json()["choices"][0]["message"]["content"]
    middle = len(whole) // 2
    space = whole.find(" ", middle)
    half = whole[
        : middle if space < 0 else space
    ]  # builds differ in what they say: one counts without spaces
    body = {
        **CHAT_BODY,
        "messages": [*CHAT_BODY["messages"], {"role": "assistant", "content": half}],
        "continue_final_message": True,
        "add_generation_prompt": False,
    }
    if streamed:
        rest = said(events(engine.stream("/v1/chat/completions", body)[1]))
    else:
        answer = engine.post("/v1/chat/completions", body)
        assert answer.status_code == 200, answer.text
        rest = answer.json()["choices"][0]["message"]["content"]
    assert rest.startswith(half) == (engine.adapter.engine == "llamacpp" and not streamed)
    rest = rest.removeprefix(half)
    wanted = whole[len(half) :]
    # A real engine may batch, round and tokenize the seam a little differently: the next words must agree.
    assert rest[: len(wanted) // 2] == wanted[: len(wanted) // 2]


def test_messages_events(engine: Running) -> None:
    """Anthropic's events in Anthropic's order, each named as its type, and a count at the end."""
    body = {"model": NAME, "messages": CHAT_BODY["messages"], "max_tokens": 8}
    whole = engine.post("/v1/messages", body).json()
    assert (whole["type"], whole["role"]) == ("message", "assistant")
    assert whole["content"][0]["text"]
    assert {"input_tokens", "output_tokens"} <= set(whole["usage"])
    _, text = engine.stream("/v1/messages", body)
    kinds = [event["type"] for event in events(text)]
    assert [line[7:] for line in text.split("\n") if line.startswith("event: ")] == kinds
    deltas = kinds.count("content_block_delta")
    assert deltas >= 1
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events(text)[-2]["usage"]["output_tokens"] >= 1
    counted = engine.post("/v1/messages/count_tokens", body).json()
    assert counted["input_tokens"] >= 8


def test_messages_errors(engine: Running) -> None:
    """At Anthropic's route an error is told apart by its type."""
    answer = engine.post("/v1/messages", {"model": NAME, "max_tokens": 8})
    assert 400 <= answer.status_code <= 500
    assert answer.json()["error"]["message"]


def test_responses_events(engine: Running) -> None:
    """From response.created over text deltas to response.completed, which carries the usage."""
    body = {"model": NAME, "input": "Count to five.", "max_output_tokens": 8}
    whole = engine.post("/v1/responses", body).json()
    assert whole["object"] == "response"
    assert whole["output"][-1]["content"][0]["text"]
    _, text = engine.stream("/v1/responses", body)
    found = [event for event in events(text) if event != "[DONE]"]
    kinds = [event["type"] for event in found]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert "response.output_text.delta" in kinds
    usage = found[-1]["response"]["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_metrics_count_what_was_generated(engine: Running) -> None:
    """The adapter reads the page: figures are there, and tokens grow by what a request said it used."""
    path = engine.adapter.metrics_path
    assert path is not None

    def tokens() -> int:
        metrics = engine.adapter.read_metrics(engine.client.get(path).text)
        assert metrics.running is not None
        assert metrics.waiting is not None
        assert metrics.tokens_generated is not None
        return metrics.tokens_generated

    before = tokens()
    used = engine.post("/v1/chat/completions", CHAT_BODY).json()["usage"]["completion_tokens"]
    wait_until(lambda: tokens() - before == used)


def test_a_client_that_goes_away_is_noticed(engine: Running) -> None:
    """After a disconnect in mid-stream nothing runs any more, long before the answer would have ended."""
    # 400 tokens at llama.cpp's pace take seconds; the simulated engine ends that many in under one, and is
    # put to the same test with slow tokens in test_simulated_engine.py.
    body = {**CHAT_BODY, "max_tokens": 400, "ignore_eos": True, "stream": True}
    with engine.client.stream("POST", "/v1/chat/completions", json=body) as response:
        next(response.iter_bytes())
    wait_until(lambda: engine.running() == 0)


def wait_until(fact: Any, seconds: float = 20) -> None:
    deadline_s = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline_s, "it did not become so"
        time.sleep(0.02)
