"""The gateway's own description in OpenAPI 3.1, made from what it checks: the structs of decode.py.

Request bodies name the fields that the gateway looks at; whatever else an engine understands may be sent too
(`additionalProperties`). Answers come from engines, so of these only the frame is described.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from inferry import __version__
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
    Dialect,
    Route,
)
from inferry.gateway.decode import (
    _AnthropicMessages,
    _Chat,
    _Completions,
    _CountTokens,
    _Embeddings,
    _Rerank,
    _Responses,
    _Tokenize,
)
from inferry.gateway.fronts.described import DESCRIBED, Described, front_schemas

Json = dict[str, Any]

_BODIES: dict[Route, tuple[type[msgspec.Struct], str]] = {
    CHAT: (_Chat, "Answer a chat."),
    COMPLETIONS: (_Completions, "Continue a text."),
    EMBEDDINGS: (_Embeddings, "Turn texts into vectors."),
    RESPONSES: (_Responses, "Answer, in the form of OpenAI's Responses API."),
    MESSAGES: (_AnthropicMessages, "Answer a chat, in Anthropic's form."),
    COUNT_TOKENS: (_CountTokens, "Count a chat's tokens, in Anthropic's form."),
    RERANK: (_Rerank, "Sort documents by how well they fit a query."),
    TOKENIZE: (_Tokenize, "Turn a text into the model's tokens."),
}
_REFUSALS = {
    "400": "The body is no JSON object, or a field is missing or has a wrong type or value.",
    "401": "No API key, or one that is not known, disabled or expired.",
    "403": "The key may not call this deployment or route, or a page of another site asked.",
    "404": "No such model, or its engine does not have this route.",
    "408": "The request did not come in completely in time.",
    "413": "The body is longer than gateway.body_max_bytes.",
    "429": "A limit or a budget is used up, or the queue is full: see Retry-After.",
    "500": "A fault of the gateway's own.",
    "502": "The engine could not be reached, or broke off.",
    "503": "No replica takes requests now: see Retry-After.",
    "504": "The engine was silent for too long.",
}
_KEY_REFUSALS = ("401", "403")


def openapi_document(*, keys: bool, models: Sequence[str] = ()) -> bytes:
    """The document as JSON. `keys`: the gateway asks for API keys. `models`: names to list, where nobody minds."""
    security: list[Json] = [{"bearer": []}, {"x-api-key": []}] if keys else []
    schemas = _request_schemas(models) | front_schemas(models) | _ANSWERS
    paths: Json = {route.path: {"post": _inference(route, security)} for route in ROUTES.values()}
    paths |= _pages(security)
    for each in DESCRIBED:
        method = "get" if each.body is None else "post"
        paths[each.path] = {**paths.get(each.path, {}), method: _front(each, security)}
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Inferry",
            "version": __version__,
            "description": "One address for all deployments: `model` names the one that answers. Other methods on "
            "these paths get 405 with `Allow`, other paths 404. An `x-request-id` of the client's own (up to 128 "
            "letters, digits and . _ : -) is kept; every answer on an inference route carries one. Whole numbers are "
            "written without a fraction: 1, not 1.0.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }
    return msgspec.json.encode(document)


# --- requests -----------------------------------------------------------------------------------------


def _request_schemas(models: Sequence[str]) -> Json:
    kinds = [kind for kind, _ in _BODIES.values()]
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schemas: Json = msgspec.json.decode(_without_underscores(msgspec.json.encode(components)))
    for route, (kind, _) in _BODIES.items():
        schema = schemas[_public(kind)]
        properties = schema["properties"]
        if models:
            properties["model"]["enum"] = list(models)
        if not route.streams:
            properties["stream"] = {"enum": [False, None], "default": None}
    # One of them must be there (llama.cpp, vLLM with a text, vLLM with a chat).
    schemas[_public(_Tokenize)]["anyOf"] = [
        {"required": [name]} for name in ("content", "prompt", "messages")
    ]
    return schemas


def _without_underscores(text: bytes) -> bytes:
    """Struct names begin with an underscore because no other file makes such structs; readers need not know."""
    return re.sub(rb'(["/])_(\w+)"', rb'\1\2"', text)


def _public(kind: type) -> str:
    return kind.__name__.removeprefix("_")


# --- operations ---------------------------------------------------------------------------------------


def _inference(route: Route, security: list[Json]) -> Json:
    kind, summary = _BODIES[route]
    answer: Json = {"application/json": {"schema": {"type": "object"}}}
    if route.streams:
        answer["text/event-stream"] = {}
    error = "AnthropicError" if route.dialect is Dialect.ANTHROPIC else "Error"
    return {
        "operationId": _operation_id(route.path),
        "summary": summary,
        "security": security,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref(_public(kind))}},
        },
        "responses": {
            "200": {"description": "The engine's answer.", "headers": _HEADERS, "content": answer},
            **_refusals(error, list(_REFUSALS)),
            "default": {"description": "An error that the engine itself answered, as it wrote it."},
        },
    }


def _front(each: Described, security: list[Json]) -> Json:
    """An operation of another server's API."""
    words = _operation_id(each.path)
    operation: Json = {
        "operationId": words if each.path != "/" else f"{words}_generate",
        "summary": each.summary,
        "security": security,
        "responses": {
            "200": {"description": each.summary, "content": each.answers},
            **_refusals(
                each.error, list(_REFUSALS) if each.asks_engine else ["400", "401", "403", "404", "413"]
            ),
        },
    }
    if each.asks_engine:
        operation["responses"]["200"]["headers"] = _HEADERS
        operation["responses"]["default"] = {"description": "An error of the engine's, in the same form."}
    if each.body is not None:
        content = {"application/json": {"schema": _ref(_public(each.body))}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _pages(security: list[Json]) -> Json:
    name = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    models = _page("/v1/models", "All names that `model` may have.", {"200": _ref("ModelList")}, security)
    one = _page("/v1/models/{model}", "One of them.", {"200": _ref("Model")}, security)
    one["parameters"] = [name]
    one["responses"] |= _refusals("Error", ["404"])
    optional = [{}, *security] if security else []  # on this machine, metrics are open
    health = {"200": _ref("Health"), "503": _ref("Health")}
    return {
        "/v1/models": {"get": models},
        "/v1/models/{model}": {"get": one},
        "/health": {"get": _page("/health", "Whether requests are taken: 503 while down or draining.", health)},
        "/metrics": {"get": _page("/metrics", "Metrics, for Prometheus.", {"200": {"type": "string"}}, optional, "text/plain")},
        "/": {"get": _page("/", "What this is.", {"200": _ref("About")})},
        "/openapi.json": {"get": _page("/openapi.json", "This document.", {"200": {"type": "object"}})},
    }  # fmt: skip


def _page(
    path: str, summary: str, answers: Json, security: Sequence[Json] = (), kind: str = "application/json"
) -> Json:
    responses = {
        status: {"description": summary, "content": {kind: {"schema": schema}}}
        for status, schema in answers.items()
    }
    refused = _refusals("Error", _KEY_REFUSALS if security else ["403"])
    return {
        "operationId": _operation_id(path),
        "summary": summary,
        "security": list(security),
        "responses": responses | refused,
    }


def _refusals(schema: str, statuses: Sequence[str]) -> Json:
    content = {"application/json": {"schema": _ref(schema)}}
    return {status: {"description": _REFUSALS[status], "content": content} for status in statuses}


def _operation_id(path: str) -> str:
    return "_".join(re.findall(r"\w+", path)) or "root"


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


# --- answers ------------------------------------------------------------------------------------------


def _object(required: str, **properties: Json) -> Json:
    return {"type": "object", "required": required.split(), "properties": properties}


_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_STATUS: Json = {"enum": ["ready", "degraded", "down", "draining"]}
_HEADERS: Json = {
    "x-request-id": {"description": "The request's id.", "schema": _TEXT},
    "x-inferry-replica": {"description": "Which replica answered.", "schema": _TEXT},
}
_ANSWERS: Json = {
    "Error": _object(
        "error",
        error=_object(
            "message type param code",
            message=_TEXT,
            type=_TEXT,
            param={"type": ["string", "null"]},
            code={"type": ["string", "null"]},
        ),
    ),
    "AnthropicError": _object(
        "type error", type={"const": "error"}, error=_object("type message", type=_TEXT, message=_TEXT)
    ),
    "Model": _object(
        "id object created owned_by", id=_TEXT, object={"const": "model"}, created=_COUNT, owned_by=_TEXT
    ),
    "ModelList": _object(
        "object data", object={"const": "list"}, data={"type": "array", "items": _ref("Model")}
    ),
    "Health": _object(
        "status deployments",
        status=_STATUS,
        deployments={
            "type": "object",
            "additionalProperties": _object(
                "status replicas ready", status=_STATUS, replicas=_COUNT, ready=_COUNT
            ),
        },
    ),
    "About": _object(
        "name api",
        name=_TEXT,
        models={"type": "array", "items": _TEXT},  # where no keys are asked for
        api={"type": "array", "items": _TEXT},
    ),
}
