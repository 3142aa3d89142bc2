"""Ollama's faults as a client of the gateway meets them, by the stand-in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from inferry.core.outcome import Ending
from inferry.core.server_engines import OllamaDeployment
from inferry.engines.ollama import OllamaAdapter
from tests.standins.ollama import OllamaStandin
from tests.standins.serving import served

from .standin_gateway import chat, gateway_to, streamed

ADAPTER = OllamaAdapter("chat", OllamaDeployment.model_validate({"engine": "ollama", "model": "echo"}))


@pytest.fixture
def standin() -> OllamaStandin:
    return OllamaStandin({"STANDIN_MODELS": "echo"})


@pytest.fixture
def url(standin: OllamaStandin) -> Iterator[str]:
    with served(standin.app) as base:
        yield base


async def test_a_whole_stream_is_one(url: str) -> None:
    """Words, finish_reason and [DONE] come through, without the usage that only the gateway asked for."""
    async with gateway_to(ADAPTER, url) as (gateway, client):
        text, outcome = await streamed(gateway, client, chat("one two three"))
    assert text.endswith("data: [DONE]\n\n")
    assert '"usage"' not in text
    assert (outcome.ending, outcome.finish_reason) == (Ending.COMPLETED, "stop")
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (3, 3)


async def test_a_silent_end_is_no_answer(standin: OllamaStandin, url: str) -> None:
    """A runner that dies ends the stream without a word about it: the gateway says it, and counts what came."""
    standin.fault = {"kind": "cut", "after": 2}
    async with gateway_to(ADAPTER, url) as (gateway, client):
        text, outcome = await streamed(gateway, client, chat("one two three"))
    assert '"one "' in text
    assert '"error"' in text
    assert "[DONE]" not in text
    assert outcome.ending is Ending.FAILED
    assert outcome.error_code == "engine_unfinished"
    assert outcome.completion_tokens == 2


async def test_a_cut_connection_is_no_answer(standin: OllamaStandin, url: str) -> None:
    """The same where the connection breaks."""
    standin.fault = {"kind": "reset", "after": 2}
    async with gateway_to(ADAPTER, url) as (gateway, client):
        text, outcome = await streamed(gateway, client, chat("one two three"))
    assert '"error"' in text
    assert outcome.ending is Ending.FAILED


async def test_errors_before_an_answer_keep_their_status(standin: OllamaStandin, url: str) -> None:
    """A full queue is 503, a dead runner 500, in OpenAI's shape, with Ollama's words."""
    async with gateway_to(ADAPTER, url) as (gateway, client):
        for kind, status, words in (("busy", 503, "server busy"), ("cut", 500, "unexpected EOF")):
            standin.fault = {"kind": kind}
            answer = await client.post("/v1/chat/completions", json=chat("one"))
            assert (answer.status_code, words in answer.json()["error"]["message"]) == (status, True)
        assert (await client.post("/v1/chat/completions", json=chat("one"))).status_code == 200
        assert len(gateway.outcomes) == 3
