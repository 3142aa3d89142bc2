"""The stand-in for SGLang: held to OpenAI's client; what the adapter reads of it, and the gateway makes of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from inferry.core.replica import Endpoint
from inferry.core.server_engines import SglangDeployment
from inferry.engines.adapter import LaunchContext, ProbeReading, Verdict
from inferry.engines.sglang import SglangAdapter
from inferry.fleet.probe import HttpProber, Unreachable
from tests.standins.serving import served
from tests.standins.sglang import FAILED, QUEUE_FULL, SglangStandin

from .standin_gateway import chat, gateway_to, streamed

ADAPTER = SglangAdapter("chat", SglangDeployment(engine="sglang", model="file:/m"))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def standin() -> SglangStandin:
    return SglangStandin("chat", health_generates=False)


@pytest.fixture
def url(standin: SglangStandin) -> Iterator[str]:
    with served(standin.app) as base:
        yield base


def endpoint(url: str) -> Endpoint:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return Endpoint(parts.hostname, parts.port)


async def probed(url: str, timeout_s: float = 5) -> ProbeReading | Unreachable:
    prober = HttpProber()
    try:
        return await prober.probe(ADAPTER, endpoint(url), timeout_s)
    finally:
        await prober.close()


def test_the_client_chats(url: str) -> None:
    """Whole and streamed, with usage behind the last choice."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        whole = client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "one two"}]
        )
        assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("one two ", "stop")
        *pieces, last = client.chat.completions.create(
            model="chat",
            messages=[{"role": "user", "content": "one two"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "one two "
        assert last.usage is not None
        assert last.usage.total_tokens == 4


def test_it_starts_as_the_adapter_says(tmp_path: Path) -> None:
    """The launch spec, carried out: its key comes from the file, probes need none and cost no token."""
    program = tmp_path / "sglang"
    program.write_text(f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m tests.standins.sglang "$@"\n')
    program.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    adapter = SglangAdapter(
        "chat",
        SglangDeployment(
            engine="sglang", model="file:/m", binary=str(program), extra_args=["--schedule-policy", "lpm"]
        ),
    )
    folder = tmp_path / "files"
    folder.mkdir()
    spec = adapter.launch(
        LaunchContext("chat-0", "127.0.0.1", port, Path("/m"), "chat", 1, "the-key", folder), os.environ
    )
    for path, content in spec.files.items():
        path.write_text(content)
    with subprocess.Popen(spec.argv, env={**os.environ, **spec.env}, stderr=subprocess.DEVNULL) as process:
        try:
            until_it_listens(process, spec.endpoint.url)
            assert httpx.get(f"{spec.endpoint.url}/health").status_code == 200
            assert httpx.get(f"{spec.endpoint.url}/metrics").status_code == 200
            assert httpx.get(f"{spec.endpoint.url}/v1/models").status_code == 401
            models = httpx.get(f"{spec.endpoint.url}/v1/models", headers=dict(spec.endpoint.headers)).json()
            assert models["data"][0]["id"] == "chat"
            cmdline = Path(f"/proc/{process.pid}/cmdline")
            assert not cmdline.exists() or b"the-key" not in cmdline.read_bytes()
        finally:
            process.terminate()


def until_it_listens(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended"
        try:
            httpx.get(f"{url}/health", timeout=5)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("it did not listen within 30 s")


def test_without_our_variable_a_probe_costs_a_token() -> None:
    """Why the adapter sets it: each question for its health would be a request to the model."""
    standin = SglangStandin(health_generates=True)
    with served(standin.app) as base:
        assert httpx.get(f"{base}/health").status_code == 200
    assert standin.probe_tokens == 1


async def test_probe_warm_up_and_metrics(standin: SglangStandin, url: str) -> None:
    """Well, warmed up by one token, and then with figures: 1 token asked, 1 given, one first token timed."""
    prober = HttpProber()
    try:
        reading = await prober.probe(ADAPTER, endpoint(url), 5)
        assert not isinstance(reading, Unreachable)
        assert reading.verdict is Verdict.READY
        assert await prober.warm_up(endpoint(url), ADAPTER.warmups[0], 5) is None
        metrics = await prober.metrics(ADAPTER, endpoint(url), 5)
        assert metrics is not None
        assert (metrics.running, metrics.waiting, metrics.kv_cache_use) == (0, 0, 0.0)
        assert (metrics.tokens_prompt, metrics.tokens_generated, metrics.ttft_count) == (1, 1, 1)
    finally:
        await prober.close()
    assert standin.probe_tokens == 0


async def test_states_of_its_health(standin: SglangStandin, url: str) -> None:
    """Loading while it starts, ready however much it has to do, and no reading at all when it is stuck or gone."""
    standin.fault = {"kind": "starting"}
    loading = await probed(url)
    assert isinstance(loading, ProbeReading)
    assert loading.verdict is Verdict.LOADING
    standin.fault = {"kind": "full"}
    busy = await probed(url)
    assert isinstance(busy, ProbeReading)
    assert busy.verdict is Verdict.READY
    standin.fault = {"kind": "stuck"}
    stuck = await probed(url, 0.2)
    assert isinstance(stuck, Unreachable)
    assert "no answer within" in stuck.reason
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = await probed(f"http://127.0.0.1:{free.getsockname()[1]}")
    assert isinstance(dead, Unreachable)


async def test_a_stream_through_the_gateway(standin: SglangStandin, url: str) -> None:
    """It is asked by the deployment's name and for usage, which is counted and kept from who did not ask."""
    async with gateway_to(ADAPTER, url) as (gateway, client):
        text, outcome = await streamed(gateway, client, chat("one two three"))
        assert text.endswith("data: [DONE]\n\n")
        assert '"usage"' not in text
        assert (outcome.status, outcome.prompt_tokens, outcome.completion_tokens) == (200, 3, 3)
        [(_, body)] = standin.seen
        assert (body["model"], body["stream_options"]) == ("chat", {"include_usage": True})


@pytest.mark.parametrize("kind", ["error", "abort", "cut"])
async def test_done_proves_nothing(standin: SglangStandin, url: str, kind: str) -> None:
    """An error frame and an abort are followed by [DONE]: neither that nor a cut is an answer."""
    async with gateway_to(ADAPTER, url) as (gateway, client):
        standin.fault = {"kind": kind, "after": 2}
        text, outcome = await streamed(gateway, client, chat("one two three four"))
        assert "three" not in text
        assert outcome.error_code is not None
        assert outcome.error_code.startswith("engine_")
        assert '"error"' in text
        _, outcome = await streamed(gateway, client, chat("one"))
        assert outcome.error_code is None


async def test_a_full_queue_reaches_the_client_as_one(standin: SglangStandin, url: str) -> None:
    """503 with the engine's words, and the replica stays in use: the next request is answered."""
    async with gateway_to(ADAPTER, url) as (gateway, client):
        standin.fault = {"kind": "full"}
        refused = await client.post("/v1/chat/completions", json=chat("one two"))
        assert refused.status_code == 503
        assert QUEUE_FULL in refused.text
        answered = await client.post("/v1/chat/completions", json=chat("one two"))
        assert answered.status_code == 200
        assert (await gateway.outcome(2)).status == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_an_early_error_reaches_the_client(standin: SglangStandin, url: str, stream: bool) -> None:
    """What fails before the first token has a status of its own, streamed or not, and the engine's words."""
    async with gateway_to(ADAPTER, url) as (gateway, client):
        standin.fault = {"kind": "error", "after": 0}
        answer = await client.post("/v1/chat/completions", json=chat("one two", stream=stream))
        assert answer.status_code == 500
        assert FAILED in answer.text
        assert (await gateway.outcome()).status == 500
