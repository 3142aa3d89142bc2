"""What `inferry plan` refuses before it plans: words that can't be meant, and files that it could not write."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from inferry.core.errors import ConfigError, InferryError
from inferry.planner.checkpoints import GGUF_ENGINES
from inferry.planner.setup import EngineName

if TYPE_CHECKING:
    from inferry.cli.plan_model import PlannedModel

EXIT_NOT_PLANNED = 2
"""As for an option that nobody knows; 1 is an answer: it does not do what is asked."""


@contextmanager
def refusals(*, as_json: bool) -> Iterator[None]:
    """Lets programs tell what could not be planned from what does not do: by the exit code, and as JSON on stdout."""
    try:
        yield
    except InferryError as error:
        error.exit_code = EXIT_NOT_PLANNED
        if as_json:
            typer.echo(json.dumps({"verdict": "not_planned", "error": error.message}, indent=2))
        raise


def check_files(write: Path | None, svg: Path | None, *, force: bool) -> None:
    """Raises ConfigError before the work, not after it."""
    if write is not None and write.exists() and not force:
        raise ConfigError(
            f"{write} is there already. Give another name to --write, or --force to overwrite it."
        )
    for option, path in (("--write", write), ("--svg", svg)):
        if path is not None and not path.parent.is_dir():
            raise ConfigError(f"{option} {path}: there is no folder {path.parent}.")


def check_writable(model: PlannedModel, engines: Sequence[EngineName], write: Path) -> None:
    """Raises ConfigError where no deployment file could name the model, for the engines that were asked for."""
    if not model.source:
        raise ConfigError(
            f"--write {write}: of which repository {model.architecture.name} is, the planner does not know. "
            "Name it whole, as org/name."
        )
    by_ollama, by_llamacpp = "ollama" in engines, "llamacpp" in engines
    others = any(engine not in GGUF_ENGINES for engine in engines)
    if others or (by_ollama and model.ollama) or (by_llamacpp and model.gguf):
        return
    if by_ollama:
        raise ConfigError(
            f"--write {write} for Ollama: under which name its library has {model.architecture.name}, the planner does "
            "not know. Plan it by that name, as llama3.1:8b."
        )
    raise ConfigError(
        f"--write {write} for llama.cpp: it serves GGUF files, and {model.architecture.name} names none. Plan the "
        "file: a path, or hf:org/name/file.gguf after 'inferry models pull'."
    )
