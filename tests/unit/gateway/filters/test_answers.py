"""Whole answers, and how a stream ends that a rule blocks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inferry.core.request import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, Route
from inferry.gateway.filters.verdict import Blocked, Masked, Passed

from .wire import bodies_of, compiled, event, run, stream_of, text_of

CALL = {"id": "bomb", "function": {"name": "f", "arguments": '{"a": "b\\u006fmb"}'}}
WHOLES: list[tuple[Route, dict[str, Any]]] = [
    (CHAT, {"choices": [{"index": 0, "message": {"content": "a bomb"}, "finish_reason": "stop"}]}),
    (CHAT, {"choices": [{"message": {"content": "x"}}, {"message": {"content": "bomb"}}]}),
    (CHAT, {"choices": [{"message": {"content": "x", "reasoning_content": "bomb"}}]}),
    (CHAT, {"choices": [{"message": {"refusal": "bomb"}}]}),
    (CHAT, {"choices": [{"message": {"content": None, "tool_calls": [CALL]}}]}),
    (COMPLETIONS, {"choices": [{"index": 0, "text": "bomb"}]}),
    (RESPONSES, {"output": [{"type": "message", "content": [{"type": "output_text", "text": "bomb"}]}]}),
    (RESPONSES, {"output": [{"type": "function_call", "name": "f", "arguments": '{"a":"bomb"}'}]}),
    (MESSAGES, {"content": [{"type": "text", "text": "bomb"}], "stop_reason": "end_turn"}),
    (MESSAGES, {"content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": "bomb"}}]}),
]


@pytest.mark.parametrize(("route", "fields"), WHOLES)
def test_whole_answers(route: Route, fields: dict[str, Any]) -> None:
    """Each place of an answer is masked or blocked; a blocked one becomes the dialect's own refusal, usage kept."""
    body = json.dumps({"id": "x", "usage": {"total_tokens": 3}, **fields}).encode()
    masked = compiled({"terms": ["bomb"], "action": "mask"}).whole(route, body, "t", None)
    assert isinstance(masked, Masked)
    kept = masked.body.decode().replace('"id":"bomb"', "").replace('"id": "bomb"', "")
    assert "[removed]" in kept
    assert "bomb" not in kept
    assert json.loads(masked.body).keys() == json.loads(body).keys()
    stopped = compiled({"terms": ["bomb"]}).whole(route, body, "t", None)
    assert isinstance(stopped, Blocked)
    assert stopped.answer is not None
    answer = json.loads(stopped.answer)
    assert "bomb" not in stopped.answer.decode()
    assert answer["usage"] == {"total_tokens": 3}
    said = json.dumps(answer)
    assert ("content_filter" in said) or answer["stop_reason"] == "refusal"


def test_answers_without_texts_pass() -> None:
    """Embeddings and an engine's own errors are not touched."""
    filters = compiled({"terms": ["bomb"]})
    assert filters.whole(EMBEDDINGS, b'{"data":[{"embedding":"bomb"}]}', "t", None) == Passed()
    assert filters.whole(CHAT, b'{"error":{"message":"bomb"}}', "t", None) == Passed()


def test_log_probabilities_of_masked_texts_are_taken_out() -> None:
    """They would spell the text again; where nothing was masked they stay."""
    choice = {"index": 0, "message": {"content": "a bomb"}, "logprobs": {"content": [{"token": "bomb"}]}}
    filters = compiled({"terms": ["bomb"], "action": "mask"})
    verdict = filters.whole(CHAT, json.dumps({"choices": [choice]}).encode(), "t", None)
    assert isinstance(verdict, Masked)
    assert json.loads(verdict.body)["choices"][0]["logprobs"] is None
    stream = filters.stream(CHAT, "t", None)
    assert stream is not None
    kept = event(
        {"choices": [{"index": 0, "delta": {"content": "x"}, "logprobs": {"content": [{"token": "x"}]}}]}
    )
    held = event(
        {"choices": [{"index": 0, "delta": {"content": "bo"}, "logprobs": {"content": [{"token": "bo"}]}}]}
    )
    assert stream.feed(kept) == kept
    assert b"bo" not in stream.feed(held)


def ended(dialect: str, route: Route) -> list[Any]:
    stream = compiled({"terms": ["bomb"]}).stream(route, "t", None)
    assert stream is not None
    out = run(stream, stream_of(dialect, ["a ", "bo", "mb", " c"]))
    assert isinstance(stream.blocked, Blocked)
    assert stream.blocked.rule == "r0"
    assert stream.feed(b"data: x\n\n") == stream.finish() == b""
    assert text_of(dialect, out) == "a "
    return bodies_of(out)


