"""Who answers at a URL, and what it can do: concluded from replies that engines have been seen to give."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from inferry.engines.capability_probe import Can, Feature, ask_all, lacks_model, probe
from inferry.engines.engine_identity import Identity, Question, Reply, identify


def listing(owner: str, *names: str) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "owned_by": owner} for name in names]}


def replies(
    pages: Mapping[str, object], headers: Mapping[str, str] | None = None
) -> Callable[[Question], Reply]:
    """A server with these pages, by path; all others are not found."""

    def ask(question: Question) -> Reply:
        page = pages.get(question.path)
        if callable(page):
            page = page(question.body)
        if isinstance(page, Reply):
            return page
        if page is None:
            return Reply(404, b'{"detail":"Not Found"}', headers or {})
        body = page if isinstance(page, bytes) else json.dumps(page).encode()
        return Reply(200, body, headers or {})

    return ask


@pytest.mark.parametrize(
    ("pages", "engine", "version"),
    [
        ({"/v1/models": listing("vllm", "m"), "/version": {"version": "0.32.0"}}, "vllm", "0.32.0"),
        (
            {"/v1/models": listing("tensorrt_llm", "m"), "/version": {"version": "1.2.0"}},
            "tensorrt-llm",
            "1.2.0",
        ),
        (
            {
                "/v1/models": listing("sglang", "m"),
                "/server_info": {"version": "0.5.23", "tokenizer_path": "m"},
            },
            "sglang",
            "0.5.23",
        ),
        (
            {"/v1/models": listing("m", "m"), "/info": {"model_id": "m", "router": "r", "version": "3.3.5"}},
            "tgi",
            "3.3.5",
        ),
        (
            {"/v1/models": listing("llamacpp", "m"), "/props": {"build_info": "b9000-1"}},
            "llamacpp",
            "b9000-1",
        ),
        ({"/v1/models": listing("llamacpp", "m")}, "llamacpp", None),
        ({"/v1/models": listing("library", "m"), "/api/version": {"version": "0.33.0"}}, "ollama", "0.33.0"),
        (
            {
                "/v1/models": listing("org", "m"),
                "/openapi.json": {"paths": {"/load_model": {}, "/reset": {}}},
            },
            "transformers",
            None,
        ),
        ({"/v1/models": listing("somebody", "m")}, "unknown", None),
        ({"/v1/models": b"<html>"}, "unknown", None),
        ({}, "unknown", None),
    ],
)
def test_an_engine_is_known_by_its_own_pages(
    pages: dict[str, object], engine: str, version: str | None
) -> None:
    """Each by what only it has; anything else is unknown, and never guessed."""
    who: Identity = ask_all(identify(), replies(pages))
    assert (who.engine, who.version, who.simulated) == (engine, version, False)
    assert not who.wants_key


def test_the_simulated_engine_says_so() -> None:
    """It speaks vLLM's API, and is not taken for it."""
    pages = {
        "/v1/models": listing("inferry-simulated", "m"),
        "/version": {"version": "0.0.0", "simulated": True},
    }
    who: Identity = ask_all(identify(), replies(pages))
    assert (who.engine, who.simulated, who.models) == ("simulated", True, ("m",))


def test_a_gateway_of_ours_is_no_engine() -> None:
    """It has TGI's and Ollama's pages too, for their clients."""
    pages = {"/v1/models": listing("inferry", "m"), "/info": {"model_id": "m", "router": "r"}}
    who: Identity = ask_all(identify(), replies(pages, {"x-inferry-generation": "1"}))
    assert who.engine == "inferry"


def test_a_server_that_wants_a_key_says_so() -> None:
    """By refusing its list of models."""
    who: Identity = ask_all(identify(), replies({"/v1/models": Reply(401, b"{}")}))
    assert who.wants_key


# --- features -----------------------------------------------------------------------------------------


def features(pages: Mapping[str, object]) -> dict[str, Feature]:
    found: list[Feature] = ask_all(probe("m"), replies(pages))
    return {each.name: each for each in found}


