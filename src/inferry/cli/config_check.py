"""What can be known of a deployment file before anything is fetched or started, beyond its keys and values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inferry.cli.engines_model import what_is_wrong
from inferry.cli.serving import make_serving
from inferry.cli.weights import WITH_WEIGHTS, models_here
from inferry.core.config_file import LoadedFile, line_of
from inferry.core.errors import ConfigError
from inferry.core.model_ref import ModelSource, parse_model_ref
from inferry.core.server_engines import ServerBase


def check_file(loaded: LoadedFile, home: Path) -> None:
    """Raises ConfigError with everything that is wrong, each with its line. Blocks: reads filters and tokenizers."""
    here = models_here(loaded.config, home)
    problems = _wrong_models(loaded, here)
    try:
        make_serving(loaded.config, here)
    except ConfigError as error:
        problems += error.message.splitlines()
    if problems:
        placed = loaded.placed("\n".join(problems)).splitlines()
        raise ConfigError("\n".join(sorted(placed, key=line_of)))


@contextmanager
def errors_placed(loaded: LoadedFile) -> Iterator[None]:
    """A ConfigError from within gets file and line before each key that it begins with."""
    try:
        yield
    except ConfigError as error:
        error.message = loaded.placed(error.message)
        raise


def _wrong_models(loaded: LoadedFile, here: dict[str, Path | None]) -> list[str]:
    """Files that are not there, and what the engine can't load. What is yet to be fetched is not judged."""
    problems = []
    for name, deployment in loaded.config.deployments.items():
        if not isinstance(deployment, WITH_WEIGHTS):
            continue
        ref = parse_model_ref(deployment.model)
        path = here.get(name)
        if path is None and ref.source is ModelSource.FILE:
            problems.append(
                f"deployments.{name}.model: {ref.name} does not exist. Correct the path behind 'file:'."
            )
        elif path is not None and isinstance(deployment, ServerBase):
            wrong = what_is_wrong(deployment.engine, path)
            if wrong is not None:
                problems.append(f"deployments.{name}.model: {wrong[0]}: {wrong[1]}.")
    return problems
