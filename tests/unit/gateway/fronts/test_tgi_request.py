"""TGI's requests in the words of /v1/completions: what each parameter becomes, and what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from inferry.core.errors import InvalidRequest
from inferry.core.request import COMPLETIONS
from inferry.gateway.decode import decode_request
from inferry.gateway.fronts.front import Translate
from inferry.gateway.fronts.tgi_request import (
    REFUSED,
    GenerateParameters,
    compat_generate,
    generate,
    generate_stream,
)

from .talk import Named, ask


def inner(parameters: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    """The inner body of /generate."""
    given = {} if parameters is None else {"parameters": parameters}
    return ask(generate, {"inputs": "Hi", **given, **more})[0]


def test_a_request_without_parameters() -> None:
    """It samples, as TGI does then, and has at most TGI's 100 tokens."""
    assert inner(None) == {"model": "chat", "prompt": "Hi", "temperature": 1.0, "max_tokens": 100}
    assert inner({}) == {"model": "chat", "prompt": "Hi", "temperature": 0.0, "max_tokens": 100}


def test_every_parameter_finds_its_word() -> None:
    """All that has a counterpart is there, by the names that engines have for it."""
    given = {
        "do_sample": True, "temperature": 0.5, "top_k": 3, "top_p": 0.9, "repetition_penalty": 1.1,
        "frequency_penalty": 0.2, "max_new_tokens": 7, "stop": ["END"], "seed": 4,
    }  # fmt: skip
    assert inner(given) == {
        "model": "chat", "prompt": "Hi", "temperature": 0.5, "top_k": 3, "top_p": 0.9, "repetition_penalty": 1.1,
        "repeat_penalty": 1.1, "frequency_penalty": 0.2, "max_tokens": 7, "stop": ["END"], "seed": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "temperature"),
    [
        ({"do_sample": True}, 1.0),
        ({"temperature": 0.3}, 0.3),
        ({"top_k": 5}, 1.0),
        ({"top_p": 0.5}, 1.0),
        ({"do_sample": False}, 0.0),
        ({"temperature": 1.0, "top_p": 1.0}, 0.0),
        ({"do_sample": False, "temperature": 0.7}, 0.7),
    ],
)
def test_when_it_samples(parameters: dict[str, Any], temperature: float) -> None:
    """If it is told to, or if something that only matters then is not neutral; else it is greedy."""
    assert inner(parameters)["temperature"] == temperature


def test_no_length_is_as_many_as_fit() -> None:
    """`max_new_tokens: null` stays null: left out would be 16 tokens at some engines."""
    assert inner({"max_new_tokens": None})["max_tokens"] is None


def test_what_the_paths_differ_in() -> None:
    """/generate never streams, /generate_stream always does, / does if it is asked to."""
    cases: list[tuple[Translate, dict[str, Any], bool]] = [
        (generate, {"stream": True}, False),
        (generate_stream, {}, True),
        (generate_stream, {"stream": False}, True),
        (compat_generate, {"stream": True}, True),
        (compat_generate, {"stream": None}, False),
    ]
    for translate, given, streams in cases:
        body, asked = ask(translate, {"inputs": "Hi", **given})
        assert body.get("stream", False) is streams
        assert asked.writer.stream_type == (b"text/event-stream" if streams else None)
        assert asked.route is COMPLETIONS
        assert decode_request(COMPLETIONS, asked.body, "r", ()).stream is streams


def test_who_says_which_model() -> None:
    """`model`, then `adapter_id`, else what the caller's header or the gateway chooses."""
    assert inner({"adapter_id": "b"}, model="a")["model"] == "a"
    assert inner({"adapter_id": "b"})["model"] == "b"
    assert inner({})["model"] == "chat"
    with pytest.raises(InvalidRequest, match="Several"):
        ask(generate, {"inputs": "Hi"}, Named(None))


@pytest.mark.parametrize("value", [{"type": "object"}, '{"type": "object"}'])
def test_grammars_are_schemas(value: Any) -> None:
    """A JSON schema, as an object or a text, becomes both names that engines know."""
    body = inner({"grammar": {"type": "json", "value": value}})
    assert body["json_schema"] == {"type": "object"}
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    named = inner({"grammar": {"type": "json_schema", "value": {"name": "x", "schema": {"type": "array"}}}})
    assert named["json_schema"] == {"type": "array"}