def sse(*chunks: object, done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return ("".join(lines) + ("data: [DONE]\n\n" if done else "")).encode()


def said(text: str, **more: object) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop", **more}]}


def test_a_server_without_anything_can_nothing() -> None:
    """Each feature is answered for, none is yes, and the detail says what came back."""
    for pages in ({}, {"/v1/chat/completions": Reply(0, b"no answer in time")}):
        found = features(pages)
        assert len(found) == 17
        assert {each.can for each in found.values()} == {Can.NO}
        assert all(each.detail for each in found.values())


@pytest.mark.parametrize(
    ("text", "can"),
    [
        (" seven, eight", Can.YES),
        ("One, two, three, four, five, six, seven", Can.YES),  # llama.cpp repeats the beginning
        ("One, two, three", Can.NO),
        ("1, 2, 3", Can.NO),
        ("Sure! Here", Can.UNCLEAR),
        ("", Can.UNCLEAR),
    ],
)
def test_going_on_is_told_from_beginning_anew(text: str, can: Can) -> None:
    """By the word that comes; what is neither is not claimed."""
    found = features({"/v1/chat/completions": said(text)})
    assert found["goes on by a trailing message"].can is can
    assert found["goes on by continue_final_message"].can is can


@pytest.mark.parametrize(
    ("body", "can"),
    [
        (sse({"choices": [{"finish_reason": "stop"}]}, {"choices": [], "usage": {"x": 1}}), Can.YES),
        (sse({"choices": [{"finish_reason": "stop"}]}), Can.NO),
        (sse({"choices": [{"delta": {}}]}, {"choices": [], "usage": {"x": 1}}), Can.NO),
        (b"data: nonsense\n\n", Can.NO),
        (b"{}", Can.NO),
    ],
)
def test_a_stream_must_end_as_the_gateway_needs_it(body: bytes, can: Can) -> None:
    """With a reason and with usage, which is what billing and verdicts stand on."""
    assert features({"/v1/chat/completions": body})["streams, with usage at the end"].can is can


def test_usage_in_each_event_is_seen() -> None:
    """In all events with a token, not only at the end."""
    token = {"choices": [{"delta": {"content": "a"}}]}
    each = sse({**token, "usage": {"x": 1}}, {**token, "usage": {"x": 2}}, {"choices": [], "usage": {"x": 2}})
    last = sse(token, token, {"choices": [], "usage": {"x": 2}})
    for body, can in ((each, Can.YES), (last, Can.NO)):
        assert features({"/v1/chat/completions": body})["streams, with usage in each event"].can is can


def test_a_field_that_is_ignored_is_no_feature() -> None:
    """Log-probabilities and structured output count only if they come; unknown fields are ignored by most engines."""
    found = features({"/v1/chat/completions": said("The answer is 7")})
    assert found["log-probabilities"].can is Can.NO
    assert found["structured output (JSON schema)"].can is Can.NO
    found = features({"/v1/chat/completions": said('{"n": 7}', logprobs={"content": []})})
    assert found["log-probabilities"].can is Can.YES
    assert found["structured output (JSON schema)"].can is Can.YES


@pytest.mark.parametrize("key", ["prompt", "content"])
def test_both_ways_to_tokenize_are_tried(key: str) -> None:
    """vLLM's and llama.cpp's, which ignores the other's and finds no token."""

    def tokenize(body: Mapping[str, Any]) -> object:
        return {"tokens": [1, 2] if key in body else []}

    found = features({"/tokenize": tokenize})["tokenize"]
    assert (found.can, found.detail) == (Can.YES, f"/tokenize, of '{key}'")


@pytest.mark.parametrize(
    ("reply", "can"),
    [
        (Reply(400, b'{"error":{"message":"bad","type":"x"}}'), Can.YES),
        (Reply(400, b'{"object":"error","message":"bad"}'), Can.NO),
        (Reply(422, b'{"error":"bad","error_type":"validation"}'), Can.NO),
        (Reply(500, b'{"error":{"message":"boom"}}'), Can.NO),
        (Reply(200, b"{}"), Can.NO),
        (Reply(400, b"<html>\xff"), Can.NO),
    ],
)
def test_the_shape_of_errors_is_looked_at(reply: Reply, can: Can) -> None:
    """Flat ones, texts, pages, crashes, and servers that take nonsense."""

    def chat(body: Mapping[str, Any]) -> Reply:
        return reply if body.get("temperature") == "hot" else Reply(404)

    assert features({"/v1/chat/completions": chat})["refuses what is wrong, as OpenAI does"].can is can


def test_metrics_may_be_at_another_path() -> None:
    """TensorRT-LLM's /metrics is JSON."""
    page = b"# TYPE trtllm_x counter\ntrtllm_x 1\n"
    found = features({"/metrics": [], "/prometheus/metrics": page})["Prometheus metrics"]
    assert (found.can, found.detail) == (Can.YES, "/prometheus/metrics")


@pytest.mark.parametrize(
    ("reply", "lacks"),
    [
        (Reply(404, b'{"error":{"message":"The model `nope` does not exist."}}'), True),
        (Reply(404, b'{"detail":"Not Found"}'), False),
        (Reply(400, b"nope does not support chat"), False),
        (Reply(200, b"{}"), False),
        (Reply(0, b"nope.example.org: no answer"), False),
    ],
)
def test_a_model_that_is_not_there(reply: Reply, lacks: bool) -> None:
    """Only a 404 that names the model is taken for it: routes may be missing, and servers have more names than listed."""
    assert ask_all(lacks_model("nope"), lambda question: reply) is lacks
