"""Request bodies, as the simulated engine reads them."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.testing.simulated_requests import BadRequest, RequestReader, read_object
from inferry.testing.simulated_words import BEGIN_ROLE, END_OF_MESSAGE, TokenTable

USER = {"role": "user", "content": "Hello there"}


def reader(context_tokens: int = 100) -> RequestReader:
    return RequestReader("m", context_tokens, TokenTable())


def test_a_conversation_becomes_one_prompt() -> None:
    """Roles are special tokens; a continued answer ends in its own words, an opened one in the role."""
    table = TokenTable()
    hello, partly = table.encode("Hello there").tolist(), table.encode("I am").tolist()
    begin = [BEGIN_ROLE["user"], *hello, END_OF_MESSAGE, BEGIN_ROLE["assistant"]]
    body: dict[str, Any] = {"messages": [USER]}
    assert reader().chat(body).prompts[0].tolist() == begin
    body["messages"] = [USER, {"role": "assistant", "content": [{"type": "text", "text": "I am"}]}]
    body |= {"continue_final_message": True, "add_generation_prompt": False}
    assert reader().chat(body).prompts[0].tolist() == begin + partly


def test_a_final_assistant_message_is_continued_at_the_messages_route() -> None:
    """Anthropic's prefill and vLLM's continue_final_message lead to the same prompt."""
    messages = [USER, {"role": "assistant", "content": "I am"}]
    ask = reader().messages({"messages": messages, "max_tokens": 5})
    body = {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    assert ask.prompts == reader().chat(body).prompts


def test_limits_are_read() -> None:
    """The newer name of the limit wins; without one the rest of the context is the limit; completions have 16."""
    body = {"messages": [USER], "max_tokens": 7, "max_completion_tokens": 5, "stop": "x", "min_tokens": 2}
    limits = reader().chat(body).limits
    assert (limits.max_tokens, limits.stop, limits.min_tokens) == (5, ("x",), 2)
    assert reader(50).chat({"messages": [USER]}).limits.max_tokens == 45
    assert reader().completion({"prompt": "Hi"}).limits.max_tokens == 16


def test_prompts_in_every_form() -> None:
    """A text, its ids, several texts, several lists of ids: the same ids."""
    ids = TokenTable().encode("Hello there")
    for form in ("Hello there", ids.tolist()):
        assert reader().completion({"prompt": form}).prompts == (ids,)
        assert reader().completion({"prompt": [form, form]}).prompts == (ids, ids)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "messages: Field required"),
        ({"messages": []}, "messages: Field required"),
        ({"messages": ["hi"]}, "messages: Field required"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "Unexpected message role: 'robot'"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "Unexpected message role"),
        ({"messages": [{"role": "user", "content": 3}]}, "content must be"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "text only"),
        ({"messages": [USER], "max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"messages": [USER], "max_tokens": "5"}, "valid integer"),
        ({"messages": [USER], "max_tokens": True}, "valid integer"),
        ({"messages": [USER], "stream": "yes"}, "valid boolean"),
        ({"messages": [USER], "n": 9}, "n must be at most 8"),
        ({"messages": [USER], "stop": ""}, "stop must be"),
        ({"messages": [USER], "stop": 5}, "stop must be"),
        ({"messages": [USER], "stream_options": {"include_usage": True}}, "when `stream=True`"),
        ({"messages": [USER], "stream": True, "stream_options": [1]}, "stream_options"),
        ({"messages": [USER], "seed": 2**70}, "seed must be"),
        ({"messages": [USER], "continue_final_message": True}, "Cannot set both"),
        (
            {"messages": [USER], "continue_final_message": True, "add_generation_prompt": False},
            "final message",
        ),
    ],
)
def test_a_bad_chat_request_is_refused_in_words(body: dict[str, Any], words: str) -> None:
    """Each mistake is a 400 that says what is wrong; none is a crash or a guess."""
    with pytest.raises(BadRequest, match=words) as caught:
        reader().chat(body)
    assert caught.value.status == 400


@pytest.mark.parametrize("prompt", [None, [], [[]], 5, [1.5], [-1], [True], {"text": "x"}])
def test_a_bad_prompt_is_refused(prompt: object) -> None:
    """What is neither text nor ids is a 400."""
    with pytest.raises(BadRequest):
        reader().completion({"prompt": prompt})


def test_no_room_in_the_context_is_said_in_vllms_words() -> None:
    """Clients recognise the overflow by these words, and find the sizes in them."""
    words = "maximum context length is 8 tokens. However, you requested 4 output tokens and your prompt contains 5"
    with pytest.raises(BadRequest, match=words) as caught:
        reader(8).chat({"messages": [USER], "max_tokens": 4})
    assert (caught.value.status, caught.value.param) == (400, "input_tokens")
    assert reader(8).chat({"messages": [USER], "max_tokens": 3}).limits.max_tokens == 3


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"text"'])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    """Broken or foreign JSON is a 400, whatever its bytes."""
    with pytest.raises(BadRequest):
        read_object(body)
