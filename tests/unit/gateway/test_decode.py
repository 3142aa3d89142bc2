"""Request bodies: what is accepted, what is told to whom sends nonsense, and what the engine gets."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from inferry.core.errors import InvalidRequest
from inferry.core.request import (
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    EMBEDDINGS,
    MESSAGES,
    RERANK,
    RESPONSES,
    ROUTES,
    TOKENIZE,
    Route,
)
from inferry.gateway.decode import body_for_engine, decode_request
from inferry.gateway.key_case import refuse_other_case

TURN = {"role": "user", "content": [{"type": "text", "text": 'é "quoted" \\ 😀'}]}
VALID: dict[Route, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": [TURN], "stream": True, "max_tokens": 5, "stop": ["x"], "seed": 1.5},
    COMPLETIONS: {
        "model": "m",
        "prompt": ["a", [1, 2]],
        "n": 1,
        "temperature": 0,
        "top_p": 1,
        "stream": False,
    },
    EMBEDDINGS: {"model": "m", "input": ["a", "b"], "dimensions": 8},
    RESPONSES: {"model": "m", "input": "hi", "stream": True, "max_output_tokens": 5},
    MESSAGES: {"model": "m", "messages": [TURN], "max_tokens": 5, "system": "s", "stream": True},
    COUNT_TOKENS: {"model": "m", "messages": [TURN]},
    RERANK: {"model": "m", "query": "q", "documents": ["a", {"text": "b"}]},
    TOKENIZE: {"model": "m", "prompt": "p"},
}
KNOWN = ("chat", "a")
# The field without which a request makes no sense; /tokenize has one of three, see below.
PROMPT_FIELDS = {
    CHAT: "messages",
    COMPLETIONS: "prompt",
    EMBEDDINGS: "input",
    RESPONSES: "input",
    MESSAGES: "messages",
    COUNT_TOKENS: "messages",
    RERANK: "query",
}


def encode(value: object) -> bytes:
    return json.dumps(value).encode()


def error_of(route: Route, body: bytes | dict[str, Any]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode_request(route, body if isinstance(body, bytes) else encode(body), "req-1", KNOWN)
    return caught.value


def test_every_route_has_its_body() -> None:
    """The bodies of this file cover all routes."""
    assert set(VALID) == set(ROUTES.values())


@pytest.mark.parametrize("route", VALID, ids=lambda route: route.path)
def test_valid_body(route: Route) -> None:
    """Model and stream are read, and the client's very bytes are kept."""
    body = encode(VALID[route])
    request = decode_request(route, body, "req-1", KNOWN)
    assert (request.id, request.route, request.model) == ("req-1", route, "m")
    assert request.stream is VALID[route].get("stream", False)
    assert request.body is body
    assert not request.client_wants_usage


@pytest.mark.parametrize("route", VALID, ids=lambda route: route.path)
def test_required_fields(route: Route) -> None:
    """Without the model, or what there is to do, the answer names the field; for the model, also the models."""
    named = error_of(route, {})
    assert (named.message, named.param) == (
        "Missing required parameter: 'model'. Name one of: a, chat.",
        "model",
    )
    if route in PROMPT_FIELDS:
        error = error_of(route, {"model": "m", "max_tokens": 1, "documents": []})
        assert (error.message, error.param) == (
            f"Missing required parameter: '{PROMPT_FIELDS[route]}'.",
            PROMPT_FIELDS[route],
        )


@pytest.mark.parametrize("route", [r for r in VALID if not r.streams], ids=lambda route: route.path)
def test_routes_without_streaming(route: Route) -> None:
    """Asking for a stream where there is none is an error, not a surprise."""
    error = error_of(route, {**VALID[route], "stream": True})
    assert (error.message, error.param) == (
        f"{route.path} has no streaming: leave out 'stream'.",
        "stream",
    )


