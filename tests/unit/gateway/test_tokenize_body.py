"""/tokenize in the words of either engine."""

from __future__ import annotations

import json

import pytest

from inferry.core.errors import InvalidRequest
from inferry.core.request import CHAT, TOKENIZE
from inferry.gateway.decode import body_for_engine, decode_request
from inferry.gateway.tokenize_body import with_text_in


@pytest.mark.parametrize(("field", "other"), [("content", "prompt"), ("prompt", "content")])
def test_the_text_moves_to_the_engines_field(field: str, other: str) -> None:
    """All else stays where and as it is, unknown fields and odd numbers too."""
    body = b'{"model":"m","%b":"one \\u00e9","n":1.0,"add_special":true}' % other.encode()
    assert with_text_in(field, body) == body.replace(other.encode(), field.encode())


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("content", b'{ "model": "m", "content": "a", "prompt": "b" }'),
        ("prompt", b'{"model":"m","prompt":"b"}'),
        ("prompt", b'{"model":"m","messages":[]}'),
    ],
)
def test_what_fits_is_left_alone(field: str, body: bytes) -> None:
    """The client's very bytes, where the engine's own field is there, or a chat for an engine that knows chats."""
    assert with_text_in(field, body) is body


def test_a_chat_for_an_engine_of_texts_is_refused() -> None:
    """llama.cpp would answer no tokens at all."""
    with pytest.raises(InvalidRequest, match="send 'content' or 'prompt'"):
        with_text_in("content", b'{"model":"m","messages":[{"role":"user","content":"a"}]}')


def test_a_key_that_is_no_text_is_refused() -> None:
    """What decoding passed over is an error of the client's here, not a fault of ours."""
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        with_text_in("content", b'{"model":"m","prompt":"a","\xff":1}')


def test_model_and_text_change_together() -> None:
    """An engine with another name for the model gets both; one that says nothing of its field gets the client's."""
    request = decode_request(TOKENIZE, b'{"model":"chat","prompt":"a"}', "r", [])
    changed = body_for_engine(request, "org/m", ask_usage=False, text_field="content")
    assert json.loads(changed) == {"model": "org/m", "content": "a"}
    assert body_for_engine(request, "chat", ask_usage=False) == request.body


def test_other_routes_keep_their_prompt() -> None:
    """Only /tokenize is meant."""
    request = decode_request(CHAT, b'{"model":"m","messages":[{"role":"user"}],"prompt":"x"}', "r", [])
    assert body_for_engine(request, "m", ask_usage=False, text_field="content") is request.body