@pytest.mark.parametrize(
    ("grammar", "named"),
    [
        ({"type": "regex", "value": "a+"}, "parameters.grammar"),
        ({"type": "json", "value": "no JSON"}, "parameters.grammar.value"),
        ({"type": "json", "value": [1]}, "parameters.grammar.value"),
        ({"type": "json", "value": "[" * 100_000}, "parameters.grammar.value"),
        ({"type": "bnf", "value": ""}, "parameters.grammar.type"),
        ({"value": {}}, "parameters.grammar.type"),
        ({"type": "json", "value": "3"}, "parameters.grammar.value"),
        ({"type": "json_schema", "value": {"schema": "x"}}, "parameters.grammar.value"),
        ({"type": "json", "value": {"type": "nope"}}, "parameters.grammar.value.type"),
        ({"type": "json", "value": '{"type": ["object", 3]}'}, "parameters.grammar.value.type"),
        ({"type": "json_schema", "value": {"schema": {"type": {}}}}, "parameters.grammar.value.type"),
    ],
)
def test_other_grammars_are_refused(grammar: Any, named: str) -> None:
    """By the name of the field that is wrong."""
    with pytest.raises(InvalidRequest) as refused:
        inner({"grammar": grammar})
    assert refused.value.param == named


ASKING: dict[str, Any] = {
    "typical_p": 0.9, "truncate": 10, "best_of": 2, "watermark": True, "decoder_input_details": True, "top_n_tokens": 3,
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_refused_by_name(name: str) -> None:
    """Unless it is null, or at a value that asks for nothing."""
    with pytest.raises(
        InvalidRequest, match=rf"'parameters\.{name}' is not supported here: .*\.$"
    ) as refused:
        inner({name: ASKING[name]})
    assert refused.value.param == f"parameters.{name}"
    for neutral in (None, *REFUSED[name][0]):
        assert inner({name: neutral}) == inner({})


def test_every_parameter_is_translated_or_refused() -> None:
    """None of those that the decoder knows is dropped without a word."""
    plain = inner({})
    given: dict[str, Any] = {
        "do_sample": True, "temperature": 0.5, "top_k": 3, "top_p": 0.9, "repetition_penalty": 1.1,
        "frequency_penalty": 0.2, "max_new_tokens": 7, "stop": ["END"], "seed": 4, "adapter_id": "b",
        "grammar": {"type": "json", "value": {}},
    }  # fmt: skip
    for field in msgspec.structs.fields(GenerateParameters):
        if field.name in REFUSED:
            continue
        if field.name in ("return_full_text", "details"):  # about the answer: see test_tgi_answer.py
            continue
        assert inner({field.name: given[field.name]}) != plain, field.name


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "has no body"),
        (b"[]", "must be a JSON object"),
        (b"{", "not valid JSON"),
        (b'{"inputs": "\xff"}', "not valid JSON"),
        (b'{"inputs":' + b"[" * 100_000, "'inputs': expected a string, got a list"),
        (b"{}", "Missing required parameter: 'inputs'"),
        (b'{"inputs": ""}', "'inputs'"),
        (b'{"inputs": 3}', "'inputs': expected a string, got 3"),
        (b'{"inputs": "x", "parameters": []}', "'parameters'"),
        (b'{"inputs": "x", "parameters": {"temperature": 0}}', r"'parameters\.temperature'"),
        (b'{"inputs": "x", "parameters": {"max_new_tokens": 0}}', r"'parameters\.max_new_tokens'"),
        (b'{"inputs": "x", "parameters": {"top_p": 1.5}}', r"'parameters\.top_p'"),
        (b'{"inputs": "x", "parameters": {"seed": -1}}', r"'parameters\.seed'"),
        (
            b'{"inputs": "x", "parameters": {"max_token": 3}}',
            r"'parameters\.max_token'. Did you mean 'max_new_tokens'",
        ),
        (
            b'{"inputs": "x", "parameters": {"grammar": {"type": "bnf", "value": 1}}}',
            r"'parameters\.grammar\.type': 'bnf'. Say one of 'json', 'json_schema', 'regex'\.$",
        ),
        (b'{"inputs": "x", "input": "y"}', "Unknown parameter: 'input'. Did you mean 'inputs'"),
    ],
)
def test_malformed_bodies(body: bytes, words: str) -> None:
    """The error says what is wrong, and where."""
    with pytest.raises(InvalidRequest, match=words):
        ask(generate, body)


def test_hints_for_the_hosted_api_are_ignored() -> None:
    """`options` is none of TGI's parameters; its clients send it all the same."""
    assert inner({}, options={"use_cache": False}) == inner({})
