"""Presets: keys that their engines have, each with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from inferry.core.deployment import ENGINE_TYPES
from inferry.core.errors import ConfigError
from inferry.engines.presets import _TABLE, PRESETS, Preset, preset_settings, shown_value

CASES = [(preset, engine) for preset in PRESETS for engine in _TABLE[preset]]


@pytest.mark.parametrize(("preset", "engine"), CASES)
def test_a_preset_sets_keys_of_its_engine(preset: Preset, engine: str) -> None:
    """Each key is one of the deployment's, once, with a reason; and no preset decides which model."""
    settings = preset_settings(preset, engine)
    keys = [each.key for each in settings]
    assert settings
    assert len(keys) == len(set(keys))
    assert set(keys) <= set(ENGINE_TYPES[engine].model_fields) - {"engine", "model"}
    assert all(each.because for each in settings)


def test_a_preset_that_an_engine_has_not() -> None:
    """It is refused, with those that it has."""
    with pytest.raises(ConfigError, match=r"no preset 'quantized' for transformers: it has production"):
        preset_settings("quantized", "transformers")
    with pytest.raises(ConfigError, match="it has none"):
        preset_settings("development", "openai")


@pytest.mark.parametrize(("preset", "engine"), CASES)
def test_what_a_preset_shows_is_what_the_file_wants(preset: Preset, engine: str) -> None:
    """`key: value`, as shown, is YAML for that very value, and the keys together make a deployment."""
    shown = "\n".join(f"{each.key}: {shown_value(each.value)}" for each in preset_settings(preset, engine))
    keys = yaml.safe_load(shown)
    assert keys == {each.key: each.value for each in preset_settings(preset, engine)}
    model = {"ollama": "llama3.2:1b", "llamacpp": "file:/m.gguf"}.get(engine, "hf:org/name")
    ENGINE_TYPES[engine].model_validate({"engine": engine, "model": model, **keys})


def row(preset: Preset, engine: str) -> str:
    """As docs/engines.md shows it."""
    settings = preset_settings(preset, engine)
    keys = ", ".join(f"`{each.key}: {shown_value(each.value)}`" for each in settings)
    return f"| {preset} | {engine} | {keys} |"


@pytest.mark.parametrize(("preset", "engine"), CASES)
def test_the_page_shows_the_preset(preset: Preset, engine: str) -> None:
    """docs/engines.md has the preset with exactly these values."""
    page = (Path(__file__).parents[3] / "docs" / "engines.md").read_text(encoding="utf-8")
    assert row(preset, engine) in page.splitlines()
