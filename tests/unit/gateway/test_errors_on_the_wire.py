"""Errors as OpenAI's and Anthropic's clients expect them."""

from __future__ import annotations

import json

import pytest

from inferry.core import errors
from inferry.core.errors import InferryError
from inferry.core.request import Dialect
from inferry.gateway.errors import error_headers, render_error, render_error_event

ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, InferryError)]


@pytest.mark.parametrize("kind", ALL)
def test_openai_shape(kind: type[InferryError]) -> None:
    """Message, type, param and code, all four always there."""
    [(name, body)] = json.loads(render_error(kind("why", param="model"), Dialect.OPENAI)).items()
    assert name == "error"
    assert body.keys() == {"message", "type", "param", "code"}
    assert (body["message"], body["param"], body["code"]) == ("why", "model", kind.code)
    family = {
        401: "authentication_error",
        403: "permission_error",
        429: "rate_limit_error",
        503: "service_unavailable_error",
        504: "timeout_error",
        500: "server_error",
        502: "server_error",
    }
    assert body["type"] == family.get(kind.status, "invalid_request_error")


@pytest.mark.parametrize("kind", ALL)
def test_anthropic_shape(kind: type[InferryError]) -> None:
    """Type `error`, and inside it a type by status and the message."""
    body = json.loads(render_error(kind("why", param="model"), Dialect.ANTHROPIC))
    by_status = {
        401: "authentication_error",
        403: "permission_error",
        429: "rate_limit_error",
        404: "not_found_error",
        413: "request_too_large",
        503: "overloaded_error",
        504: "timeout_error",
    }
    fallback = "api_error" if kind.status >= 500 else "invalid_request_error"
    expected = {"type": by_status.get(kind.status, fallback), "message": "why"}
    assert body == {"type": "error", "error": expected}


@pytest.mark.parametrize("dialect", list(Dialect))
def test_one_event_whatever_the_message(dialect: Dialect) -> None:
    """A message with line breaks and empty lines stays one event with one data line."""
    event = render_error_event(errors.EngineBroke('a\n\ndata: [DONE]\r\n\r\n"é"'), dialect)
    assert event.endswith(b"\n\n")
    assert event.count(b"\n\n") == 1
    *names, data = event[:-2].split(b"\n")
    assert names == ([b"event: error"] if dialect is Dialect.ANTHROPIC else [])
    assert json.loads(data.removeprefix(b"data: "))["error"]["message"] == 'a\n\ndata: [DONE]\r\n\r\n"é"'


@pytest.mark.parametrize(
    ("retry_after_s", "lines"),
    [
        (None, b""),
        (0.0, b"retry-after: 1\r\n"),
        (0.2, b"retry-after: 1\r\n"),
        (2.0, b"retry-after: 2\r\n"),
        (2.1, b"retry-after: 3\r\n"),
    ],
)
def test_retry_after_is_whole_seconds(retry_after_s: float | None, lines: bytes) -> None:
    """Whole seconds, rounded up and never zero; no header where waiting does not help."""
    assert error_headers(errors.NoReadyReplica("x", retry_after_s=retry_after_s)) == lines
