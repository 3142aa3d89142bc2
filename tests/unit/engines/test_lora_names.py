"""What clients and engines call a LoRA adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from inferry.core.deployment import Deployment, DeploymentFile
from inferry.engines.lora_names import lora_models

FIELDS = {"model": "file:/m", "lora": {"law": "/adapters/law"}}


@pytest.mark.parametrize(
    ("engine", "wanted"),
    [("vllm", {"chat/law": "law"}), ("tgi", {"chat/law": "law"}), ("sglang", {"chat/law": "chat:law"})],
)
def test_each_engine_has_its_own_word(engine: str, wanted: dict[str, str]) -> None:
    """Clients write NAME/ADAPTER with every engine."""
    deployment = TypeAdapter[Deployment](Deployment).validate_python({"engine": engine, **FIELDS})
    assert lora_models("chat", deployment) == wanted


def test_engines_without_adapters_have_no_names() -> None:
    """Nothing is made up where the engine has no name for an adapter, or the file has none."""
    for fields in ({"engine": "tensorrt-llm", **FIELDS}, {"engine": "simulated"}):
        deployment = TypeAdapter[Deployment](Deployment).validate_python(fields)
        assert lora_models("chat", deployment) == {}


def test_an_adapters_name_is_taken() -> None:
    """Another deployment's alias can't be the same public name."""
    other = {"engine": "simulated", "aliases": ["chat/law"]}
    with pytest.raises(ValidationError, match="'chat/law' names both 'chat' and 'other'"):
        DeploymentFile.model_validate({"deployments": {"chat": {"engine": "vllm", **FIELDS}, "other": other}})


def test_relative_folders_are_the_files() -> None:
    """./x and ~/x are folders, seen from the file; org/name is an id of the hub."""
    fields = {"engine": "vllm", "model": "file:m", "lora": {"a": "./a", "b": "org/b", "c": "/c"}}
    fields["speculative"] = {"method": "eagle", "model": "../heads"}
    deployment = TypeAdapter[Deployment](Deployment).validate_python(fields)
    resolved = deployment.resolved_against(Path("/files"))
    assert resolved.model_dump(include={"model", "lora", "speculative"}) == {
        "model": "file:/files/m",
        "lora": {"a": "/files/a", "b": "org/b", "c": "/c"},
        "speculative": {"method": "eagle", "model": "/files/../heads", "tokens": 4},
    }
