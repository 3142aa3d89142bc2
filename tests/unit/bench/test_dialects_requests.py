"""What is sent for an ask, API by API."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from inferry.bench.judging import encode
from inferry.bench.plan import Api, Target
from inferry.bench.records import Ask
from inferry.core.errors import BadBenchPlan

TALK = (("system", "Be brief."), ("user", "One?"), ("assistant", "Two."), ("user", "Three?"))


def sent(api: Api = "chat", *, ask: Ask | None = None, **target: Any) -> tuple[str, dict[str, Any]]:
    """Path and body for a text of which 8 tokens are wanted."""
    wanted = Ask(number=3, due_s=0.0, text="hello", output_tokens=8) if ask is None else ask
    encoded = encode(Target(base_url="http://x/v1", model="m", api=api, **target), wanted)
    return encoded.path, msgspec.json.decode(encoded.body)


def test_chat_asks_for_exactly_so_many_tokens_and_their_count() -> None:
    """The default: streamed, on to the wanted length, usage in each chunk and at the end."""
    path, body = sent()
    assert path == "/chat/completions"
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 8,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }


def test_a_plain_service_gets_only_what_openai_documents() -> None:
    """What is not OpenAI's own can all be left out, and the length goes by the newer name if told so."""
    _, body = sent(ignore_eos=False, usage_per_chunk=False, length_field="max_completion_tokens")
    assert body["max_completion_tokens"] == 8
    assert body["stream_options"] == {"include_usage": True}
    assert not {"max_tokens", "ignore_eos"} & set(body)


@pytest.mark.parametrize("api", ["chat", "completions", "responses", "messages"])
def test_without_a_stream_that_is_said_and_nothing_about_its_form(api: Api) -> None:
    """vLLM refuses stream_options there, and transformers streams responses unless told not to."""
    _, body = sent(api, stream=False)
    assert body["stream"] is False
    assert "stream_options" not in body


def test_without_a_length_the_end_is_the_models() -> None:
    """ignore_eos alone would run to the end of the context."""
    _, body = sent(ask=Ask(number=0, due_s=0.0, text="hello"))
    assert not {"max_tokens", "ignore_eos"} & set(body)


def test_completions_take_token_ids_as_they_are() -> None:
    """Exact lengths: the ids go first, where there is a text too."""
    path, body = sent("completions", ask=Ask(number=0, due_s=0.0, token_ids=(5, 6), output_tokens=8))
    assert (path, body["prompt"], body["max_tokens"]) == ("/completions", [5, 6], 8)
    assert sent("completions")[1]["prompt"] == "hello"


def test_responses_name_the_length_in_their_own_way() -> None:
    """max_output_tokens; a text as it is, a conversation as messages."""
    path, body = sent("responses")
    assert (path, body["input"], body["max_output_tokens"]) == ("/responses", "hello", 8)
    assert not {"max_tokens", "stream_options"} & set(body)
    _, body = sent("responses", ask=Ask(number=0, due_s=0.0, messages=TALK))
    assert [message["role"] for message in body["input"]] == [role for role, _ in TALK]


def test_messages_have_version_length_and_system_where_anthropic_has_them() -> None:
    """The header, a length even if none was asked for, and the system prompt beside the messages."""
    ask = Ask(number=0, due_s=0.0, messages=TALK)
    encoded = encode(Target(base_url="http://x/v1", model="m", api="messages"), ask)
    body = msgspec.json.decode(encoded.body)
    assert (encoded.path, encoded.headers) == ("/messages", (("anthropic-version", "2023-06-01"),))
    assert body["system"] == "Be brief."
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["max_tokens"] > 0
    assert sent("messages")[1]["max_tokens"] == 8


def test_tgi_is_asked_why_it_ends() -> None:
    """Without `details` its last event would not say."""
    path, body = sent("tgi")
    expected = {"inputs": "hello", "parameters": {"details": True, "max_new_tokens": 8}}
    assert (path, body) == ("/generate_stream", expected)
    assert sent("tgi", stream=False)[0] == "/generate"


def test_embeddings_are_asked_for_without_a_length() -> None:
    """Model and input, as text or ids, whatever the workload says of output."""
    assert sent("embeddings") == ("/embeddings", {"model": "m", "input": "hello"})
    ids = Ask(number=0, due_s=0.0, token_ids=(5, 6))
    assert sent("embeddings", ask=ids)[1]["input"] == [5, 6]


def test_a_conversation_as_one_text_begins_like_the_turn_before() -> None:
    """APIs without messages get a text whose beginning a prefix cache knows from the last turn."""
    before, after = (
        sent("completions", ask=Ask(number=0, due_s=0.0, messages=TALK[:turns]))[1]["prompt"]
        for turns in (2, 4)
    )
    assert after.startswith(before)
    assert all(content in after for _, content in TALK)


@pytest.mark.parametrize("api", ["chat", "responses", "messages", "tgi"])
def test_token_ids_where_nobody_takes_them_are_refused_with_a_way_out(api: Api) -> None:
    """The error names the API, the request, and what to do."""
    with pytest.raises(
        BadBenchPlan, match=f"api {api} takes no token ids, and request 7.*completions, embeddings"
    ):
        sent(api, ask=Ask(number=7, due_s=0.0, token_ids=(1, 2)))


def test_extra_fields_add_merge_and_remove() -> None:
    """A new field comes in, an object is merged into ours, a null takes ours out."""
    extra = {"temperature": 0, "stream_options": {"continuous_usage_stats": False}, "ignore_eos": None}
    _, body = sent(extra=extra)
    assert body["temperature"] == 0
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": False}
    assert "ignore_eos" not in body
    _, plain = sent(extra={"stream_options": {"continuous_usage_stats": None}})
    assert plain["stream_options"] == {"include_usage": True}
    assert sent("tgi", extra={"parameters": {"seed": 1}})[1]["parameters"]["details"] is True