@pytest.mark.parametrize(
    ("route", "change", "message", "param"),
    [
        (CHAT, {"model": 5}, "expected a string, got 5", "model"),
        (CHAT, {"model": None}, "expected a string, got null", "model"),
        (CHAT, {"messages": "hi"}, 'expected a list, got "hi"', "messages"),
        (CHAT, {"messages": []}, "expected a list of length >= 1, got []", "messages"),
        (CHAT, {"messages": [TURN, "hi"]}, 'expected an object, got "hi"', "messages[1]"),
        (CHAT, {"messages": [{"role": 7}]}, "expected a string, got 7", "messages[0].role"),
        (CHAT, {"stream": "yes"}, 'expected true or false or null, got "yes"', "stream"),
        (CHAT, {"max_tokens": -1}, "expected a whole number >= 0, got -1", "max_tokens"),
        (CHAT, {"max_tokens": 1.5}, "expected a whole number or null, got 1.5", "max_tokens"),
        (
            CHAT,
            {"max_completion_tokens": "5"},
            'expected a whole number or null, got "5"',
            "max_completion_tokens",
        ),
        (CHAT, {"n": 0}, "expected a whole number >= 1, got 0", "n"),
        (CHAT, {"temperature": -0.1}, "expected a number >= 0.0, got -0.1", "temperature"),
        (CHAT, {"top_p": 1.1}, "expected a number <= 1.0, got 1.1", "top_p"),
        (CHAT, {"stream_options": []}, "expected an object or null, got []", "stream_options"),
        (
            CHAT,
            {"stream_options": {"include_usage": 1}},
            "expected true or false or null, got 1",
            "stream_options.include_usage",
        ),
        (MESSAGES, {"max_tokens": 0}, "expected a whole number >= 1, got 0", "max_tokens"),
        (RERANK, {"documents": "a"}, 'expected a list, got "a"', "documents"),
        (
            RESPONSES,
            {"max_output_tokens": True},
            "expected a whole number or null, got true",
            "max_output_tokens",
        ),
        (CHAT, {"model": ["x" * 500]}, f'expected a string, got ["{"x" * 55}...', "model"),
    ],
)
def test_wrong_value(route: Route, change: dict[str, Any], message: str, param: str) -> None:
    """A wrong value is answered with its place, what is expected and what came."""
    error = error_of(route, {**VALID[route], **change})
    assert (error.message, error.param) == (f"Invalid value for '{param}': {message}.", param)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The request has no body: send a JSON object."),
        (b" \r\n", "The request has no body: send a JSON object."),
        (b"{", "The request body is not valid JSON: Input data was truncated."),
        (b"[]", "The request body must be a JSON object: expected an object, got a list."),
        (b"null", "The request body must be a JSON object: expected an object, got null."),
        (b"5", "The request body must be a JSON object: expected an object, got a whole number."),
        (
            b'{"model":"m"} x',
            "The request body is not valid JSON: JSON is malformed: trailing characters (byte 15).",
        ),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "The request body is nested too deeply."),
    ],
)
def test_no_json_object(body: bytes, message: str) -> None:
    """What is no JSON object is told so, without a parameter to blame."""
    error = error_of(TOKENIZE, body)
    assert (error.message, error.param) == (message, None)


