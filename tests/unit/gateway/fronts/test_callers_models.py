"""Which deployment a request means that names none, or names it as Ollama's clients do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from inferry.core.api_key import ApiKey
from inferry.core.errors import InvalidRequest, UnknownModel
from inferry.core.request import COMPLETIONS, EMBEDDINGS
from inferry.gateway.fronts.front_exchange import CallersModels, model_header
from inferry.gateway.fronts.pages import FRONT_PAGES, Question
from inferry.gateway.gateway import Gateway
from tests.unit.gateway.stand import make_gateway, served

KEY = ApiKey("key_1", "inf-a", b"", "acme", "one", deployments=frozenset({"code"}))


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """`chat` (alias `smol`) and `code` complete texts, `vectors` only embeds."""
    loop = asyncio.new_event_loop()
    vectors = replace(served("vectors"), routes=frozenset({EMBEDDINGS.path}))
    yield make_gateway(loop, [served("chat", "smol"), served("code"), vectors])
    loop.close()


def test_the_only_one_that_can(gateway: Gateway) -> None:
    """One name for one deployment, though it has several; what lacks the route does not count."""
    alone = make_gateway(gateway.loop, [served("chat", "smol"), gateway.deployments["vectors"].spec])
    assert CallersModels(alone, None, None).chosen(COMPLETIONS) == "chat"
    assert CallersModels(gateway, KEY, None).chosen(COMPLETIONS) == "code"


def test_none_that_can(gateway: Gateway) -> None:
    """The error names the route that nothing here has."""
    alone = make_gateway(gateway.loop, [gateway.deployments["vectors"].spec])
    with pytest.raises(InvalidRequest, match="none has /v1/completions"):
        CallersModels(alone, None, None).chosen(COMPLETIONS)


def test_several_are_named(gateway: Gateway) -> None:
    """The error names those that it could be, and where to say it."""
    with pytest.raises(InvalidRequest, match="chat, code") as several:
        CallersModels(gateway, None, None).chosen(COMPLETIONS)
    assert "x-inferry-model" in several.value.message
    assert "vectors" not in several.value.message


def test_the_header_decides(gateway: Gateway) -> None:
    """As it is, but for `:latest`; whether there is such a name is looked at later, as for every request."""
    assert CallersModels(gateway, None, "smol").chosen(COMPLETIONS) == "smol"
    assert CallersModels(gateway, None, "code:latest").chosen(COMPLETIONS) == "code"
    assert CallersModels(gateway, None, "nope").chosen(COMPLETIONS) == "nope"
    assert model_header([(b"host", b"x"), (b"x-inferry-model", b"code")]) == "code"
    assert model_header([(b"host", b"x")]) is None
    assert model_header([(b"x-inferry-model", b"\xff")]) == "\ufffd"


def test_latest_is_taken_off_known_names_only(gateway: Gateway) -> None:
    """A name that nobody knows is told back as it came, and another key's names are not known."""
    models = CallersModels(gateway, None, None)
    assert models.known("chat:latest") == "chat"
    assert models.known("smol:latest") == "smol"
    assert models.known("nope:latest") == "nope:latest"
    assert models.known("chat:8b") == "chat:8b"
    assert CallersModels(gateway, KEY, None).known("chat:latest") == "chat:latest"


def test_info_is_of_the_one_that_is_meant(gateway: Gateway) -> None:
    """TGI's page about its model: the header's, or the only one; never one that the caller may not know of."""
    info = FRONT_PAGES["/info"]
    names = ["chat", "smol", "code", "vectors"]
    meant = Question(gateway, names, CallersModels(gateway, None, "code"), b"")
    assert info(meant)["model_id"] == "code"
    with pytest.raises(InvalidRequest):
        info(Question(gateway, names, CallersModels(gateway, None, None), b""))
    with pytest.raises(UnknownModel, match="Known: code") as unknown:
        info(Question(gateway, ["code"], CallersModels(gateway, KEY, "chat"), b""))
    assert "vectors" not in unknown.value.message
