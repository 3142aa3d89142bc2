"""The stand-in for Ollama: held to Ollama's own client, and what Inferry's adapter reads of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import ollama
import pytest

from inferry.core.launch import CommandPlace
from inferry.core.server_engines import OllamaDeployment
from inferry.engines.adapter import Verdict
from inferry.engines.ollama import OllamaAdapter
from tests.standins.ollama import OllamaStandin
from tests.standins.serving import served

MODEL = "echo:1b"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "one two three"}]}


@pytest.fixture
def standin() -> OllamaStandin:
    return OllamaStandin({"STANDIN_LIBRARY": f"{MODEL},other", "STANDIN_MODELS": MODEL})


@pytest.fixture
def url(standin: OllamaStandin) -> Iterator[str]:
    with served(standin.app) as base:
        yield base


@pytest.fixture
def client(url: str) -> Iterator[ollama.Client]:
    client = ollama.Client(url, trust_env=False)
    yield client
    client._client.close()


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, trust_env=False, timeout=10) as client:
        yield client


def events(text: str) -> list[str]:
    return [each.removeprefix("data: ") for each in text.split("\n\n") if each]


# --- held to Ollama's client --------------------------------------------------------------------------


def test_the_client_chats(client: ollama.Client) -> None:
    """A chat, whole and in pieces: the same text, with counts at its end."""
    whole = client.chat(MODEL, messages=CHAT["messages"])
    pieces = list(client.chat(MODEL, messages=CHAT["messages"], stream=True))
    said = "".join([each.message.content or "" for each in pieces])
    assert whole.message.content == said == "one two three "
    assert (whole.done_reason, whole.prompt_eval_count, whole.eval_count) == ("stop", 3, 3)
    assert [each.done for each in pieces] == [False, False, False, True]
    assert (pieces[-1].eval_count, pieces[-1].done_reason) == (3, "stop")


def test_the_client_generates(client: ollama.Client) -> None:
    """A text, whole, in pieces and cut at a length."""
    assert client.generate(MODEL, "one two").response == "one two "
    pieces = list(client.generate(MODEL, "one two three", stream=True, options={"num_predict": 2}))
    assert "".join(each.response or "" for each in pieces) == "one two "
    assert pieces[-1].done_reason == "length"


def test_the_client_looks_after_models(client: ollama.Client, standin: OllamaStandin) -> None:
    """Models are fetched with progress, listed, shown, loaded, let go and deleted."""
    progress = list(client.pull("other", stream=True))
    assert (progress[0].status, progress[-1].status) == ("pulling manifest", "success")
    assert [each.completed for each in progress if each.total] == [0, 50, 100]
    assert {each.model for each in client.list().models} == {MODEL, "other:latest"}
    assert client.show("other").capabilities == ["completion"]
    client.generate("other", keep_alive=-1)
    [loaded] = client.ps().models
    assert loaded.model == "other:latest"
    client.generate("other", keep_alive=0)
    assert client.ps().models == []
    assert client.delete("other").status == "success"
    assert {each.model for each in client.list().models} == {MODEL}


def test_the_client_embeds(client: ollama.Client) -> None:
    """A vector for each text."""
    answer = client.embed(MODEL, ["a", "a b"])
    assert len(answer.embeddings) == 2
    assert answer.prompt_eval_count == 3


def test_the_client_is_told_what_is_wrong(client: ollama.Client, standin: OllamaStandin) -> None:
    """Missing models, a full queue and a runner that dies come out as the client's own errors."""
    with pytest.raises(ollama.ResponseError, match="'absent' not found") as missing:
        client.chat("absent", messages=CHAT["messages"])
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="file does not exist"):
        list(client.pull("absent", stream=True))
    standin.fault = {"kind": "busy"}
    with pytest.raises(ollama.ResponseError, match="server busy") as busy:
        client.chat(MODEL, messages=CHAT["messages"])
    assert busy.value.status_code == 503
    standin.fault = {"kind": "cut", "after": 1}
    stream = client.chat(MODEL, messages=CHAT["messages"], stream=True)
    assert next(stream).message.content == "one "
    with pytest.raises(ollama.ResponseError, match="unexpected EOF"):
        next(stream)


# --- as OpenAI's --------------------------------------------------------------------------------------


def test_streams_of_v1(http: httpx.Client) -> None:
    """Chunks, finish_reason, usage where it is asked for, and [DONE]."""
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    chat = events(http.post("/v1/chat/completions", json={**CHAT, **asked}).text)
    assert chat[-1] == "[DONE]"
    last, usage = json.loads(chat[-3]), json.loads(chat[-2])
    assert last["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 6)
    text = {"model": MODEL, "prompt": "one two", **asked}
    first = json.loads(events(http.post("/v1/completions", json=text).text)[0])
    assert first["usage"]["total_tokens"] == 0


def test_a_dead_runner_ends_a_stream_of_v1_in_silence(http: httpx.Client, standin: OllamaStandin) -> None:
    """No error, no finish_reason, no [DONE]: nothing but an empty chunk tells it from an answer."""
    standin.fault = {"kind": "cut", "after": 1}
    response = http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    chunks = [json.loads(each) for each in events(response.text)]
    assert response.status_code == 200
    assert [each["choices"][0]["delta"]["content"] for each in chunks] == ["one ", ""]
    assert all(each["choices"][0]["finish_reason"] is None for each in chunks)


# --- what the adapter needs ---------------------------------------------------------------------------


def adapter(**fields: object) -> OllamaAdapter:
    return OllamaAdapter(
        "chat", OllamaDeployment.model_validate({"engine": "ollama", "model": MODEL, **fields})
    )


def test_the_probe_and_the_warm_ups_fit(http: httpx.Client, standin: OllamaStandin) -> None:
    """The probe answers before a model is loaded, the warm-ups load and pin it, and a token comes out."""
    subject = adapter()
    environment = subject.command(CommandPlace("127.0.0.1", 1, MODEL, MODEL, "/nowhere")).env
    standin.keep_alive = environment["OLLAMA_KEEP_ALIVE"]
    probe = http.get(subject.probe_path)
    assert subject.read_probe(probe.status_code, probe.content).verdict is Verdict.READY
    assert standin.loaded == {}
    for warmup in subject.warmups:
        assert http.post(warmup.path, content=warmup.body).status_code == 200
    [(name, until)] = standin.loaded.items()
    assert name == MODEL
    assert until.year > 2100


def test_a_missing_model_is_told_by_404_and_can_be_fetched(
    http: httpx.Client, standin: OllamaStandin
) -> None:
    """The load answers 404 then; the request that it names brings the model, and the load goes well."""
    standin.models.clear()
    load = adapter().warmups[0]
    assert http.post(load.path, content=load.body).status_code == 404
    assert load.if_missing is not None
    assert http.post(load.if_missing.path, content=load.if_missing.body).status_code == 200
    assert http.post(load.path, content=load.body).status_code == 200
    unknown = adapter(model="absent").warmups[0].if_missing
    assert unknown is not None
    refused = http.post(unknown.path, content=unknown.body)
    assert (refused.status_code, "does not exist" in refused.text) == (500, True)