def test_a_blocked_chat_ends_as_openai_ends_it() -> None:
    """finish_reason content_filter, then [DONE]."""
    *_, last, done = ended("chat", CHAT)
    assert last["id"] == "c1"
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]
    assert done == "[DONE]"


def test_a_blocked_completion_ends_alike() -> None:
    """The same for text completions."""
    *_, last, done = ended("completions", COMPLETIONS)
    assert last["choices"] == [{"index": 0, "text": "", "finish_reason": "content_filter"}]
    assert done == "[DONE]"


def test_a_blocked_response_is_incomplete() -> None:
    """response.incomplete with the reason, numbered on."""
    bodies = ended("responses", RESPONSES)
    assert bodies[-1]["type"] == "response.incomplete"
    assert bodies[-1]["response"]["id"] == "r1"
    assert bodies[-1]["response"]["incomplete_details"] == {"reason": "content_filter"}
    assert [body["sequence_number"] for body in bodies] == list(range(len(bodies)))


def test_a_blocked_message_is_a_refusal() -> None:
    """The block stops, stop_reason refusal, message_stop."""
    bodies = ended("messages", MESSAGES)
    assert [body["type"] for body in bodies[-3:]] == ["content_block_stop", "message_delta", "message_stop"]
    assert bodies[-2]["delta"]["stop_reason"] == "refusal"


def test_numbers_of_a_response_stay_in_order() -> None:
    """An event that is added for held text moves the numbers behind it; the wholes are masked as the parts are."""
    stream = compiled({"detect": ["email"], "action": "mask"}).stream(RESPONSES, "t", None)
    assert stream is not None
    out = run(stream, stream_of("responses", ["to a@", "b.com"]))
    bodies = bodies_of(out)
    assert [body["sequence_number"] for body in bodies] == list(range(len(bodies)))
    assert len(bodies) == 7
    assert b"b.com" not in out
    assert out.count(b"to [removed]") == 3


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
def test_untouched_streams_are_the_same_bytes(dialect: str) -> None:
    """Where nothing is found and nothing must wait, not one byte changes."""
    route = {"chat": CHAT, "messages": MESSAGES, "responses": RESPONSES}[dialect]
    stream = compiled({"terms": ["bomb"]}).stream(route, "t", None)
    assert stream is not None
    events = [b": ping\n\n", *stream_of(dialect, ["Hello ", "there."])]
    assert run(stream, events) == b"".join(events)


def test_what_cannot_be_read_is_not_passed() -> None:
    """A broken or endless event ends a stream that a rule blocks or masks; a rule that flags lets it pass."""
    for bad in (b'data: {"choices":[\n\n', b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n'):
        stream = compiled({"terms": ["x"], "action": "mask"}).stream(CHAT, "t", None)
        assert stream is not None
        assert stream.feed(bad).endswith(b"data: [DONE]\n\n")
        assert stream.blocked is not None
        assert stream.blocked.rule == "unreadable"
        stream = compiled({"terms": ["x"], "action": "flag"}).stream(CHAT, "t", None)
        assert stream is not None
        assert stream.feed(bad) == bad
    stream = compiled({"terms": ["x"]}).stream(CHAT, "t", None)
    assert stream is not None
    for _ in range(9):
        stream.feed(b"data: " + b"x" * 1024 * 1024)
    assert stream.blocked is not None


def test_usage_and_ids_are_kept() -> None:
    """Held text goes out before the finish event; the usage event is the same bytes."""
    stream = compiled({"detect": ["email"], "action": "mask"}).stream(CHAT, "t", None)
    assert stream is not None
    events = stream_of("chat", ["wri", "te"])
    out = run(stream, events)
    assert out.endswith(events[-3] + events[-2] + events[-1])
    assert text_of("chat", out) == "write"
    assert {body["id"] for body in bodies_of(out) if body != "[DONE]"} == {"c1"}


def test_words_of_json_stay_words() -> None:
    """A term that hits true, null or a number's exponent outside of strings leaves JSON behind."""
    filters = compiled({"terms": ["true", "ul", "1e5", "-2"], "action": "mask"})
    source = '{"a": true, "b": null, "c": 1e5, "d": [-2.5, "true"]}'
    call = {"function": {"name": "f", "arguments": source}}
    body = json.dumps({"choices": [{"message": {"tool_calls": [call]}}]}).encode()
    verdict = filters.whole(CHAT, body, "t", None)
    assert isinstance(verdict, Masked)
    arguments = json.loads(verdict.body)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"a": True, "b": None, "c": 9e9, "d": [-9.5, "[removed]"]}
