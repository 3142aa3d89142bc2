"""A deployment as it was before, in a file that has changed since: values, and where they came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.cli.undo import with_deployment_of
from inferry.core.config_file import LoadedFile, parse_text
from inferry.core.file_change import compare

BEFORE = """
gateway: {drain_s: 5}
deployments:
  chat: {engine: openai, model: m, endpoints: ["http://h:1/v1"], headers: {X-Token: "${TOKEN}"}}
  other: {engine: simulated, replicas: 1}
"""
NOW = """
gateway: {drain_s: 9}
deployments:
  chat: {engine: simulated, replicas: 2}
  other: {engine: simulated, replicas: 3}
"""


def loaded(text: str) -> LoadedFile:
    return parse_text(text, Path("inferry.yaml"), {"TOKEN": "very-secret"})


def test_only_that_deployment_is_as_before() -> None:
    """The gateway and the other deployments stay as the new file has them."""
    mixed = with_deployment_of(loaded(NOW), loaded(BEFORE), "chat").config
    assert mixed.deployments["chat"] == loaded(BEFORE).config.deployments["chat"]
    assert mixed.deployments["other"] == loaded(NOW).config.deployments["other"]
    assert mixed.gateway.drain_s == 9


def test_secrets_stay_unsaid() -> None:
    """What came from the environment is still shown as it was written."""
    now = loaded(NOW)
    mixed = with_deployment_of(now, loaded(BEFORE), "chat")
    assert "very-secret" not in "\n".join(compare(now, mixed).summary())
    gone = ("deployments", "chat", "headers", "X-Token")
    assert mixed.references[gone] == "${TOKEN}"
    assert gone in mixed.from_environment
    back = with_deployment_of(mixed, now, "chat")
    assert gone not in back.references


def test_what_does_not_fit_together_is_refused() -> None:
    """Another deployment has taken its alias meanwhile."""
    before = loaded("deployments: {a: {engine: simulated, aliases: [x]}, b: {engine: simulated}}")
    now = loaded("deployments: {a: {engine: simulated}, b: {engine: simulated, aliases: [x]}}")
    with pytest.raises(ValueError, match=r"^'x' names both 'a' and 'b'$"):
        with_deployment_of(now, before, "a")
