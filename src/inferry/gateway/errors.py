"""Renders core errors for the wire: OpenAI's and Anthropic's error objects, whole or as a stream's event."""

from __future__ import annotations

import math

import msgspec

from inferry.core.errors import EngineError, InferryError
from inferry.core.request import Dialect

_encode = msgspec.json.encode

# https://platform.openai.com/docs/guides/error-codes and its OpenAPI file: `type` says the family, `code`
# the exact reason.
_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}
# https://docs.anthropic.com/en/api/errors
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


FAILED_RETRY_S = 2.0
"""After an engine's failure: about as long as a restart takes to begin."""


def render_error(error: InferryError, dialect: Dialect) -> bytes:
    """The JSON body of an error answer."""
    return _encode(_payload(error, dialect))


def render_error_event(error: InferryError, dialect: Dialect) -> bytes:
    """The same as one server-sent event, for a stream that has begun."""
    name = b"event: error\n" if dialect is Dialect.ANTHROPIC else b""
    return name + b"data: " + _encode(_payload(error, dialect)) + b"\n\n"


def error_headers(error: InferryError) -> bytes:
    """Header lines beyond content type and length: `retry-after` where waiting helps."""
    if error.retry_after_s is None:
        return b""
    return b"retry-after: %d\r\n" % max(1, math.ceil(error.retry_after_s))


def of_replica(error: EngineError, replica_id: str, because: str, answer_begun: bool) -> EngineError:
    """What a client is told of a replica that failed its request for good."""
    return type(error)(
        f"Replica {replica_id} failed: {error.message}; {because}.",
        retry_after_s=None if answer_begun else FAILED_RETRY_S,
    )


def _payload(error: InferryError, dialect: Dialect) -> dict[str, object]:
    if dialect is Dialect.ANTHROPIC:
        fallback = "invalid_request_error" if error.status < 500 else "api_error"
        kind = _ANTHROPIC_TYPES.get(error.status, fallback)
        return {"type": "error", "error": {"type": kind, "message": error.message}}
    fallback = "invalid_request_error" if error.status < 500 else "server_error"
    return {
        "error": {
            "message": error.message,
            "type": _OPENAI_TYPES.get(error.status, fallback),
            "param": error.param,
            "code": error.code,
        }
    }
