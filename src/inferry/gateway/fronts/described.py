"""TGI's and Ollama's paths for the gateway's OpenAPI document, made from the structs that decode their requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from inferry.gateway.fronts.ollama_request import (
    REFUSED as OLLAMA_REFUSED,
)
from inferry.gateway.fronts.ollama_request import (
    REFUSED_OPTIONS,
    ChatRequest,
    EmbedRequest,
    GenerateRequest,
)
from inferry.gateway.fronts.pages import ShowRequest
from inferry.gateway.fronts.tgi_request import REFUSED as TGI_REFUSED
from inferry.gateway.fronts.tgi_request import Generate

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Described:
    """One operation of another server's API."""

    path: str
    summary: str
    body: type[msgspec.Struct] | None
    """Of a POST; None: it is a GET."""
    answers: Json
    """Content type: schema."""
    error: str
    """The name of its errors' schema."""
    asks_engine: bool = True


_OBJECT: Json = {"type": "object"}
_JSON: Json = {"application/json": {"schema": _OBJECT}}
_EVENTS: Json = {"text/event-stream": {}}
_LINES: Json = {"application/x-ndjson": {}}
_TGI, _OLLAMA = "TgiError", "OllamaError"
_PAIRS = (
    "A message of the role `tool` is the result of a call in a message before it. With `raw`, there is no place for "
    "`system` and `images`."
)
_LIST: Json = {
    "application/json": {
        "schema": {"type": "object", "required": ["models"], "properties": {"models": {"type": "array"}}}
    }
}

DESCRIBED: Sequence[Described] = (
    Described("/generate", "Continue a text, in TGI's form.", Generate, _JSON, _TGI),
    Described("/generate_stream", "The same, as a stream of events.", Generate, _EVENTS, _TGI),
    Described(
        "/",
        "One or the other of these, as `stream` says; a whole answer comes in a list.",
        Generate,
        {"application/json": {"schema": {"type": "array", "items": _OBJECT}}} | _EVENTS,
        _TGI,
    ),
    Described("/info", "The model, in TGI's form.", None, _JSON, _TGI, asks_engine=False),
    Described("/api/chat", "Answer a chat, in Ollama's form.", ChatRequest, _JSON | _LINES, _OLLAMA),
    Described(
        "/api/generate", "Answer a prompt, in Ollama's form.", GenerateRequest, _JSON | _LINES, _OLLAMA
    ),
    Described("/api/embed", "Turn texts into vectors, in Ollama's form.", EmbedRequest, _JSON, _OLLAMA),
    Described("/api/tags", "All names that `model` may have.", None, _LIST, _OLLAMA, asks_engine=False),
    Described("/api/ps", "Those that have a ready replica.", None, _LIST, _OLLAMA, asks_engine=False),
    Described("/api/version", "Whose API this follows.", None, _JSON, _OLLAMA, asks_engine=False),
    Described("/api/show", "What a name can be asked for.", ShowRequest, _JSON, _OLLAMA, asks_engine=False),
)


def front_schemas(models: Sequence[str]) -> Json:
    """The schemas of all bodies and errors. `models`: names to list, maybe none."""
    kinds = {each.body for each in DESCRIBED if each.body is not None}
    _, components = msgspec.json.schema_components(
        sorted(kinds, key=lambda kind: kind.__name__), ref_template="#/components/schemas/{name}"
    )
    schemas: Json = dict(components)
    parameters = schemas["GenerateParameters"]["properties"]
    _narrow(parameters, TGI_REFUSED)
    _narrow(schemas["Options"]["properties"], REFUSED_OPTIONS)
    for name in ("ChatRequest", "GenerateRequest"):
        _narrow(schemas[name]["properties"], OLLAMA_REFUSED)
        schemas[name]["description"] = _PAIRS
        schemas[name]["properties"]["format"] = {"anyOf": [{"enum": ["", "json", None]}, _OBJECT]}
    schemas["Grammar"]["properties"] = {"type": {"enum": ["json", "json_schema"]}, "value": _OBJECT}
    if models:
        for name in ("ChatRequest", "GenerateRequest", "EmbedRequest", "ShowRequest"):
            schemas[name]["properties"]["model"]["enum"] = list(models)
        for properties, name in ((schemas["Generate"]["properties"], "model"), (parameters, "adapter_id")):
            properties[name] = {"enum": [*models, None]}
    text: Json = {"type": "string"}
    error_type: Json = {"enum": ["validation", "overloaded", "generation"]}
    return schemas | {
        _TGI: {
            "type": "object",
            "required": ["error"],
            "properties": {"error": text, "error_type": error_type},
        },
        _OLLAMA: {"type": "object", "required": ["error"], "properties": {"error": text}},
    }


def _narrow(properties: Json, refused: dict[str, tuple[tuple[object, ...], str]]) -> None:
    """Of what is refused, leave the values that ask for nothing."""
    for name, (neutral, _) in refused.items():
        if name in properties:
            properties[name] = {"enum": [*neutral, None]}
