"""The gateway's OpenAPI document: whole, true to the decoder, and no stricter than OpenAI's own."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inferry.core.errors import InvalidRequest
from inferry.core.request import LENGTH_FIELDS, ROUTES, Route
from inferry.gateway.decode import decode_request
from inferry.gateway.fronts.pages import FRONT_PAGES, FRONT_QUESTIONS
from inferry.gateway.fronts.table import FRONTS
from inferry.gateway.openapi import openapi_document

Json = dict[str, Any]
DOCUMENT: Json = json.loads(openapi_document(keys=True, models=["chat"]))
SCHEMAS: Json = DOCUMENT["components"]["schemas"]


def body_schema(route: Route) -> Json:
    content = DOCUMENT["paths"][route.path]["post"]["requestBody"]["content"]
    name: str = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return dict(SCHEMAS[name])


def everything(node: Any) -> Iterator[Json]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from everything(value)
    elif isinstance(node, list):
        for value in node:
            yield from everything(value)


def test_every_route_is_described() -> None:
    """No inference route is forgotten, and each operation has an id of its own."""
    assert {*ROUTES, *FRONTS, *FRONT_PAGES, *FRONT_QUESTIONS} <= set(DOCUMENT["paths"])
    assert {"get", "post"} == set(DOCUMENT["paths"]["/"])
    ids = [operation["operationId"] for item in DOCUMENT["paths"].values() for operation in item.values()]
    assert len(set(ids)) == len(ids) == len(DOCUMENT["paths"]) + 1


def test_every_reference_leads_somewhere() -> None:
    """Each $ref names a schema that is there, and each schema is used; no name shows our underscores."""
    named = {node["$ref"] for node in everything(DOCUMENT) if "$ref" in node}
    assert named == {f"#/components/schemas/{name}" for name in SCHEMAS}
    assert not [name for name in SCHEMAS if name.startswith("_")]
    used = {
        name for node in everything(DOCUMENT["paths"]) for each in node.get("security", []) for name in each
    }
    assert used == set(DOCUMENT["components"]["securitySchemes"])


def test_statuses_of_the_error_tree_are_documented() -> None:
    """Each status with which the gateway may refuse an inference request is in the document."""
    responses = DOCUMENT["paths"]["/v1/chat/completions"]["post"]["responses"]
    refusals = {"400", "401", "403", "404", "408", "413", "429", "500", "502", "503", "504"}
    assert set(responses) == {"200", "default"} | refusals
    assert "499" not in responses


def test_keys_are_asked_for_only_where_they_are() -> None:
    """Without keys no operation names a security scheme; with them, health still doesn't, and metrics may do without."""
    open_document = json.loads(openapi_document(keys=False))
    assert not any(node["security"] for node in everything(open_document) if "security" in node)
    assert all(DOCUMENT["paths"][path]["post"]["security"] for path in (*ROUTES, *FRONTS, *FRONT_QUESTIONS))
    assert all(DOCUMENT["paths"][path]["get"]["security"] for path in FRONT_PAGES)
    assert not any(DOCUMENT["paths"][path]["get"]["security"] for path in ("/health", "/", "/openapi.json"))
    assert {} in DOCUMENT["paths"]["/metrics"]["get"]["security"]


def test_names_of_models_are_listed_only_if_given() -> None:
    """The names of deployments stand in the document only where they may be known to all."""
    assert SCHEMAS["Chat"]["properties"]["model"]["enum"] == ["chat"]
    assert b"enum" not in re.findall(rb'"model":\{[^}]*\}', openapi_document(keys=True))[0]


@pytest.mark.parametrize("route", ROUTES.values(), ids=lambda route: route.path)
def test_required_fields_are_the_decoders(route: Route) -> None:
    """A body without a required field is refused for that field; with all of them, it is accepted."""
    schema = body_schema(route)
    samples: Json = {
        "model": "chat", "messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x", "query": "x",
        "documents": ["x"], "max_tokens": 1,
    }  # fmt: skip
    required = list(schema["required"]) + (["prompt"] if "anyOf" in schema else [])
    body = {name: samples[name] for name in required}
    assert decode_request(route, json.dumps(body).encode(), "r", []).model == "chat"
    for name in required:
        less = {key: value for key, value in body.items() if key != name}
        with pytest.raises(InvalidRequest, match=r"Missing required parameter"):
            decode_request(route, json.dumps(less).encode(), "r", [])


