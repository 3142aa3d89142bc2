"""Every engine that a file can name has an adapter."""

from __future__ import annotations

import json

import pytest
from pydantic import TypeAdapter

from inferry.core.deployment import ENGINE_TYPES, Deployment
from inferry.core.request import ROUTES
from inferry.engines.adapter import LaunchableAdapter, RemoteAdapter
from inferry.engines.registry import adapter_for

FIELDS: dict[str, dict[str, object]] = {
    "llamacpp": {"model": "file:/m.gguf"},
    "ollama": {"model": "llama3.2:1b"},
    "openai": {"model": "m", "endpoints": ["http://h:1/v1"]},
    "sglang": {"model": "file:/m"},
    "simulated": {},
    "tensorrt-llm": {"model": "file:/m"},
    "tgi": {"model": "file:/m"},
    "transformers": {"model": "file:/m"},
    "vllm": {"model": "file:/m"},
}


@pytest.mark.parametrize("engine", sorted(ENGINE_TYPES))
def test_each_engine_has_a_sound_adapter(engine: str) -> None:
    """It is launchable or remote, not both; its routes are known ones; its warm-up asks for its own model."""
    deployment = TypeAdapter[Deployment](Deployment).validate_python({"engine": engine, **FIELDS[engine]})
    adapter = adapter_for("chat", deployment)
    assert adapter.engine == engine
    assert isinstance(adapter, LaunchableAdapter) != isinstance(adapter, RemoteAdapter)
    assert adapter.routes <= set(ROUTES)
    assert "/v1/chat/completions" in adapter.routes
    for warmup in adapter.warmups:
        assert json.loads(warmup.body)["model"] == adapter.served_name
    assert adapter.read_metrics("no metrics page").tokens_generated is None
