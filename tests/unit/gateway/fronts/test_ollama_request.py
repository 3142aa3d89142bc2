"""Ollama's requests in the words of the inner routes: what each field becomes, and what is refused."""

from __future__ import annotations

import json
import sys
import tracemalloc
from types import FrameType
from typing import Any

import msgspec
import pytest

from inferry.core.errors import InvalidRequest
from inferry.core.request import CHAT, COMPLETIONS, EMBEDDINGS
from inferry.gateway.decode import decode_request
from inferry.gateway.fronts.front import Wakes
from inferry.gateway.fronts.ollama_messages import MESSAGES_MAX, OllamaCall, OllamaMessage, chat_messages
from inferry.gateway.fronts.ollama_request import (
    REFUSED,
    REFUSED_OPTIONS,
    Options,
    chat,
    embed,
    generate,
)

from .talk import Hands, Named, ask

HI = [{"role": "user", "content": "hi"}]
# How such files begin, in base64.
PNG = "iVBORw0KGgoAAAANSUhEUgAA"
JPEG = "/9j/4AAQSkZJRgABAQAAAQAB"
CALL = b'{"function":{"name":"f"}}'


def inner(**fields: Any) -> dict[str, Any]:
    """The inner body of /api/chat."""
    return ask(chat, {"model": "chat", "messages": HI, **fields})[0]


def test_a_chat_streams_unless_it_is_told_not_to() -> None:
    """`stream` left out or null is true for Ollama."""
    plain = {"model": "chat", "messages": HI}
    assert inner() == inner(stream=None) == inner(stream=True) == {**plain, "stream": True}
    assert inner(stream=False) == plain
    asked = ask(chat, plain)[1]
    assert (asked.route, asked.writer.stream_type) == (CHAT, b"application/x-ndjson")
    assert decode_request(CHAT, asked.body, "r", ()).stream


def test_latest_is_no_part_of_the_name() -> None:
    """The engine's side gets the name as it is known here."""
    assert inner(model="chat:latest")["model"] == "chat"


def test_options_find_their_words() -> None:
    """Each sampling option is there, by the names that engines have for it."""
    same = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "seed": 4, "presence_penalty": 0.3,
        "frequency_penalty": 0.2, "repeat_last_n": 64, "stop": ["END"],
    }  # fmt: skip
    body = inner(options={**same, "repeat_penalty": 1.1, "num_predict": 7})
    renamed = {"repeat_penalty": 1.1, "repetition_penalty": 1.1, "max_tokens": 7}
    assert body == {**inner(), **same, **renamed}


@pytest.mark.parametrize("num_predict", [-1, -2, 0, None])
def test_no_end_is_no_length(num_predict: int | None) -> None:
    """Ollama's numbers for "without end" and "until the context is full" name no length."""
    assert "max_tokens" not in inner(options={"num_predict": num_predict})


def test_every_option_is_translated_refused_or_a_hint() -> None:
    """None but those about loading and given-up samplers is dropped without a word."""
    hints = {field.name for field in msgspec.structs.fields(Options) if field.default is msgspec.UNSET}
    assert {"num_ctx", "num_gpu", "mirostat"} <= hints
    assert inner(options=dict.fromkeys(hints, 1)) == inner()
    others = {field.name for field in msgspec.structs.fields(Options)} - hints - set(REFUSED_OPTIONS)
    for name in others:
        assert inner(options={name: ["x"] if name == "stop" else 1}) != inner(), name


def test_hints_are_ignored() -> None:
    """How long to keep a model, and whether to cut what is too long, is no affair of a request here."""
    assert inner(keep_alive="5m", truncate=True, shift=False) == inner() == inner(keep_alive=0)


def test_formats() -> None:
    """JSON, or a schema; an empty one asks for nothing, another word is refused."""
    assert inner(format="json")["response_format"] == {"type": "json_object"}
    described = inner(format={"type": "array"})["response_format"]
    assert (described["type"], described["json_schema"]["schema"]) == ("json_schema", {"type": "array"})
    assert inner(format="") == inner(format=None) == inner()
    with pytest.raises(InvalidRequest, match="'format'"):
        inner(format="xml")


def test_thinking() -> None:
    """Yes and no go to the template, a word is an effort."""
    assert inner(think=True)["chat_template_kwargs"] == {"enable_thinking": True}
    assert inner(think=False)["chat_template_kwargs"] == {"enable_thinking": False}
    assert inner(think="high")["reasoning_effort"] == "high"


