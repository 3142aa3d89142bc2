"""Engines' errors reach clients in the shape of the route."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inferry.core.request import Dialect
from inferry.gateway.engine_error_body import HELD_BYTES_MAX, ErrorOut, in_shape


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        # TensorRT-LLM, SGLang
        (
            {"object": "error", "message": "too long", "type": "BadRequestError", "param": None, "code": 400},
            {"message": "too long", "type": "BadRequestError", "param": None, "code": 400},
        ),
        # TGI
        (
            {"error": "too long", "error_type": "validation"},
            {"message": "too long", "type": "validation", "param": None, "code": None},
        ),
        # FastAPI
        (
            {"detail": [{"loc": ["body"], "msg": "missing"}]},
            {
                "message": '[{"loc":["body"],"msg":"missing"}]',
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            },
        ),
        (
            {"message": "no"},
            {"message": "no", "type": "invalid_request_error", "param": None, "code": None},
        ),
    ],
)
def test_flat_errors_get_their_object(body: dict[str, Any], wanted: dict[str, Any]) -> None:
    """The engine's words and codes, below `error`."""
    assert json.loads(in_shape(json.dumps(body).encode(), 400, Dialect.OPENAI)) == {"error": wanted}


def test_anthropics_clients_get_theirs() -> None:
    """`type: error`, and the error below."""
    shaped = json.loads(in_shape(b'{"message":"no","type":"X"}', 500, Dialect.ANTHROPIC))
    assert shaped == {"type": "error", "error": {"type": "X", "message": "no"}}


@pytest.mark.parametrize(
    "body",
    [
        b'{ "error": {"message": "as it is", "type": "t"} }',
        b'{"type":"error","error":{"type":"t","message":"m"}}',
        b"<html>502</html>",
        b"",
        b"[]",
        b'{"ok": false}',
        b'{"message": 5}',
        b'{"message": "' + b"x" * HELD_BYTES_MAX + b'"}',
        b"[" * 100_000,
    ],
    ids=["shaped", "anthropic", "html", "empty", "list", "nothing", "odd", "long", "deep"],
)
def test_all_else_goes_on_as_it_came(body: bytes) -> None:
    """Byte for byte."""
    assert in_shape(body, 502, Dialect.OPENAI) == body


class Heard:
    def __init__(self) -> None:
        self.pieces: list[tuple[bytes, bool]] = []

    def forward(self, data: bytes, complete: bool) -> None:
        self.pieces.append((data, complete))

    def forward_whole(self, body: bytes, lines: bytes) -> None:
        assert not lines
        self.pieces.append((body, True))


def test_an_error_in_pieces_is_one() -> None:
    """However the network cuts it."""
    heard = Heard()
    out = ErrorOut(heard, 400, Dialect.OPENAI)
    for at, byte in enumerate(body := b'{"message":"no"}'):
        out.feed(bytes([byte]), at == len(body) - 1)
    ((shaped, complete),) = heard.pieces
    assert complete
    assert json.loads(shaped)["error"]["message"] == "no"


def test_what_is_too_long_is_not_held() -> None:
    """A body without end goes on as it comes."""
    heard = Heard()
    out = ErrorOut(heard, 500, Dialect.OPENAI)
    piece = b"x" * 40_000
    for last in (False, False, False, True):
        out.feed(piece, last)
    assert heard.pieces == [(piece * 2, False), (piece, False), (piece, True)]
