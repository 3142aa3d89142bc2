"""How a request must look so that another replica goes on with its answer, and when none may."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.core.deployment import ENGINE_TYPES
from inferry.engines.continuation import (
    Continued,
    NotContinued,
    continuation_of,
    continue_chat,
    continue_completion,
)

USER = {"role": "user", "content": "Where is the Eiffel Tower?"}
CHAT = {"model": "m", "messages": [USER], "stream": True, "temperature": 0}
TEXT = {"model": "m", "prompt": "Once upon", "stream": True}
SAID = "It is in"
PARTIAL = {"role": "assistant", "content": SAID}


def continued(engine: str, body: dict[str, Any], text: str = SAID, tokens: int = 3) -> dict[str, Any]:
    found = continue_chat(continuation_of(engine), body, text, tokens)
    assert isinstance(found, Continued)
    return found.body


def refusal(found: Continued | NotContinued) -> str:
    assert isinstance(found, NotContinued)
    return found.because


@pytest.mark.parametrize(
    ("engine", "more"),
    [
        ("vllm", {"continue_final_message": True, "add_generation_prompt": False}),
        ("simulated", {"continue_final_message": True, "add_generation_prompt": False}),
        ("sglang", {"continue_final_message": True}),
        ("llamacpp", {}),
        ("tgi", {}),
    ],
)
def test_each_engine_is_asked_in_its_way(engine: str, more: dict[str, object]) -> None:
    """The partial answer becomes the last message, and the flags are those that the engine wants; all else stays."""
    assert continued(engine, CHAT) == {**CHAT, "messages": [USER, PARTIAL], **more}


def test_every_engine_of_the_file_is_known() -> None:
    """Each has a way, or a reason why not; what runs elsewhere may be anything and is never continued."""
    for engine in ENGINE_TYPES:
        found = continuation_of(engine)
        assert found.level in ("text", "completions", "none")
        assert bool(found.why_not) == (found.level != "text")
    assert continuation_of("openai").level == "none"
    assert continuation_of("nobody") == continuation_of("openai")


@pytest.mark.parametrize("engine", ["tensorrt-llm", "transformers", "ollama", "openai"])
def test_where_a_chat_begins_anew_none_is_continued(engine: str) -> None:
    """A new answer behind half of one is worse than an error."""
    assert refusal(continue_chat(continuation_of(engine), CHAT, SAID, 3))


@pytest.mark.parametrize("engine", ["vllm", "sglang", "llamacpp", "tgi", "tensorrt-llm", "transformers"])
def test_a_completion_goes_on_behind_its_text(engine: str) -> None:
    """The prompt and the text so far, whatever the engine does with chats."""
    for prompt in ("Once upon", ["Once upon"]):
        found = continue_completion(continuation_of(engine), {**TEXT, "prompt": prompt}, " a time", 2)
        assert found == Continued({**TEXT, "prompt": "Once upon a time"})


@pytest.mark.parametrize("engine", ["ollama", "openai"])
def test_where_templates_stand_around_prompts_no_completion_is_continued(engine: str) -> None:
    """Ollama puts the prompt into a message; of remotes nobody knows."""
    assert refusal(continue_completion(continuation_of(engine), TEXT, " a time", 2))


@pytest.mark.parametrize(
    "more", [{"prompt": [1, 2]}, {"prompt": ["a", "b"]}, {"prompt": None}, {"echo": True}, {"suffix": "b"}]
)
def test_completions_that_are_more_than_one_text_are_not(more: dict[str, Any]) -> None:
    """Token ids and several prompts have no text to go on with; echo and suffix stand around it."""
    assert refusal(continue_completion(continuation_of("vllm"), {**TEXT, **more}, " a", 1))


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", "n_predict"])
def test_what_was_generated_is_taken_off_the_length(field: str) -> None:
    """Whichever name the length goes by; nothing is asked for when nothing is left."""
    assert continued("vllm", {**CHAT, field: 10}, tokens=3)[field] == 7
    for spent in (10, 11):
        because = refusal(continue_chat(continuation_of("vllm"), {**CHAT, field: 10}, SAID, spent))
        assert "10" in because
    for endless in (-1, None):
        assert continued("vllm", {**CHAT, field: endless}, tokens=3)[field] == endless


def test_the_least_length_is_taken_off_too() -> None:
    """Down to none."""
    assert continued("vllm", {**CHAT, "min_tokens": 5}, tokens=3)["min_tokens"] == 2
    assert continued("vllm", {**CHAT, "min_tokens": 5}, tokens=9)["min_tokens"] == 0


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"tools": [{"type": "function"}]}, "tool"),
        ({"functions": [{"name": "f"}], "function_call": "auto"}, "tool"),
        ({"response_format": {"type": "json_object"}}, "structured"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "structured"),
        ({"structured_outputs": {"regex": "a+"}}, "structured"),
        ({"guided_json": {}, "guided_regex": "a"}, "structured"),
        ({"grammar": "root ::= x"}, "structured"),
        ({"n": 2}, "choices"),
        ({"best_of": 3}, "choices"),
        ({"use_beam_search": True}, "beam"),
        ({"logprobs": True}, "log-prob"),
        ({"logprobs": 0}, "log-prob"),
        ({"logprobs": 5}, "log-prob"),
        ({"top_logprobs": 2}, "log-prob"),
        ({"prompt_logprobs": 0}, "log-prob"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": -0.5}, "presence_penalty"),
        ({"return_token_ids": True}, "ids"),
    ],
)
def test_what_would_mean_something_else_is_refused(more: dict[str, Any], word: str) -> None:
    """In chats and completions alike, with a reason that says why."""
    for engine in ("vllm", "sglang", "llamacpp"):
        assert word in refusal(continue_chat(continuation_of(engine), {**CHAT, **more}, SAID, 3))
        assert word in refusal(continue_completion(continuation_of(engine), {**TEXT, **more}, " a", 1))


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [], "n": 1, "logprobs": False, "frequency_penalty": 0},
        {"tools": [{"type": "function"}], "tool_choice": "none"},
        {"response_format": {"type": "text"}},
        {"seed": 7, "stop": ["\n"], "top_p": 0.9, "repetition_penalty": 1.1, "user": "x"},
    ],
)
def test_what_changes_nothing_is_continued(more: dict[str, Any]) -> None:
    """Defaults written out, tools that may not be called, and fields that look at the prompt, too."""
    assert continued("vllm", {**CHAT, **more}).items() >= more.items()


def test_a_clients_own_partial_answer_grows() -> None:
    """Where the request already ends with an answer to go on with, the text goes behind that."""
    own = {**CHAT, "messages": [USER, {"role": "assistant", "content": "Well: "}]}
    assert continued("llamacpp", own)["messages"] == [USER, {**PARTIAL, "content": "Well: It is in"}]
    flagged = {**own, "continue_final_message": True, "add_generation_prompt": False}
    assert continued("vllm", flagged)["messages"] == [USER, {**PARTIAL, "content": "Well: It is in"}]
    # Without the flags, vLLM took that message for a finished one and began another.
    assert continued("vllm", own)["messages"] == [USER, {"role": "assistant", "content": "Well: "}, PARTIAL]
    in_parts = {**CHAT, "messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "W"}]}]}
    assert refusal(continue_chat(continuation_of("llamacpp"), in_parts, SAID, 3))


def test_the_clients_request_is_left_as_it_was() -> None:
    """It may have to be sent again."""
    body = {**CHAT, "messages": [dict(USER)], "max_tokens": 10}
    continued("vllm", body)
    assert body == {**CHAT, "messages": [USER], "max_tokens": 10}


def test_white_space_that_is_cut_off_may_come_again() -> None:
    """TGI cuts the end of the partial answer, vLLM's templates may: the caller is told what to skip."""
    for engine, repeated in (("tgi", "\n\n"), ("vllm", "\n\n"), ("llamacpp", ""), ("sglang", "")):
        found = continue_chat(continuation_of(engine), CHAT, "One.\n\n", 3)
        assert isinstance(found, Continued)
        assert found.may_repeat == repeated


@pytest.mark.parametrize("messages", [None, [], "x", [1]])
def test_odd_messages_are_left_alone(messages: object) -> None:
    """They would have been refused before."""
    assert refusal(continue_chat(continuation_of("vllm"), {**CHAT, "messages": messages}, SAID, 3))
