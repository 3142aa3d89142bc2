"""`inferry up` with `engine: tgi` and `engine: tensorrt-llm`, whose programs are stand-ins: neither runs here."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .inferry_process import Inferry, Up, wait_for

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FILE = """\
deployments:
  old:
    engine: tgi
    model: file:model
    binary: ./text-generation-launcher
    parallel: 2
    restart: {backoff_initial_s: 0}
    health: {interval_s: 0.3}
  fast:
    engine: tensorrt-llm
    model: file:model
    binary: ./trtllm-serve
    prefix_caching: true
    restart: {backoff_initial_s: 0}
    health: {interval_s: 0.3}
"""
PROGRAMS = {"text-generation-launcher": "tgi", "trtllm-serve": "tensorrt_llm"}
over_both = pytest.mark.parametrize("name", ["old", "fast"])


def chat(name: str, **more: Any) -> dict[str, Any]:
    return {"model": name, "messages": [{"role": "user", "content": "one two three"}], **more}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    inferry = Inferry(tmp_path_factory.mktemp("standins"))
    for program, module in PROGRAMS.items():
        path = inferry.folder / program
        start = f"exec {shlex.quote(sys.executable)} -m tests.standins.{module}"
        path.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} {start} "$@"\n')
        path.chmod(0o755)
    model = inferry.folder / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    inferry.write(FILE)
    with inferry.up() as up:
        up.wait_ready()
        yield up


@pytest.fixture
def gateway(up: Up) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=up.wait_ready(), timeout=30, trust_env=False) as client:
        yield client


def replica(up: Up, name: str) -> dict[str, Any]:
    found: dict[str, Any] = up.replicas()[f"{name}-0"]
    return found


@over_both
def test_requests_are_served(gateway: httpx.Client, name: str) -> None:
    """Whole and streamed, by the deployment's name."""
    whole = gateway.post("/v1/chat/completions", json=chat(name)).json()
    assert whole["choices"][0]["message"]["content"] == "one two three "
    stream = gateway.post("/v1/chat/completions", json=chat(name, stream=True)).text
    assert stream.endswith("data: [DONE]\n\n")
    assert '"usage": {' not in stream


@over_both
def test_the_ledger_has_what_the_engine_counted(up: Up, gateway: httpx.Client, name: str) -> None:
    """Its metrics page is read, which TensorRT-LLM has because its configuration file asks for it: three tokens there
    and back for each request, streamed or not, and one of the warm-up."""
    for number in range(4):
        gateway.post("/v1/chat/completions", json=chat(name, stream=number % 2 == 1))

    def agrees() -> bool:
        rows = json.loads(up.inferry.run("ledger", "reconcile", "--json").stdout)
        row = next((each for each in rows if each["deployment"] == name), None)
        if row is None or row["requests"] < 4:
            return False
        counts = [(each["ledger_tokens"], each["engine_tokens"]) for each in row["comparisons"]]
        return counts == [(3 * row["requests"], 3 * row["requests"] + 1)] * 2

    wait_for("ledger and engine agree", agrees)


def test_only_the_gateway_has_tgis_key(up: Up) -> None:
    """Past the gateway TGI answers 401; TensorRT-LLM knows no keys, and listens on loopback only."""
    for name, status in (("old", 401), ("fast", 200)):
        url = replica(up, name)["url"]
        assert url.startswith("http://127.0.0.1:")
        assert httpx.post(f"{url}/v1/chat/completions", json=chat(name)).status_code == status


@over_both
def test_a_sick_one_gets_no_requests_and_comes_back(up: Up, gateway: httpx.Client, name: str) -> None:
    """503 on its health page makes it suspect; when it is well again, it is served again."""
    url = replica(up, name)["url"]
    httpx.post(f"{url}/standin/fault", json={"kind": "unhealthy"})
    wait_for("suspect", lambda: replica(up, name)["state"] == "suspect")
    httpx.post(f"{url}/standin/fault", json={})
    wait_for("ready", lambda: replica(up, name)["state"] == "ready")
    assert gateway.post("/v1/chat/completions", json=chat(name)).status_code == 200


@over_both
def test_a_killed_one_is_started_again(up: Up, gateway: httpx.Client, name: str) -> None:
    """With a new port and key, its own files and socket path, and served."""
    before = replica(up, name)
    os.kill(before["pid"], signal.SIGKILL)
    wait_for("the restart", lambda: replica(up, name)["restarts"] == before["restarts"] + 1)
    wait_for("ready again", lambda: replica(up, name)["state"] == "ready")
    assert gateway.post("/v1/chat/completions", json=chat(name)).status_code == 200
