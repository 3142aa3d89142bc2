"""Which model `inferry plan` is about: a name that ships, or a config.json, a folder or a GGUF file of one's own."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from inferry.core.errors import ConfigError
from inferry.planner.architecture import Architecture

if TYPE_CHECKING:
    from inferry.planner.facts.own_facts import OwnFacts


@dataclass(frozen=True, slots=True)
class PlannedModel:
    architecture: Architecture
    source: str
    """As the deployment file takes it: hf:org/name or file:/folder."""


def planned_model(text: str, own: OwnFacts) -> PlannedModel:
    """Of users' own facts first. Raises ConfigError for a path that holds no model, and for a name of which no facts ship."""
    from inferry.planner.facts.model_catalog import find_model

    if (told := own.find_model(text.removeprefix("hf:"))) is not None:
        return PlannedModel(told, f"hf:{told.name}")
    plain = text.removeprefix("file:")
    path = Path(plain).expanduser()
    if text.startswith("file:") or plain.startswith(("/", ".", "~")) or path.exists():
        return _from_path(path)
    name = text.removeprefix("hf:")
    architecture = find_model(name)
    if (
        "/" in name
    ):  # the catalog knows it by another name of the same shape: what was asked for is what is served
        architecture = replace(architecture, name=name)
    return PlannedModel(architecture, f"hf:{architecture.name}")


def _from_path(path: Path) -> PlannedModel:
    from inferry.planner.model_config import architecture_from_config

    config = path / "config.json" if path.is_dir() else path
    try:
        fields = json.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{config} can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{config} is no config.json: {error}") from error
    if not isinstance(fields, dict):
        raise ConfigError(f"{config} is no config.json: it holds no object.")
    folder = config.parent.absolute()
    name = str(fields.get("_name_or_path") or folder.name)
    return PlannedModel(architecture_from_config(name, fields, source=str(config)), f"file:{folder}")