def test_tools_and_their_results() -> None:
    """Arguments become text, calls without an id get one, and results are given to calls by name and order."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    messages = [
        *HI,
        {
            "role": "assistant",
            "tool_calls": [
                {"function": {"name": "f", "arguments": {"a": 1}}},
                {"function": {"name": "g", "arguments": {}}},
                {"id": "mine", "function": {"name": "f"}},
            ],
        },
        {"role": "tool", "tool_name": "g", "content": "G"},
        {"role": "tool", "content": "F"},
        {"role": "tool", "tool_call_id": "mine", "content": "F2"},
    ]
    body = inner(messages=messages, tools=tools)
    assert body["tools"] == tools
    _, said, first, second, third = body["messages"]
    assert [call["function"]["arguments"] for call in said["tool_calls"]] == ['{"a":1}', "{}", "{}"]
    ids = [call["id"] for call in said["tool_calls"]]
    assert len(set(ids)) == 3
    assert [each["tool_call_id"] for each in (first, second, third)] == [ids[1], ids[0], "mine"]


def test_many_results_find_their_calls() -> None:
    """By name and by order, mixed; each call is taken once, and the work grows with the calls, not with their square."""
    names = ["f", "g"] * 2_000
    calls = [{"function": {"name": name}} for name in names]
    asked_for = ["g"] * 1_000 + [None] * 1_000 + ["f"] * 1_000 + [None] * 1_000
    results = [{"role": "tool", "tool_name": name} for name in asked_for]
    looked = 0

    def count(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal looked
        looked += event == "line"
        return count

    messages = [OllamaMessage("assistant", tool_calls=msgspec.convert(calls, list[OllamaCall]))]
    messages += msgspec.convert(results, list[OllamaMessage])
    before = sys.gettrace()
    sys.settrace(count)
    try:
        said, *answered = chat_messages(messages)
    finally:
        sys.settrace(before)
    ids = [call["id"] for call in said["tool_calls"]]
    of_f, of_g = ids[::2], ids[1::2]
    expected = of_g[:1_000] + of_f[:1_000] + of_f[1_000:] + of_g[1_000:]
    assert [each["tool_call_id"] for each in answered] == expected
    assert looked < 30 * (len(calls) + len(results))


def test_a_result_without_a_call_is_refused() -> None:
    """Engines would guess; the error says which message, and what is missing before it."""
    with pytest.raises(InvalidRequest, match=r"'messages\[1\]' is a tool's result"):
        inner(messages=[*HI, {"role": "tool", "content": "4"}])


def test_images_are_parts() -> None:
    """Base64 becomes data URLs, of the kind that its first letters tell."""
    parts = inner(messages=[{"role": "user", "content": "what?", "images": [PNG, JPEG]}])
    text, png, jpeg = parts["messages"][0]["content"]
    assert text == {"type": "text", "text": "what?"}
    assert png["image_url"]["url"] == "data:image/png;base64," + PNG
    assert jpeg["image_url"]["url"] == "data:image/jpeg;base64," + JPEG


@pytest.mark.parametrize(
    ("name", "message", "many"),
    [
        ("messages", b'{"role":"user"}', MESSAGES_MAX + 1),
        ("images", b'{"role":"user","images":["' + PNG.encode() + b'","' + PNG.encode() + b'"]}', 501),
        ("tool_calls", b'{"role":"assistant","tool_calls":[' + b",".join([CALL] * 11) + b"]}", 910),
    ],
)
def test_more_than_anybody_sends(name: str, message: bytes, many: int) -> None:
    """Small things in great numbers are refused before they are translated; just below the limit they pass."""

    def body(count: int) -> bytes:
        return b'{"model":"chat","messages":[' + b",".join([message] * count) + b"]}"

    assert len(ask(chat, body(many - 1))[0]["messages"]) == many - 1
    with pytest.raises(
        InvalidRequest, match=rf"Too many '{name}': [\d,]+, and the limit is [\d,]+ "
    ) as refused:
        ask(chat, body(many))
    assert refused.value.param == name


def test_more_images_than_anybody_sends() -> None:
    """The same for /api/generate; what is too short for an image is refused at the first one, without all being read."""
    with pytest.raises(InvalidRequest, match="Too many 'images': 1,001"):
        ask(generate, {"model": "chat", "prompt": "x", "images": [PNG] * 1_001})
    letters = b'{"model":"chat","prompt":"x","images":[' + b",".join([b'"a"'] * 300_000) + b"]}"
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match=r"'images\[0\]'"):
            generate(letters, Named(), Hands().moments)
        assert tracemalloc.get_traced_memory()[1] < len(letters)
    finally:
        tracemalloc.stop()


def test_a_thought_of_before_goes_along() -> None:
    """An assistant's `thinking` is not lost."""
    said = inner(messages=[*HI, {"role": "assistant", "content": "ok", "thinking": "hm"}, *HI])["messages"][1]
    assert (said["content"], said["reasoning_content"]) == ("ok", "hm")


# --- /api/generate ------------------------------------------------------------------------------------


def test_generate_is_a_chat_of_one_question() -> None:
    """With the system's words before it, and the images in it."""
    body, asked = ask(generate, {"model": "chat", "prompt": "hi", "system": "Be short.", "images": [PNG]})
    assert asked.route is CHAT
    system, user = body["messages"]
    assert system == {"role": "system", "content": "Be short."}
    assert [part["type"] for part in user["content"]] == ["text", "image_url"]


def test_a_raw_prompt_is_completed() -> None:
    """As it is, and as long as it takes if no length is named."""
    body, asked = ask(generate, {"model": "chat", "prompt": "One,", "raw": True, "stream": False})
    assert asked.route is COMPLETIONS
    assert body == {"model": "chat", "prompt": "One,", "max_tokens": None}
    bounded, _ = ask(
        generate,
        {"model": "chat", "prompt": "x", "raw": True, "options": {"num_predict": 3}, "format": "json"},
    )
    assert (bounded["max_tokens"], bounded["json_schema"]) == (3, {"type": "object"})


