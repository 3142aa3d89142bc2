"""The stand-in for TGI: held to Hugging Face's own client; what the adapter reads of it, and the gateway makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from huggingface_hub import ChatCompletionInputStreamOptions, InferenceClient

from inferry.core.replica import Endpoint
from inferry.core.server_engines import TgiDeployment
from inferry.engines.adapter import Verdict
from inferry.engines.tgi import TgiAdapter
from inferry.fleet.probe import HttpProber, Unreachable
from tests.standins.serving import served
from tests.standins.tgi import MODEL, TgiStandin

from .standin_gateway import chat, gateway_to, streamed

KEY = "s3cret"
ADAPTER = TgiAdapter("chat", TgiDeployment(engine="tgi", model="file:/m"))


@pytest.fixture
def standin() -> TgiStandin:
    return TgiStandin()


@pytest.fixture
def url(standin: TgiStandin) -> Iterator[str]:
    with served(standin.app) as base:
        yield base


def endpoint(url: str, key: str = KEY) -> Endpoint:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return Endpoint(parts.hostname, parts.port, headers=(("Authorization", f"Bearer {key}"),))


# --- held to Hugging Face's client --------------------------------------------------------------------


def test_the_client_generates(url: str) -> None:
    """A text, whole and by tokens; the details say why it ended."""
    client = InferenceClient(base_url=url)
    assert client.text_generation("one two three", max_new_tokens=9) == "one two three "
    assert list(client.text_generation("one two", stream=True)) == ["one ", "two "]
    last = list(client.text_generation("one two three", stream=True, details=True, max_new_tokens=2))[-1]
    assert last.generated_text == "one two "
    assert last.details is not None
    assert (last.details.finish_reason, last.details.generated_tokens) == ("length", 2)


def test_the_client_chats(url: str) -> None:
    """Its OpenAI route, whole and streamed with usage at the end."""
    client = InferenceClient(base_url=url)
    messages: list[Any] = [{"role": "user", "content": "one two three"}]
    options = ChatCompletionInputStreamOptions(include_usage=True)
    whole = client.chat_completion(messages)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("one two three ", "stop")
    *pieces, last = client.chat_completion(messages, stream=True, stream_options=options)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "one two three "
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (3, 3)


# --- what the adapter reads ---------------------------------------------------------------------------


async def test_probe_warm_up_and_metrics() -> None:
    """Well, with its key warmed up by one token, and then with figures: 1 token asked, 1 given."""
    prober = HttpProber()
    try:
        with served(TgiStandin(api_key=KEY).app) as url:
            reading = await prober.probe(ADAPTER, endpoint(url), 5)
            assert not isinstance(reading, Unreachable)
            assert reading.verdict is Verdict.READY
            refused = await prober.warm_up(endpoint(url, "other"), ADAPTER.warmups[0], 5)
            assert refused is not None
            assert "401" in str(refused)
            assert await prober.warm_up(endpoint(url), ADAPTER.warmups[0], 5) is None
            metrics = await prober.metrics(ADAPTER, endpoint(url), 5)
            assert metrics is not None
            assert (metrics.running, metrics.waiting) == (0, 0)
            assert (metrics.tokens_prompt, metrics.tokens_generated) == (1, 1)
        gone = await prober.probe(ADAPTER, endpoint(url), 5)
        assert isinstance(gone, Unreachable)
    finally:
        await prober.close()


def test_before_the_first_answer_there_are_no_token_counts(standin: TgiStandin, url: str) -> None:
    """TGI's histograms appear with their first value: unknown until then, not zero."""
    metrics = ADAPTER.read_metrics(httpx.get(f"{url}/metrics").text)
    assert (metrics.running, metrics.tokens_generated) == (0, None)


def test_a_dead_shard_is_seen(standin: TgiStandin, url: str) -> None:
    """Its health page says 503 when the shards are gone."""
    httpx.post(f"{url}/standin/fault", json={"kind": "unhealthy"})
    answer = httpx.get(f"{url}/health")
    assert ADAPTER.read_probe(answer.status_code, answer.content).verdict is Verdict.UNWELL


def test_a_full_one_still_looks_well(standin: TgiStandin, url: str) -> None:
    """Requests above its limit are refused; its health page is not, so it is not taken for stuck."""
    standin.max_concurrent = 0
    assert httpx.post(f"{url}/v1/completions", json={"prompt": "a"}).status_code == 429
    answer = httpx.get(f"{url}/health")
    assert ADAPTER.read_probe(answer.status_code, answer.content).verdict is Verdict.READY