@pytest.mark.parametrize(
    "rest",
    [b"", b"}", b',"x":', b',"x":1e999}', b',"x":' + b"9" * 5000 + b"}", b',"x":"\xff"}',
     b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"],
)  # fmt: skip
def test_wrong_value_before_garbage(rest: bytes) -> None:
    """A wrong value is reported also when the rest of the body can't be read."""
    error = error_of(CHAT, b'{"messages":5' + rest)
    assert error.message.startswith("Invalid value for 'messages': expected a list, got ")
    assert error.param == "messages"


def test_mutated_bodies_are_refused_or_passed() -> None:
    """Ten thousand damaged bodies end in a request with bytes for the engine, or in InvalidRequest."""
    rng = random.Random(11)
    bodies = [(route, encode(body)) for route, body in VALID.items()]
    bodies.append(
        (CHAT, b'{"model":"m","messages":[{"role":"u"}],"stream":true,"stream_options":{"x":{"y":[1]}}}')
    )
    tokens = [
        b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"-1", b"1e999", b"0.5", b"\\u", b"\\ud800",
        b"\xff", b"\x00", b"[" * 2000, b'"model":', b'"stream_options":', b'{"include_usage":true}', b"9" * 5000,
    ]  # fmt: skip
    refusals: list[str] = []
    for _ in range(10_000):
        route, body = rng.choice(bodies)
        for _ in range(rng.randint(1, 3)):
            start = rng.randrange(len(body) + 1)
            end = min(len(body), start + rng.choice([0, 1, 1, 2, 8]))
            body = body[:start] + rng.choice([b"", rng.choice(tokens), rng.randbytes(1)]) + body[end:]
        try:
            request = decode_request(route, body, "req-1", KNOWN)
            assert isinstance(body_for_engine(request, "other", ask_usage=True), bytes)
        except InvalidRequest as error:
            refusals.append(error.message)
    assert 1000 < len(refusals) < 9500
    assert [message for message in refusals if not 0 < len(message) < 1000] == []


# --- what the engine gets -----------------------------------------------------------------------------


def sent(body: bytes, served_name: str, ask_usage: bool, route: Route = CHAT) -> bytes:
    return body_for_engine(decode_request(route, body, "req-1", KNOWN), served_name, ask_usage)


def test_untouched_when_nothing_changes() -> None:
    """The very object that came in goes out, whatever it holds."""
    body = b'{ "model":"m","messages":[{"role":"u"}], "x":1e999, "\xff":"\xff" }'
    assert sent(body, "m", ask_usage=True) is body


def test_only_the_model_is_renamed() -> None:
    """Every other field keeps its order and its very bytes."""
    body = b'{"seed":1.50,"model":"m","messages":[{"role":"u","model":"m"}],"x":1e999,"y":"\\u00e9 \xff"}'
    assert sent(body, "org/m", ask_usage=False) == body.replace(
        b'"model":"m","mess', b'"model":"org/m","mess'
    )


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        (b"", b',"stream_options":{"include_usage":true}'),
        (b',"stream_options":null', b',"stream_options":{"include_usage":true}'),
        (b',"stream_options":{}', b',"stream_options":{"include_usage":true}'),
        (b',"stream_options":{"include_usage":false}', b',"stream_options":{"include_usage":true}'),
        (b',"stream_options":{"x":1e999}', b',"stream_options":{"x":1e999,"include_usage":true}'),
        (
            b',"stream_options":{"include_usage":true,"x": 1}',
            b',"stream_options":{"include_usage":true,"x": 1}',
        ),
    ],
)
def test_usage_is_asked_for(given: bytes, asked: bytes) -> None:
    """A stream is asked for its usage; other stream options stay as they were given."""
    body = b'{"model":"m","messages":[{"role":"u"}],"stream":true%b}'
    assert sent(body % given, "m", ask_usage=True) == body % asked


@pytest.mark.parametrize(
    ("route", "stream", "ask_usage"),
    [(CHAT, False, True), (CHAT, True, False), (RESPONSES, True, True), (MESSAGES, True, True)],
)
def test_usage_is_not_asked_for(route: Route, stream: bool, ask_usage: bool) -> None:
    """Not without a stream, not where the engine or the route does not know it."""
    body = encode({**VALID[route], "stream": stream})
    assert sent(body, "m", ask_usage, route) is body


def test_a_client_that_wants_usage_is_remembered() -> None:
    """Only an explicit true counts, so that nobody else gets an event that they did not ask for."""
    wants = {}
    for text in (
        b"null",
        b"{}",
        b'{"include_usage":null}',
        b'{"include_usage":false}',
        b'{"include_usage":true}',
    ):
        body = b'{"model":"m","messages":[{"role":"u"}],"stream":true,"stream_options":%b}' % text
        wants[text] = decode_request(CHAT, body, "r", KNOWN).client_wants_usage
    assert [text for text, wanted in wants.items() if wanted] == [b'{"include_usage":true}']


# --- lengths and choices ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "max_tokens", "param"),
    [
        ({}, None, "max_tokens"),
        ({"max_tokens": 5}, 5, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 900}, 900, "max_completion_tokens"),
        ({"max_tokens": 900, "max_completion_tokens": 5}, 900, "max_tokens"),
        ({"max_tokens": 900, "max_completion_tokens": 0}, 900, "max_tokens"),
        ({"max_tokens": 0, "max_completion_tokens": 0}, 0, "max_tokens"),
        ({"max_tokens": None, "n_predict": 7}, 7, "n_predict"),
        ({"max_tokens": 5, "n_predict": -1}, None, "max_tokens"),
        ({"max_tokens": 5, "max_new_tokens": 8}, 8, "max_new_tokens"),
        ({"max_tokens": 5, "num_predict": 8}, 8, "num_predict"),
        ({"max_tokens": 5, "max_output_tokens": 8}, 8, "max_output_tokens"),
    ],
)
@pytest.mark.parametrize("route", [CHAT, COMPLETIONS, RESPONSES], ids=lambda route: route.path)
def test_the_longest_length_counts(
    route: Route, fields: dict[str, Any], max_tokens: int | None, param: str
) -> None:
    """Whichever field an engine goes by, the answer is not longer than what is read here."""
    body = {**VALID[route], **fields}
    if route is CHAT and "max_tokens" not in fields:
        del body["max_tokens"]
    elif route is RESPONSES and "max_output_tokens" not in fields:
        del body["max_output_tokens"]
    request = decode_request(route, encode(body), "r", KNOWN)
    assert (request.max_tokens, request.max_tokens_param) == (max_tokens, param)


