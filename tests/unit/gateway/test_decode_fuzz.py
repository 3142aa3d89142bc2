"""The decoder against bodies that nobody means well with: it accepts or raises InvalidRequest, and nothing else."""

from __future__ import annotations

import json

import pytest

from inferry.core.errors import InvalidRequest
from inferry.core.request import CHAT, COUNT_TOKENS, EMBEDDINGS, RESPONSES, ROUTES, TOKENIZE, Route
from inferry.gateway.decode import body_for_engine, decode_request
from tests.e2e.malformed_requests import broken_body

CASES = 3000


def fate(route: Route, body: bytes) -> str:
    """`accepted` or `refused`; anything but InvalidRequest gets out of here and fails the test."""
    refused: InvalidRequest | None = None
    try:
        request = decode_request(route, body, "r", ["chat"])
        for served_name in (request.model, "another"):
            changed = body_for_engine(request, served_name, ask_usage=True)
            assert b'"another"' in changed or served_name == request.model
    except InvalidRequest as error:
        refused = error
    if refused is None:
        return "accepted"
    # Its words go into an answer and a log: short, and writable as UTF-8.
    assert 0 < len(refused.message.encode()) < 1000
    return "refused"


_RENAMED_ONLY = (EMBEDDINGS, RESPONSES, COUNT_TOKENS, TOKENIZE)


def chat_with(name: str, value: str) -> bytes:
    """A good chat request with one more field, or one field again."""
    return b'{"model":"chat","messages":[{"role":"user"}],"%b":%b}' % (name.encode(), value.encode())


@pytest.mark.parametrize(
    "route",
    list(ROUTES.values()),
    ids=lambda route: route.path,
)
def test_only_invalid_request_comes_out(route: Route) -> None:
    """Odd values, broken JSON and flipped bytes: thousands for each route, some accepted, most refused."""
    fates = [fate(route, broken_body(seed)) for seed in range(CASES)]
    assert fates.count("refused") > CASES / 4
    assert fates.count("accepted") > 0


@pytest.mark.parametrize(
    "number", ["9" * 5000, "1" + "0" * 400, "-" + "9" * 5000, "1e400", "-1e400", "0." + "9" * 5000, "1e-5000"]
)
@pytest.mark.parametrize(
    "name", ["n", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "model", "stream"]
)
def test_huge_numbers_are_only_numbers(name: str, number: str) -> None:
    """Numbers of any length end in an answer, in each field that is looked at and in others."""
    assert fate(CHAT, chat_with(name, number)) in ("accepted", "refused")


@pytest.mark.parametrize("depth", [10, 200, 1000, 5000, 100_000])
@pytest.mark.parametrize("where", ["messages", "model", "x", "prompt", "documents"])
def test_deep_nesting_is_survived(depth: int, where: str) -> None:
    """Lists and objects in one another, thousands deep, neither crash nor hang the process."""
    for begin, end in (("[", "]"), ('{"a":', "}")):
        nested = begin * depth + "1" + end * depth
        body = chat_with(where, nested)
        for route in ROUTES.values():
            assert fate(route, body) in ("accepted", "refused")
            assert fate(route, body[: len(body) // 2]) == "refused"


@pytest.mark.parametrize("route", _RENAMED_ONLY, ids=lambda route: route.path)
def test_options_of_other_routes_are_the_engines_business(route: Route) -> None:
    """A field that a route does not know goes to the engine as it is, whatever is in it."""
    body = b'{"model":"chat","input":"x","content":"x","messages":[{"role":"user"}],"stream_options":[[1]]}'
    changed = body_for_engine(decode_request(route, body, "r", []), "another", ask_usage=True)
    assert json.loads(changed)["stream_options"] == [[1]]


def test_accepted_bodies_reach_the_engine_as_they_are() -> None:
    """What needs no change is not rewritten, however odd it looks."""
    body = b'{ "messages" : [ {"role":"user"} ], "model":"chat", "x":1.0e5 , "y":"\\ud83d\\ude00" }'
    assert body_for_engine(decode_request(CHAT, body, "r", []), "chat", ask_usage=True) == body


def test_renaming_keeps_every_other_value() -> None:
    """A body that gets another model name means the same to a JSON reader in everything else."""
    body = b'{"messages":[{"role":"user","content":[1.50,"\xc3\xa9",null]}],"model":"chat","big":12345678901234567890123}'
    changed = body_for_engine(decode_request(CHAT, body, "r", []), "another", ask_usage=True)
    assert json.loads(changed) == json.loads(body) | {"model": "another"}
