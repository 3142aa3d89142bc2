"""`prompt_truth:` in the deployment file."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.core.config_file import parse_text
from inferry.core.deployment import DeploymentFile
from inferry.core.errors import ConfigError

LLAMACPP = "engine: llamacpp\n    model: file:m.gguf"
OPENAI = "engine: openai\n    model: m\n    endpoints: [http://h:1/v1]"


def config(engine: str, truth: str) -> DeploymentFile:
    text = f"deployments:\n  chat:\n    {engine}\n    prompt_truth: {truth}\n"
    return parse_text(text, Path("/files/inferry.yaml"), {}).config


def test_a_gguf_model_has_its_own_tokenizer() -> None:
    """llamacpp needs no more than the section; without it nothing is checked."""
    truth = config(LLAMACPP, "{}").deployments["chat"].prompt_truth
    assert truth is not None
    assert (truth.tokenizer, truth.action, truth.tolerance_tokens, truth.sample) == (None, "warn", 0, 1.0)
    assert config(LLAMACPP, "null").deployments["chat"].prompt_truth is None


def test_a_relative_tokenizer_starts_at_the_file() -> None:
    """As other paths do; an absolute one stays."""
    for written, meant in (("models/m", "/files/models/m"), ("/m/tokenizer.json", "/m/tokenizer.json")):
        truth = config(OPENAI, f"{{tokenizer: {written}}}").deployments["chat"].prompt_truth
        assert truth is not None
        assert truth.tokenizer == meant


@pytest.mark.parametrize(
    ("engine", "truth", "words"),
    [
        (OPENAI, "{}", "needs 'tokenizer' with this engine"),
        ("engine: simulated", "{action: reject}", "needs 'tokenizer' with this engine"),
        (LLAMACPP, "{action: refuse}", "One of: reject, warn"),
        (LLAMACPP, "{sample: 2}", "at most 1"),
        (LLAMACPP, "{toleranse_tokens: 2}", "tolerance_tokens"),
    ],
)
def test_slips_are_named(engine: str, truth: str, words: str) -> None:
    """What is missing or wrong is told with the way out."""
    with pytest.raises(ConfigError, match=words):
        config(engine, truth)
