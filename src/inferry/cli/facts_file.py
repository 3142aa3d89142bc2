"""Users' own facts for the planner, from a deployment file or from a file of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inferry.core.config_file import FILE_BYTES_MAX, load_file, parse_text
from inferry.core.errors import ConfigError
from inferry.core.facts_settings import Facts, OwnModel
from inferry.planner.facts.own_facts import OwnFacts, own_facts

NO_DEPLOYMENT = "\ndeployments:\n  nothing:\n    engine: simulated\n"
"""Put behind a file that has facts only, so that the ordinary reader takes it, with its lines and its words."""
_HAS_DEPLOYMENTS = re.compile(r"^deployments\s*:", re.MULTILINE)


def read_own_facts(path: Path | None, environ: Mapping[str, str]) -> OwnFacts:
    """Of the file at `path`: a deployment file, or one with `facts:` alone; None: no facts.

    Raises ConfigError for what is wrong, with file, line, key and the way out.
    """
    if path is None:
        return OwnFacts()
    facts = _facts_of(path, environ)
    configs = {name: _config_of(name, model) for name, model in facts.models.items() if model.config}
    return own_facts(facts, configs)


def _facts_of(path: Path, environ: Mapping[str, str]) -> Facts:
    try:
        text = path.read_text(encoding="utf-8") if path.stat().st_size <= FILE_BYTES_MAX else ""
    except (OSError, UnicodeDecodeError):
        text = ""
    if not text or _HAS_DEPLOYMENTS.search(text):
        # It finds the words for files that are missing, too large, or no text.
        return load_file(path, environ).config.facts
    return parse_text(text + NO_DEPLOYMENT, path, environ).config.facts


def _config_of(name: str, model: OwnModel) -> dict[str, Any]:
    path = Path(model.config or "")
    file = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(file.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"facts.models.{name}.config: {file} can't be read: {error.strerror or error}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"facts.models.{name}.config: {file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"facts.models.{name}.config: {file} holds no object; a model's config.json does")
    return config
