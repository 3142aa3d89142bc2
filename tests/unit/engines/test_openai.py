"""Endpoints that others run."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.core.config_file import load_file
from inferry.core.errors import ConfigError
from inferry.core.remote_engines import OpenAIDeployment
from inferry.engines.adapter import Verdict
from inferry.engines.openai import OpenAIAdapter


def adapter(api_key: str | None = None, **fields: object) -> OpenAIAdapter:
    deployment = OpenAIDeployment.model_validate(
        {
            "engine": "openai",
            "model": "org/big-model",
            "endpoints": ["http://10.0.0.7:9001/v1", "https://models.example/proxy/v1"],
            "api_key": api_key,
            **fields,
        }
    )
    return OpenAIAdapter("outside", deployment)


def azure(**fields: object) -> OpenAIAdapter:
    settings = {
        "model": "big one",
        "endpoints": ["https://res.openai.azure.com/"],
        "api_version": "2024-10-21",
        "key_header": "api-key",
    }
    return adapter("k3y", **{**settings, **fields})


def test_endpoints_come_in_the_files_order_with_the_key() -> None:
    """Each URL is one endpoint; the key is sent to all and shown by none."""
    first, second = adapter("k3y").endpoints()
    assert (first.url, second.url) == ("http://10.0.0.7:9001", "https://models.example:443/proxy")
    assert second.tls
    assert first.headers == second.headers == (("Authorization", "Bearer k3y"),)
    assert "k3y" not in repr(first)
    assert adapter().endpoints()[0].headers == ()


def test_the_remote_name_is_what_is_asked_for() -> None:
    """Requests carry the endpoint's model name, not the deployment's."""
    assert adapter().served_name == "org/big-model"


@pytest.mark.parametrize("status", [200, 301, 404, 405, 429, 500])
def test_any_answer_is_enough(status: int) -> None:
    """Many servers have no /v1/models: that they answer is all there is to learn."""
    assert adapter().read_probe(status, b"").verdict is Verdict.READY


@pytest.mark.parametrize("status", [502, 503, 504])
def test_gateway_errors_mean_nobody_is_behind(status: int) -> None:
    """A proxy that answers for a dead engine is not an engine."""
    assert adapter().read_probe(status, b"").verdict is Verdict.UNWELL


@pytest.mark.parametrize("status", [401, 403])
def test_refused_keys_are_named(status: int) -> None:
    """The message points to the key in the file, and tells a missing key from a wrong one."""
    missing, wrong = adapter().read_probe(status, b""), adapter("k").read_probe(status, b"")
    assert missing.verdict is wrong.verdict is Verdict.UNWELL
    assert "set deployments.outside.api_key" in missing.reason
    assert "check deployments.outside.api_key" in wrong.reason


def test_azures_classic_paths() -> None:
    """The deployment stands in the path, the version behind it, and the key in a header of its own."""
    subject = azure()
    [endpoint] = subject.endpoints()
    assert endpoint.address("/v1/chat/completions") == (
        "https://res.openai.azure.com:443/openai/deployments/big%20one/chat/completions?api-version=2024-10-21"
    )
    assert endpoint.target(subject.probe_path) == "/openai/models?api-version=2024-10-21"
    assert endpoint.headers == (("api-key", "k3y"),)
    assert subject.served_name == "big one"
    assert subject.routes == {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"}


def test_azures_newer_api_has_paths_as_all_others() -> None:
    """An endpoint that ends in /v1 is asked there; a version, if any, comes behind."""
    subject = azure(endpoints=["https://res.openai.azure.com/openai/v1"], api_version="preview")
    [endpoint] = subject.endpoints()
    assert endpoint.target("/v1/responses") == "/openai/v1/responses?api-version=preview"
    assert subject.probe_path == "/v1/models"
    assert "/v1/responses" in subject.routes


def test_more_headers_go_along() -> None:
    """Headers of the file are sent with each request, after the key; a repr shows none of them."""
    [first, _] = adapter("k", headers={"OpenAI-Organization": "org-1", "x-team": "t"}).endpoints()
    assert first.headers == (
        ("Authorization", "Bearer k"),
        ("OpenAI-Organization", "org-1"),
        ("x-team", "t"),
    )
    assert "org-1" not in repr(first)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"headers": {"Host": "h"}}, "Inferry's own"),
        ({"headers": {"a b": "h"}}, "can't be a header's name"),
        ({"headers": {"x": "1\r\ny: 2"}}, "no HTTP header can carry"),
        ({"headers": {"x": " 1"}}, "no HTTP header can carry"),
        ({"headers": {"X": "1", "x": "2"}}, "twice"),
        ({"headers": {"Authorization": "Basic x"}, "api_key": "k"}, "drop one of them"),
        ({"api_version": "2024 10"}, "pattern"),
        ({"api_version": "v", "endpoints": ["http://h/v1", "http://i"]}, "or none"),
        ({"endpoints": ["http://h"]}, "must end in /v1"),
    ],
)
def test_what_could_not_be_sent_is_refused(fields: dict[str, object], why: str) -> None:
    """Headers that would break the request or contradict each other, and mixed kinds of endpoints."""
    with pytest.raises(ValueError, match=why):
        adapter(**fields)  # type: ignore[arg-type]


def test_headers_in_clear_are_refused(tmp_path: Path) -> None:
    """In a file, header values are references, since nobody knows which of them is a secret."""
    file = tmp_path / "inferry.yaml"
    text = (
        "deployments: {out: {engine: openai, model: m, endpoints: ['http://h/v1'], headers: {x-t: VALUE}}}\n"
    )
    file.write_text(text.replace("VALUE", "hunter2"))
    with pytest.raises(ConfigError, match="stored in clear") as caught:
        load_file(file, {})
    assert "hunter2" not in str(caught.value)
    file.write_text(text.replace("VALUE", "'${TEAM}'"))
    deployment = load_file(file, {"TEAM": "hunter2"}).config.deployments["out"]
    assert isinstance(deployment, OpenAIDeployment)
    assert deployment.headers["x-t"].get_secret_value() == "hunter2"
