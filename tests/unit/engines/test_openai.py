"""Endpoints that others run."""

from __future__ import annotations

import pytest

from inferry.core.remote_engines import OpenAIDeployment
from inferry.engines.adapter import Verdict
from inferry.engines.openai import OpenAIAdapter


def adapter(api_key: str | None = None) -> OpenAIAdapter:
    deployment = OpenAIDeployment.model_validate(
        {
            "engine": "openai",
            "model": "org/big-model",
            "endpoints": ["http://10.0.0.7:9001/v1", "https://models.example/proxy/v1"],
            "api_key": api_key,
        }
    )
    return OpenAIAdapter("outside", deployment)


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