@pytest.mark.parametrize(
    ("given", "bounded"),
    [
        (b"", b',"max_tokens":50'),
        (b',"max_completion_tokens":null', b',"max_completion_tokens":50,"max_tokens":50'),
        (b',"n_predict":-1', b',"n_predict":50,"max_tokens":50'),
        (b',"max_tokens":5,"n_predict":-1', b',"max_tokens":50,"n_predict":50'),
        (b',"max_tokens":0', b',"max_tokens":1'),
        (b',"num_predict":7', b',"num_predict":7'),
    ],
)
def test_an_unbounded_answer_is_bounded(given: bytes, bounded: bytes) -> None:
    """Where a cap stands, no field that says "without end" in some engine's language goes to the engine."""
    body = b'{"model":"m","messages":[{"role":"u"}]%b}'
    request = decode_request(CHAT, body % given, "r", KNOWN)
    got = json.loads(body_for_engine(request, "m", ask_usage=False, length_max=50))
    assert got == json.loads(body % bounded)


@pytest.mark.parametrize(
    ("fields", "choices", "param"),
    [
        ({}, 1, "n"),
        ({"n": 3}, 3, "n"),
        ({"n": 1, "n_cmpl": 4}, 4, "n_cmpl"),
        ({"n": 2, "best_of": 5}, 5, "best_of"),
        ({"prompt": ["a", "b", "c"]}, 3, "prompt"),
        ({"prompt": ["a", "b"], "n": 4}, 8, "n"),
        ({"prompt": [[1, 2], [3]]}, 2, "prompt"),
        ({"prompt": [1, 2, 3]}, 1, "n"),
        ({"prompt": ["a", [1, 2], {"prompt_string": "x"}]}, 3, "prompt"),
        ({"prompt": '[1, "2"]'}, 1, "n"),
    ],
)
def test_choices_over_all_prompts(fields: dict[str, Any], choices: int, param: str) -> None:
    """Every way to ask for more than one answer is counted."""
    body = {"model": "m", "prompt": "p", **fields}
    request = decode_request(COMPLETIONS, encode(body), "r", KNOWN)
    assert (request.choices, request.choices_param) == (choices, param)


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("Model", "model"),
        ("Max_Tokens", "max_tokens"),
        ("MESSAGES", "messages"),
        ("max_to\u212aens", "max_tokens"),
        ("me\u017fsages", "messages"),
    ],
)
def test_fields_in_other_letters_are_refused(key: str, known: str) -> None:
    """What only a decoder that ignores case would read is named, with the right spelling; unknown names pass."""
    with pytest.raises(InvalidRequest, match=f"write '{known}'") as caught:
        refuse_other_case(encode({**VALID[CHAT], key: 5}))
    assert caught.value.param == key.encode("ascii", "backslashreplace").decode()
    refuse_other_case(encode({**VALID[CHAT], "Seed": 1, "chat_template_kwargs": {"Model": 1}}))


def test_a_key_that_is_no_text_is_refused() -> None:
    """A field name that is not UTF-8 can't be sent on in a changed body: that is the client's error."""
    body = b'{"model":"m","messages":[{"role":"u"}],"\xff":1}'
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        sent(body, "other", ask_usage=False)


@pytest.mark.parametrize("field", [b'"content":"x"', b'"prompt":"x"', b'"messages":[]'])
def test_tokenize_needs_a_text(field: bytes) -> None:
    """Each engine's name for the text passes; without any, nothing is sent that would be answered emptily."""
    assert decode_request(TOKENIZE, b'{"model":"chat",%b}' % field, "id", ["chat"]).model == "chat"
    with pytest.raises(InvalidRequest, match="'prompt' or 'messages'"):
        decode_request(TOKENIZE, b'{"model":"chat"}', "id", ["chat"])