@pytest.mark.parametrize(("name", "value"), [("images", [PNG]), ("system", "Be short.")])
def test_a_raw_prompt_has_no_place_for_more(name: str, value: Any) -> None:
    """What would be dropped is refused."""
    with pytest.raises(InvalidRequest) as refused:
        ask(generate, {"model": "chat", "prompt": "x", "raw": True, name: value})
    assert refused.value.param == name


@pytest.mark.parametrize(
    ("translate", "body", "said"),
    [
        (generate, {"model": "chat:latest"}, {"response": ""}),
        (generate, {"model": "chat:latest", "prompt": "", "keep_alive": -1}, {"response": ""}),
        (chat, {"model": "chat:latest", "messages": []}, {"message": {"role": "assistant", "content": ""}}),
        (chat, {"model": "chat:latest"}, {"message": {"role": "assistant", "content": ""}}),
    ],
)
def test_nothing_to_answer_asks_for_the_model(translate: Any, body: object, said: object) -> None:
    """An empty prompt, or no messages: what loads a model in Ollama needs no engine here."""
    asked = translate(json.dumps(body).encode(), Named(), Hands().moments)
    assert isinstance(asked, Wakes)
    assert (asked.route, asked.model) == (CHAT, "chat")
    answer = json.loads(asked.answer)
    assert answer.pop("created_at") == "2026-01-31T12:00:00.250Z"
    assert isinstance(said, dict)
    assert answer == {"model": "chat:latest", **said, "done": True, "done_reason": "load"}


def test_embed() -> None:
    """One text or several; the dimensions go along."""
    body, asked = ask(embed, {"model": "chat", "input": ["a", "b"], "dimensions": 8, "truncate": True})
    assert (asked.route, asked.writer.stream_type) == (EMBEDDINGS, None)
    assert body == {"model": "chat", "input": ["a", "b"], "dimensions": 8}


# --- refusals -----------------------------------------------------------------------------------------

ASKING: dict[str, Any] = {
    "logprobs": True, "top_logprobs": 3, "suffix": "x", "template": "{{.}}", "context": [1], "typical_p": 0.9,
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_refused_by_name(name: str) -> None:
    """Unless it is null, or at a value that asks for nothing."""

    def asked(value: object) -> dict[str, Any]:
        return ask(generate, {"model": "chat", "prompt": "x", name: value})[0]

    with pytest.raises(InvalidRequest, match=rf"'{name}' is not supported here: .*\.$") as refused:
        asked(ASKING[name])
    assert refused.value.param == name
    for neutral in (None, *REFUSED[name][0]):
        assert asked(neutral) == asked(None)


@pytest.mark.parametrize("name", REFUSED_OPTIONS)
def test_options_without_a_counterpart(name: str) -> None:
    """The same for options, by their place."""
    with pytest.raises(InvalidRequest) as refused:
        inner(options={name: ASKING[name]})
    assert refused.value.param == f"options.{name}"
    for neutral in (None, *REFUSED_OPTIONS[name][0]):
        assert inner(options={name: neutral}) == inner()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b" ", "has no body"),
        (b"3", "must be a JSON object"),
        (b'{"model": "chat"', "not valid JSON"),
        (b'{"messages": []}', "Missing required parameter: 'model'. Name one of: chat, other.$"),
        (
            b'{"model": "m", "messages": [{"role": "user"}], "format": {"type": "nope"}}',
            r"'format\.type': \"nope\" is no type of JSON Schema\. Say one of array, boolean",
        ),
        (b'{"model": ""}', "'model'"),
        (b'{"model": "m", "messages": "hi"}', "'messages'"),
        (
            b'{"model": "m", "messages": [{"content": "hi"}]}',
            r"Missing required parameter: 'messages\[0\]\.role'",
        ),
        (
            b'{"model": "m", "messages": [{"role": "pirate"}]}',
            r"'messages\[0\]\.role': 'pirate'\. Say one of 'system', 'user', 'assistant', 'tool'\.$",
        ),
        (
            b'{"model": "m", "messages": [{"role": "user", "contents": "x"}]}',
            "contents'. Did you mean 'content'",
        ),
        (
            b'{"model": "m", "messages": [], "option": {}}',
            "Unknown parameter: 'option'. Did you mean 'options'",
        ),
        (
            b'{"model": "m", "messages": [], "options": {"num_predicts": 3}}',
            r"'options\.num_predicts'. Did you mean 'num_predict'",
        ),
        (b'{"model": "m", "messages": [], "options": {"temperature": -1}}', r"'options\.temperature'"),
        (b'{"model": "m", "messages": [], "stream": 1}', "'stream'"),
    ],
)
def test_malformed_bodies(body: bytes, words: str) -> None:
    """The error says what is wrong, and where."""
    with pytest.raises(InvalidRequest, match=words):
        ask(chat, body)
