"""Azure's two APIs behind the gateway: a stand-in, held to the `openai` package's own client for Azure."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import httpx
import openai
import pytest

from inferry.core.outcome import UsageFrom
from inferry.core.remote_engines import OpenAIDeployment
from inferry.core.replica import Endpoint
from inferry.engines.adapter import ProbeReading, Verdict
from inferry.engines.openai import OpenAIAdapter
from inferry.fleet.probe import HttpProber
from tests.standins.azure import AzureStandin
from tests.standins.serving import served

from .gateway_harness import CHAT_BODY, CHAT_STREAM, Running, running_gateway, view

KEY, NAME, VERSION = "azure-k3y", "my gpt", "2024-10-21"
CLASSIC = "/openai/deployments/my%20gpt"


@pytest.fixture
def azure() -> AzureStandin:
    return AzureStandin(KEY, (NAME,), VERSION)


@pytest.fixture
def url(azure: AzureStandin) -> Iterator[str]:
    with served(azure.app) as url:
        yield url


def adapter(url: str, **fields: object) -> OpenAIAdapter:
    settings: dict[str, object] = {
        "engine": "openai",
        "model": NAME,
        "endpoints": [url],
        "api_version": VERSION,
        "api_key": KEY,
        "key_header": "api-key",
        "headers": {"x-team": "t1"},
    }
    return OpenAIAdapter("chat", OpenAIDeployment.model_validate({**settings, **fields}))


@contextlib.asynccontextmanager
async def gateway_to(adapter: OpenAIAdapter) -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    [endpoint] = adapter.endpoints()
    asks = adapter.reports_stream_usage
    async with running_gateway([], upstream_model=NAME, asks_usage=asks, routes=adapter.routes) as running:
        running.gateway.apply(replace(view(endpoint.port), endpoint=endpoint))
        async with httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=10) as client:
            yield running, client


async def probed(adapter: OpenAIAdapter, endpoint: Endpoint) -> ProbeReading:
    prober = HttpProber()
    try:
        reading = await prober.probe(adapter, endpoint, 5)
    finally:
        await prober.close()
    assert isinstance(reading, ProbeReading)
    return reading


def test_the_standin_is_held_to_azures_client(azure: AzureStandin, url: str) -> None:
    """The `openai` package's AzureOpenAI asks the same paths that we do, and reads the stand-in's streams."""
    with openai.AzureOpenAI(azure_endpoint=url, api_key=KEY, api_version=VERSION, max_retries=0) as client:
        stream = client.chat.completions.create(
            model=NAME,
            messages=[{"role": "user", "content": "one two"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.embeddings.create(model="absent", input="a")
    assert [len(each.choices) for each in chunks] == [0, 1, 1, 1, 0]
    assert chunks[-1].usage is not None
    assert azure.seen[0][0] == f"{CLASSIC}/chat/completions?api-version={VERSION}"


async def test_the_classic_api(azure: AzureStandin, url: str) -> None:
    """Path, version, key header and the file's headers arrive; so does the answer, with its tokens counted."""
    async with gateway_to(adapter(url)) as (running, client):
        answer = (await client.post("/v1/chat/completions", content=CHAT_BODY)).json()
        outcome = await running.outcome()
        vectors = (await client.post("/v1/embeddings", json={"model": "chat", "input": "a"})).json()
        absent = await client.post("/v1/responses", json={"model": "chat", "input": "a"})
    assert answer["choices"][0]["message"]["content"] == "hi "
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (1, 1)
    assert vectors["data"][0]["embedding"] == [0.5, 0.25]
    assert (absent.status_code, "does not serve /v1/responses" in absent.text) == (404, True)
    (chat, headers, body), (embeddings, _, _) = azure.seen
    assert (chat, body["model"]) == (f"{CLASSIC}/chat/completions?api-version={VERSION}", NAME)
    assert embeddings == f"{CLASSIC}/embeddings?api-version={VERSION}"
    assert (headers["api-key"], headers["x-team"]) == (KEY, "t1")
    assert "authorization" not in headers


async def test_a_stream_keeps_azures_first_event(url: str) -> None:
    """What the filters said of the prompt has no choices either, but is no usage: only that is taken out."""
    async with gateway_to(adapter(url)) as (running, client):
        text = (await client.post("/v1/chat/completions", content=CHAT_STREAM)).text
        outcome = await running.outcome()
    assert text.startswith('data: {"choices":[],')
    assert "prompt_filter_results" in text.split("\n\n")[0]
    assert text.count("data: ") == 4
    assert text.endswith("data: [DONE]\n\n")
    assert "prompt_tokens" not in text
    assert (outcome.usage_from, outcome.prompt_tokens, outcome.completion_tokens) == (UsageFrom.ENGINE, 1, 1)


async def test_the_v1_api(azure: AzureStandin, url: str) -> None:
    """Ordinary paths below /openai/v1, the deployment's name as the model, the key in its header."""
    async with gateway_to(adapter(f"{url}/openai/v1", api_version=None)) as (_, client):
        answer = await client.post("/v1/chat/completions", content=CHAT_BODY)
    assert answer.status_code == 200
    [(path, headers, body)] = azure.seen
    assert (path, body["model"], headers["api-key"]) == ("/openai/v1/chat/completions", NAME, KEY)


async def test_its_errors_are_passed_on(azure: AzureStandin, url: str) -> None:
    """Throttling comes with its Retry-After, a wrong deployment with Azure's own code."""
    azure.throttled = 1
    async with gateway_to(adapter(url)) as (_, client):
        throttled = await client.post("/v1/chat/completions", content=CHAT_BODY)
    assert (throttled.status_code, throttled.headers["retry-after"]) == (429, "7")
    azure.deployments = ()
    async with gateway_to(adapter(url)) as (_, client):
        absent = await client.post("/v1/chat/completions", content=CHAT_BODY)
    assert (absent.status_code, absent.json()["error"]["code"]) == (404, "DeploymentNotFound")


@pytest.mark.parametrize(("suffix", "path"), [("", "/openai/models"), ("/openai/v1", "/openai/v1/models")])
async def test_probes(azure: AzureStandin, url: str, suffix: str, path: str) -> None:
    """Either API's list of models is asked for; a wrong key is said to be one."""
    subject = adapter(f"{url}{suffix}")
    [endpoint] = subject.endpoints()
    assert (await probed(subject, endpoint)).verdict is Verdict.READY
    assert azure.seen[-1][0] == f"{path}?api-version={VERSION}"
    azure.key = "another"
    refused = await probed(subject, endpoint)
    assert refused.verdict is Verdict.UNWELL
    assert "check deployments.chat.api_key" in refused.reason
