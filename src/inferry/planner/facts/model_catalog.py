"""Models that ship with the planner, by any of their names.

Each fact file maps a repository to its config (raw keys of its config.json, of which only those are kept that tell
sizes), where that is from, and other names of the same model; `of` names a model whose config it shares.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from typing import Any

from inferry.core.errors import ConfigError
from inferry.core.suggest import did_you_mean
from inferry.planner.architecture import Architecture, WeightFormat
from inferry.planner.facts.ollama_names import OllamaModel, ollama_model
from inferry.planner.model_config import architecture_from_config
from inferry.planner.model_names import NameReading, name_keys, readings

_GROUP_SIZES: Mapping[WeightFormat, int] = {
    "fp8_block": 128,
    "awq": 128,
    "gptq": 128,
    "int4": 128,
    "nvfp4": 16,
    "mxfp4": 32,
}
"""What each format's own recipe uses; a repository may choose another."""


def find_model(name: str) -> Architecture:
    """`name`: a repository, or any spelling that people use for it (`llama3.1:8b`, `Qwen3-8B-FP8`). Case and
    organization don't matter. One of Ollama's is the GGUF file that Ollama has under it, where that is known. Raises
    ConfigError with a suggestion."""
    if (ollama := ollama_model(name)) is not None:
        return _as_file(find_model(ollama.repo), name, ollama)
    keys = _keys()
    for reading in readings(name):
        known = keys.get(reading.key)
        if known is not None:
            return _as_read(_architecture(known), name, known, reading)
    near = did_you_mean(name.rsplit("/", 1)[-1], _short_names()).split(" Known:")[0]
    raise ConfigError(
        f"the planner ships no facts about the model {name!r}.{near} Give the path of its config.json, its folder or "
        "its GGUF file instead, or describe it under 'facts' in the deployment file."
    )


def known_models() -> tuple[str, ...]:
    """Repositories, sorted."""
    return tuple(sorted(_entries(), key=str.lower))


def model_config(name: str) -> Mapping[str, Any]:
    """The raw config of a repository that `known_models` names."""
    entry = _entries()[name]
    shared = dict(model_config(entry["of"])) if "of" in entry else {}
    return {**shared, **entry.get("config", {})}


@functools.cache
def _architecture(known: str) -> Architecture:
    entry = _entries()[known]
    source = entry.get("source") or _entries()[entry["of"]].get("source", "")
    if "of" in entry and "source" not in entry:
        source = f"as {entry['of']}: {source}"
    return architecture_from_config(known, model_config(known), source=source)


def _as_file(found: Architecture, name: str, ollama: OllamaModel) -> Architecture:
    """MXFP4 (gpt-oss) stays so in GGUF files; all else is quantized to the tag's bits."""
    if found.native_format == "mxfp4":
        said = "in mxfp4, as its makers have it"
        return replace(
            found,
            name=name,
            made_of=ollama.repo,
            notes=(*found.notes, f"Ollama's name for {ollama.repo}, {said}"),
        )
    said = f"as a GGUF file of {ollama.gguf_bits:.2f} bits per weight"
    return replace(
        found,
        name=name,
        native_format="gguf",
        quantized_parts="linear",
        attention_format=None,
        linear_mixer_format=None,
        group_size=None,
        gguf_bits=ollama.gguf_bits,
        made_of=ollama.repo,
        notes=(*found.notes, f"Ollama's name for {ollama.repo} {said}"),
    )


def _as_read(found: Architecture, name: str, known: str, reading: NameReading) -> Architecture:
    """With the format that the name tells, and a note where the name was read freely."""
    notes = list(found.notes)
    if reading.tuned:
        notes.append(f"read as {known} with other weights, judging by the name; its own config was not read")
    if reading.format is None:
        return replace(found, name=name if "/" in name else found.name, notes=tuple(notes))
    width = f" of {reading.gguf_bits:.2f} bits" if reading.gguf_bits else ""
    notes.append(f"weights taken as {reading.format}{width}, judging by the name")
    return replace(
        found,
        name=name,
        native_format=reading.format,
        quantized_parts="experts" if reading.format == "mxfp4" else "linear",
        attention_format=None,
        group_size=_GROUP_SIZES.get(reading.format),
        gguf_bits=reading.gguf_bits,
        notes=tuple(notes),
    )


@functools.cache
def _entries() -> Mapping[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for file in sorted(resources.files(__package__).joinpath("models").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".json"):
            found.update(json.loads(file.read_text(encoding="utf-8")))
    return found


@functools.cache
def _keys() -> Mapping[str, str]:
    """Key of each name to the repository. Whole names win over plain ones, a repository's own over an alias, and where
    several have one plain name, the first."""
    whole: dict[str, str] = {}
    plain: dict[str, str] = {}
    for name, entry in _entries().items():
        for spelling in (name, *entry.get("also", ())):
            key, short = name_keys(spelling)
            whole.setdefault(key, name)
            plain.setdefault(short, name)
    own = {name_keys(name)[0]: name for name in _entries()}
    return {**plain, **whole, **own}


@functools.cache
def _short_names() -> tuple[str, ...]:
    return tuple(name.rsplit("/", 1)[-1] for name in _entries())