async def test_a_stuck_one_is_seen(standin: TgiStandin, url: str) -> None:
    """A health page that does not answer in time is no reading at all, and says so."""
    standin.fault = {"kind": "stuck"}
    prober = HttpProber()
    try:
        reading = await prober.probe(ADAPTER, endpoint(url), 0.2)
    finally:
        await prober.close()
    assert isinstance(reading, Unreachable)
    assert "no answer within" in reading.reason


# --- what the gateway makes of it ---------------------------------------------------------------------


async def test_requests_name_no_adapter(standin: TgiStandin, url: str) -> None:
    """Clients ask for `chat`, TGI for `tgi`; usage is counted, and given only to those who ask."""
    async with gateway_to(ADAPTER, url) as (gateway, client):
        whole = (await client.post("/v1/chat/completions", json=chat("one two"))).json()
        assert whole["choices"][0]["message"]["content"] == "one two "
        text, outcome = await streamed(gateway, client, chat("one two three"))
        assert '"usage": {' not in text
        assert text.endswith("data: [DONE]\n\n")
        assert (outcome.status, outcome.prompt_tokens, outcome.completion_tokens) == (200, 3, 3)
        assert {body["model"] for _, body in standin.seen} == {"tgi"}
        assert whole["model"] == MODEL


async def test_a_streamed_completion_is_whole(standin: TgiStandin, url: str) -> None:
    """Its reasons are empty texts until the last event, and in TGI's own words there."""
    async with gateway_to(ADAPTER, url) as (gateway, client):
        body = {"model": "chat", "prompt": "one two", "stream": True}
        answer = await client.post("/v1/completions", json=body)
        assert '"finish_reason": "eos_token"' in answer.text
        outcome = await gateway.outcome()
        assert (outcome.status, outcome.error_code, outcome.completion_tokens) == (200, None, 2)


@pytest.mark.parametrize(
    ("path", "body", "end"),
    [
        (
            "/generate_stream",
            {"inputs": "one two", "parameters": {"details": True}},
            '"finish_reason":"eos_token"',
        ),
        (
            "/api/generate",
            {"prompt": "one two", "raw": True, "options": {"num_predict": 9}},
            '"done_reason":"stop"',
        ),
    ],
)
async def test_the_fronts_streams_are_whole(
    standin: TgiStandin, url: str, path: str, body: dict[str, Any], end: str
) -> None:
    """The same words of its streams make an end for clients of TGI's API and Ollama's, as they do for the ledger."""
    async with gateway_to(ADAPTER, url) as (gateway, client):
        answer = await client.post(path, json={"model": "chat", **body})
        assert '"error"' not in answer.text
        assert "one " in answer.text
        assert "two " in answer.text
        assert end in answer.text
        outcome = await gateway.outcome()
        assert (outcome.status, outcome.error_code, outcome.completion_tokens) == (200, None, 2)


@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.parametrize("kind", ["error", "cut"])
async def test_a_stream_that_breaks_is_no_answer(
    standin: TgiStandin, url: str, kind: str, after: int
) -> None:
    """An error event behind some tokens, with [DONE] behind it, or a cut: the outcome is a failure."""
    async with gateway_to(ADAPTER, url) as (gateway, client):
        standin.fault = {"kind": kind, "after": after}
        text, outcome = await streamed(gateway, client, chat("one two three four"))
        assert text.count('"content"') == after
        assert outcome.error_code is not None
        assert outcome.error_code.startswith("engine_")
        assert '"error"' in text
        # The next one is served: nothing is left behind.
        _, outcome = await streamed(gateway, client, chat("one"))
        assert outcome.error_code is None


async def test_overload_in_a_stream_is_no_answer(standin: TgiStandin, url: str) -> None:
    """A stream that begins with status 200 and 'overloaded' has failed, and is told as an error."""
    async with gateway_to(ADAPTER, url) as (gateway, client):
        standin.fault = {"kind": "overloaded"}
        text, outcome = await streamed(gateway, client, chat("one two"))
        assert "overloaded" in text
        assert outcome.error_code is not None


async def test_overload_of_a_whole_answer_is_passed_on(standin: TgiStandin, url: str) -> None:
    """429 reaches the client of the only replica, as an OpenAI error."""
    async with gateway_to(ADAPTER, url) as (_, client):
        standin.fault = {"kind": "overloaded"}
        answer = await client.post("/v1/chat/completions", json=chat("one"))
        assert answer.status_code == 429
        assert answer.json()["error"]


async def test_a_failed_whole_answer_is_an_error(standin: TgiStandin, url: str) -> None:
    """424 means that TGI's generation failed: it is told as an error with TGI's words."""
    async with gateway_to(ADAPTER, url) as (gateway, client):
        standin.fault = {"kind": "error", "after": 1}
        answer = await client.post("/v1/chat/completions", json=chat("one two"))
        assert answer.status_code >= 400
        assert (await gateway.outcome()).status == answer.status_code
