"""Which model `inferry plan` is about, and what a deployment file would call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inferry.planner.architecture import Architecture
from inferry.planner.facts.ollama_names import ollama_tag

if TYPE_CHECKING:
    from inferry.planner.facts.own_facts import OwnFacts


@dataclass(frozen=True, slots=True)
class PlannedModel:
    architecture: Architecture
    source: str
    """As the deployment file takes it: hf:org/name, file:/path, pypi:... or a URL. Empty: it was named without a repository."""
    path: Path | None = None
    """Its files, where they are on this machine."""

    @property
    def ollama(self) -> str:
        """Its name in Ollama's library; empty where that is not known."""
        arch = self.architecture
        return arch.name if arch.made_of else ollama_tag(arch.name) or ""

    @property
    def gguf(self) -> bool:
        """The source is a GGUF file, as llama.cpp takes it."""
        return self.architecture.native_format == "gguf" and not self.architecture.made_of


def planned_model(text: str, own: OwnFacts, environ: Mapping[str, str]) -> PlannedModel:
    """Of users' own facts first, else of what `model_facts` knows. Raises ConfigError where neither knows it."""
    if (told := own.find_model(text.removeprefix("hf:"))) is not None:
        return PlannedModel(told, f"hf:{told.name}")
    from inferry.cli.model_facts import model_facts, model_path

    architecture, path = model_facts(text, environ), model_path(text, environ)
    return PlannedModel(architecture, _source(text, architecture, path), path)


def _source(text: str, architecture: Architecture, path: Path | None) -> str:
    if text.startswith(("hf:", "pypi:", "http:", "https:")):
        return text
    if path is None:
        name = architecture.made_of or architecture.name
        return f"hf:{name}" if "/" in name else ""
    served = path.parent if path.name == "config.json" else path
    return f"file:{served.absolute()}"
