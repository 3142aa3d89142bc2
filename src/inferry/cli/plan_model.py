"""Which model `inferry plan` is about: of users' own facts, files on this machine, a hub, or the facts that ship."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

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
    from inferry.cli.model_facts import facts_of_path, model_facts

    plain = text.removeprefix("file:")
    path = Path(plain).expanduser()
    if text.startswith("file:") or plain.startswith(("/", ".", "~")) or path.exists():
        folder = path.parent if path.name == "config.json" else path
        return PlannedModel(facts_of_path(path), f"file:{folder.absolute()}")
    if text.startswith("hf:"):  # said so: the hub is asked, and where it can't be, the shipped facts
        return PlannedModel(model_facts(text, os.environ), text)
    architecture = find_model(text)
    if "/" in text:  # the catalog may have it by another name: what was asked for is what is served
        architecture = replace(architecture, name=text)
    return PlannedModel(architecture, f"hf:{architecture.name}")
