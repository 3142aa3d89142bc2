"""The stand-in for TensorRT-LLM: held to OpenAI's client; what the adapter reads of it, and the gateway makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from inferry.core.replica import Endpoint
from inferry.core.server_engines import TensorRtLlmDeployment
from inferry.engines.adapter import Verdict
from inferry.engines.tensorrt_llm import TensorRtLlmAdapter
from inferry.fleet.probe import HttpProber, Unreachable
from tests.standins.serving import served
from tests.standins.tensorrt_llm import FAILED, TensorRtLlmStandin

from .standin_gateway import chat, gateway_to, streamed

ADAPTER = TensorRtLlmAdapter("chat", TensorRtLlmDeployment(engine="tensorrt-llm", model="file:/m"))


@pytest.fixture
def standin() -> TensorRtLlmStandin:
    return TensorRtLlmStandin()


@pytest.fixture
def url(standin: TensorRtLlmStandin) -> Iterator[str]:
    with served(standin.app) as base:
        yield base


def endpoint(url: str) -> Endpoint:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return Endpoint(parts.hostname, parts.port)


def test_the_client_chats(url: str) -> None:
    """Whole and streamed, with usage behind the last choice."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        whole = client.chat.completions.create(
            model="echo", messages=[{"role": "user", "content": "one two"}]
        )
        assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("one two ", "stop")
        *pieces, last = client.chat.completions.create(
            model="echo",
            messages=[{"role": "user", "content": "one two"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "one two "
        assert last.usage is not None
        assert last.usage.total_tokens == 4


def test_an_error_is_flat(url: str) -> None:
    """A request that it can't use is 400 with message, type and code beside each other, not under `error`."""
    answer = httpx.post(f"{url}/v1/chat/completions", json={"model": "echo", "messages": []})
    assert answer.status_code == 400
    assert set(answer.json()) == {"object", "message", "type", "param", "code"}


async def test_probe_warm_up_and_metrics(url: str) -> None:
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


async def test_without_its_option_there_are_no_metrics() -> None:
    """The Prometheus page is missing where return_perf_metrics is off: none is better than the JSON page."""
    prober = HttpProber()
    try:
        with served(TensorRtLlmStandin(perf_metrics=False).app) as url:
            assert await prober.metrics(ADAPTER, endpoint(url), 5) is None
            async with httpx.AsyncClient() as client:
                iterations = (await client.get(f"{url}/metrics")).json()
            assert iterations[0]["numActiveRequests"] == 0
    finally:
        await prober.close()


def test_a_dead_executor_is_seen(url: str) -> None:
    """Its health page says 503, in plain text."""
    httpx.post(f"{url}/standin/fault", json={"kind": "unhealthy"})
    answer = httpx.get(f"{url}/health")
    assert ADAPTER.read_probe(answer.status_code, answer.content).verdict is Verdict.UNWELL


async def test_a_stuck_one_is_seen(standin: TensorRtLlmStandin, url: str) -> None:
    """A health page that does not answer in time is no reading at all, and says so."""
    standin.fault = {"kind": "stuck"}
    prober = HttpProber()
    try:
        reading = await prober.probe(ADAPTER, endpoint(url), 0.2)
    finally:
        await prober.close()
    assert isinstance(reading, Unreachable)
    assert "no answer within" in reading.reason


async def test_a_stream_through_the_gateway(standin: TensorRtLlmStandin, url: str) -> None:
    """It is asked by the deployment's name and for usage, which is counted and kept from who did not ask."""
    async with gateway_to(ADAPTER, url) as (gateway, client):
        text, outcome = await streamed(gateway, client, chat("one two three"))
        assert text.endswith("data: [DONE]\n\n")
        assert '"usage"' not in text
        assert (outcome.status, outcome.prompt_tokens, outcome.completion_tokens) == (200, 3, 3)
        [(_, body)] = standin.seen
        assert (body["model"], body["stream_options"]) == ("chat", {"include_usage": True})


@pytest.mark.parametrize("after", [1, 3])
async def test_a_cut_in_mid_stream_is_no_answer(standin: TensorRtLlmStandin, url: str, after: int) -> None:
    """No error frame and no [DONE]: the client is told all the same, and the outcome is a failure."""
    async with gateway_to(ADAPTER, url) as (gateway, client):
        standin.fault = {"kind": "error", "after": after}
        text, outcome = await streamed(gateway, client, chat("one two three four"))
        assert text.count('"content"') == after + 1  # the first event holds the role
        assert '"error"' in text
        assert "[DONE]" not in text
        assert outcome.error_code is not None
        assert outcome.error_code.startswith("engine_")
        _, outcome = await streamed(gateway, client, chat("one"))
        assert outcome.error_code is None


async def test_a_flat_error_reaches_the_client_as_one_of_openai(
    standin: TensorRtLlmStandin, url: str
) -> None:
    """Clients look under `error`: there they find the engine's words."""
    async with gateway_to(ADAPTER, url) as (gateway, client):
        standin.fault = {"kind": "error", "after": 0}
        answer = await client.post("/v1/chat/completions", json=chat("one two"))
        assert answer.status_code == 400
        assert FAILED in answer.text
        assert (await gateway.outcome()).status == 400