@pytest.mark.parametrize("route", ROUTES.values(), ids=lambda route: route.path)
def test_only_routes_that_stream_allow_it(route: Route) -> None:
    """`stream: true` is in the document exactly where the decoder takes it."""
    stream = body_schema(route)["properties"]["stream"]
    assert (True not in stream.get("enum", [True])) is (not route.streams)
    answers = DOCUMENT["paths"][route.path]["post"]["responses"]["200"]["content"]
    assert ("text/event-stream" in answers) is route.streams


# --- against OpenAI's own document --------------------------------------------------------------------

OPENAI_FILE = Path(
    os.environ.get("INFERRY_OPENAI_OPENAPI")
    or Path(__file__).parents[4] / "shared" / "data" / "schemas" / "openapi" / "openai.json"
)
ALL_TYPES = {"string", "number", "integer", "boolean", "array", "object", "null"}


@pytest.fixture(scope="module")
def openai() -> Json:
    if not OPENAI_FILE.exists():
        pytest.skip("OpenAI's OpenAPI file is not here: name it in INFERRY_OPENAI_OPENAPI")
    return dict(json.loads(OPENAI_FILE.read_text(encoding="utf-8")))


class Schema:
    """A schema of a document with its references, alternatives and parts resolved as far as this test needs."""

    def __init__(self, document: Json, node: Json) -> None:
        self._document = document
        while "$ref" in node:
            target: Any = document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        self.node = node

    def _parts(self, kind: str) -> list[Schema]:
        return [Schema(self._document, each) for each in self.node.get(kind, [])]

    def types(self) -> set[str]:
        """JSON types of its values; all of them if it says nothing."""
        found: set[str] = set()
        for each in self._parts("anyOf") + self._parts("oneOf"):
            found |= each.types()
        if not found:
            stated = self.node.get("type", [])
            found = {stated} if isinstance(stated, str) else set(stated)
        if not found and "enum" in self.node:
            found = {"null" if value is None else "boolean" for value in self.node["enum"]}
        for each in self._parts("allOf"):
            found = (found & each.types()) if found else each.types()
        if self.node.get("nullable"):
            found |= {"null"}
        return (found | {"integer"} if "number" in found else found) or ALL_TYPES

    def bound(self, name: str) -> float | None:
        """`minimum` or `maximum`, wherever it stands."""
        stands = [self.node.get(name)] + [
            each.bound(name) for kind in ("anyOf", "oneOf", "allOf") for each in self._parts(kind)
        ]
        return next((value for value in stands if value is not None), None)

    def properties(self) -> dict[str, Schema]:
        found = {name: Schema(self._document, each) for name, each in self.node.get("properties", {}).items()}
        for part in self._parts("allOf"):
            found = part.properties() | found
        return found

    def required(self) -> set[str]:
        return set(self.node.get("required", [])).union(*(part.required() for part in self._parts("allOf")))


# What OpenAI leaves out only with things that engines don't have.
ASKED_BEYOND_OPENAI = {"/v1/responses": {"model", "input"}}  # stored prompts, that bring a model along

AMOUNTS = {*LENGTH_FIELDS, "n", "n_cmpl", "best_of"}


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
)
def test_what_openai_allows_is_allowed_here(openai: Json, path: str) -> None:
    """Of the fields that the gateway looks at, each is OpenAI's or one by which engines are told how much to write;
    no type or number of OpenAI's is refused."""
    theirs = Schema(openai, openai["paths"][path.removeprefix("/v1")]["post"]["requestBody"]["content"]["application/json"]["schema"])  # fmt: skip
    ours = Schema(DOCUMENT, body_schema(ROUTES[path]))
    their_properties, our_properties = theirs.properties(), ours.properties()
    unknown = set(our_properties) - set(their_properties)
    unknown -= AMOUNTS
    assert unknown <= ({"stream"} if not ROUTES[path].streams else set())
    assert ours.required() - theirs.required() <= ASKED_BEYOND_OPENAI.get(path, set())
    for name in set(our_properties) & set(their_properties):
        our, their = our_properties[name], their_properties[name]
        assert their.types() <= our.types(), name
        low, high = our.bound("minimum"), our.bound("maximum")
        their_low, their_high = their.bound("minimum"), their.bound("maximum")
        assert low is None or their_low is None or low <= their_low, name
        assert high is None or (their_high is not None and high >= their_high), name
