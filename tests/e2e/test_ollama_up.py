"""`inferry up` with `engine: ollama`, whose program is the stand-in: no Ollama runs here."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from .inferry_process import Inferry, Up, wait_for

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FILE = """\
deployments:
  chat:
    engine: ollama
    model: echo:1b
    binary: ./ollama
    parallel: 2
    restart: {backoff_initial_s: 0}
    health: {interval_s: 0.3}
    env: {STANDIN_LIBRARY: "echo:1b"}
"""
CHAT: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "one two three"}]}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    inferry = Inferry(tmp_path_factory.mktemp("ollama"))
    program = inferry.folder / "ollama"
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {sys.executable} -m tests.standins.ollama "$@"\n'
    )
    program.chmod(0o755)
    inferry.write(FILE)
    with inferry.up() as up:
        up.wait_ready()
        yield up


@pytest.fixture
def gateway(up: Up) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=up.wait_ready(), timeout=30, trust_env=False) as client:
        yield client


def engine(up: Up) -> str:
    return str(up.replicas()["chat-0"]["url"])


def test_a_model_is_fetched_loaded_and_pinned(up: Up) -> None:
    """The load is tried first; the model is fetched because it is not there, loaded, and stays."""
    seen = httpx.get(f"{engine(up)}/standin/seen").json()
    assert [path for path, _ in seen][:4] == [
        "/api/generate",
        "/api/pull",
        "/api/generate",
        "/v1/completions",
    ]
    [loaded] = httpx.get(f"{engine(up)}/api/ps").json()["models"]
    assert loaded["name"] == "echo:1b"
    assert datetime.fromisoformat(loaded["expires_at"]) - datetime.now(UTC) > timedelta(days=365)


def test_requests_are_served_by_the_names_of_both_sides(up: Up, gateway: httpx.Client) -> None:
    """Clients ask for `chat`, Ollama is asked for its model; chat, stream, text and vectors come back."""
    answer = gateway.post("/v1/chat/completions", json=CHAT).json()
    assert (answer["choices"][0]["message"]["content"], answer["usage"]["total_tokens"]) == (
        "one two three ",
        6,
    )
    stream = gateway.post("/v1/chat/completions", json={**CHAT, "stream": True}).text
    assert stream.count("data: ") == 5
    assert stream.endswith("data: [DONE]\n\n")
    assert '"usage"' not in stream
    text = gateway.post("/v1/completions", json={"model": "chat", "prompt": "a b", "max_tokens": 1}).json()
    assert text["choices"][0] == {"text": "a ", "index": 0, "finish_reason": "length"}
    vectors = gateway.post("/v1/embeddings", json={"model": "chat", "input": ["a", "b"]}).json()
    assert len(vectors["data"]) == 2
    seen = httpx.get(f"{engine(up)}/standin/seen").json()
    assert {body["model"] for path, body in seen if path.startswith("/v1/")} == {"echo:1b"}
    assert gateway.post("/tokenize", json={"model": "chat", "content": "a"}).status_code == 404


def test_a_full_queue_is_passed_on(up: Up, gateway: httpx.Client) -> None:
    """The 503 of the only replica reaches the client; the next request is served."""
    httpx.post(f"{engine(up)}/standin/fault", json={"kind": "busy"})
    refused = gateway.post("/v1/chat/completions", json=CHAT)
    assert refused.status_code == 503
    assert gateway.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_an_engine_that_is_gone_is_started_and_loaded_again(up: Up, gateway: httpx.Client) -> None:
    """A killed Ollama comes back with the model in memory before it is sent requests."""
    [pid] = [each["pid"] for each in up.replicas().values()]
    os.kill(pid, signal.SIGKILL)
    wait_for("the restart", lambda: up.replicas()["chat-0"]["restarts"] == 1)
    wait_for("ready again", lambda: up.replicas()["chat-0"]["state"] == "ready")
    assert httpx.get(f"{engine(up)}/api/ps").json()["models"]
    assert gateway.post("/v1/chat/completions", json=CHAT).status_code == 200
