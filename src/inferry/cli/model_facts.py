"""What is known of the model that someone names: from its files where they are here, from a hub, or from shipped facts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from inferry.core.errors import ConfigError, ModelFetchFailed
from inferry.core.home import inferry_home
from inferry.core.model_ref import ModelRef, ModelSource, parse_model_ref
from inferry.core.tensor_info import TensorInfo
from inferry.planner.architecture import Architecture

_PART = re.compile(r"(.*)-\d{5}-of-(\d{5})\.gguf")


def model_facts(text: str, environ: Mapping[str, str]) -> Architecture:
    """`text`: a folder, a config.json or a GGUF file; a model in the store, by the words of the deployment file; `hf:` and
    a repository, which asks the hub, and where that can't be reached the shipped facts; or any name that ships.

    Raises ConfigError where nothing of these is known.
    """
    path = model_path(text, environ)
    if path is not None:
        found = facts_of_path(path)
        return found if _named_path(text) is not None else replace(found, name=text)
    ref = _ref(text)
    if ref is not None:
        if ref.source is ModelSource.HF and ref.file is None:
            return _from_hub(ref, environ)
        raise ConfigError(
            f"{text} is not here: 'inferry models pull {text}' fetches it, or name its repository."
        )
    from inferry.planner.facts.model_catalog import find_model

    return find_model(text)


def model_path(text: str, environ: Mapping[str, str]) -> Path | None:
    """Where `text` is on this machine: the path that it names, be there anything or not, or its place in the store."""
    named = _named_path(text)
    if named is not None:
        return named
    ref = _ref(text)
    return None if ref is None else _in_store(ref, environ)


def _named_path(text: str) -> Path | None:
    try:
        path = Path(text.removeprefix("file:")).expanduser()
        return path if text.startswith(("file:", "/", "./", "../", "~")) or path.exists() else None
    except (OSError, RuntimeError):  # too long for a name; no such user
        return None


def facts_of_path(path: Path) -> Architecture:
    """Of files on this machine. Raises ConfigError for what is no model, or can't be read."""
    try:
        return _facts_of_path(path)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror or error}") from error


def _facts_of_path(path: Path) -> Architecture:
    from inferry.models.model_facts_source import read_config, read_config_folder
    from inferry.models.safetensors_header import read_safetensors_folder
    from inferry.planner.exact_counts import with_tensors
    from inferry.planner.model_config import architecture_from_config

    if path.is_file() and path.suffix == ".gguf":
        return read_gguf_model(path)[0]
    if path.is_file():
        return architecture_from_config(path.parent.name or path.name, read_config(path), source=str(path))
    if not path.is_dir():
        raise ConfigError(f"There is no {path}.")
    if not (path / "config.json").exists():
        files = sorted(path.glob("*.gguf"))
        if files:
            return read_gguf_model(files[0])[0]
        raise ConfigError(f"{path} holds neither a config.json nor a GGUF file.")
    arch = architecture_from_config(path.name, read_config_folder(path), source=str(path / "config.json"))
    return with_tensors(arch, read_safetensors_folder(path))


def read_gguf_model(path: Path) -> tuple[Architecture, list[TensorInfo]]:
    """Its architecture with exact bytes, and its tensors, of all files that it is in. Raises ConfigError."""
    from inferry.models.gguf_header import read_gguf_header, read_gguf_tensors
    from inferry.planner.model_gguf import architecture_from_gguf

    parts = gguf_parts(path)
    tensors = [tensor for part in parts for tensor in read_gguf_tensors(part)]
    arch = architecture_from_gguf(path.stem, read_gguf_header(parts[0]), tensors, source=str(parts[0]))
    return arch, tensors


def gguf_parts(path: Path) -> list[Path]:
    """A model in several files says its sizes in the first. Raises ConfigError where one is missing."""
    split = _PART.fullmatch(path.name)
    if split is None:
        return [path]
    parts = [
        path.with_name(f"{split[1]}-{part:05}-of-{split[2]}.gguf") for part in range(1, int(split[2]) + 1)
    ]
    missing = [part for part in parts if not part.exists()]
    if missing:
        raise ConfigError(f"{missing[0]} is missing: the model is in {len(parts)} files.")
    return parts


def _ref(text: str) -> ModelRef | None:
    try:
        return parse_model_ref(text)
    except ValueError:
        return None


def _in_store(ref: ModelRef, environ: Mapping[str, str]) -> Path | None:
    from inferry.models.store import ModelStore

    stored = ModelStore(inferry_home(environ)).find(ref)
    return None if stored is None else stored.path


def _from_hub(ref: ModelRef, environ: Mapping[str, str]) -> Architecture:
    from inferry.models.model_facts_source import fetch_model_facts
    from inferry.planner.exact_counts import with_type_counts
    from inferry.planner.facts.model_catalog import find_model
    from inferry.planner.model_config import architecture_from_config

    try:
        facts = fetch_model_facts(ref, environ)
    except ModelFetchFailed as error:
        try:
            shipped = find_model(ref.name)
        except ConfigError as unknown:
            raise error from unknown
        return replace(shipped, notes=("the hub could not be asked; these are shipped facts", *shipped.notes))
    arch = architecture_from_config(
        ref.name, facts.config, source=f"config.json of {ref.name} at {facts.commit[:12]}"
    )
    return with_type_counts(arch, facts.elements_by_type)
