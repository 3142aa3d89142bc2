"""`inferry init` and `inferry config check|show|schema`: the deployment file itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, SecretStr

from inferry.core.config_file import KeyPath, LoadedFile, load_file
from inferry.core.deployment import Deployment, DeploymentFile
from inferry.core.errors import ConfigError
from inferry.core.local_engines import LlamaCppDeployment
from inferry.core.model_ref import SAMPLE_MODEL, parse_model_ref
from inferry.core.shown_url import shown_url
from inferry.models.store import shown_ref

DEFAULT_FILE = Path("inferry.yaml")

EXAMPLE = f"""\
# What Inferry serves. Check it with 'inferry config check', start it with 'inferry up'.
gateway:
  listen: 127.0.0.1:8000        # only this machine can connect

deployments:
  chat:                         # clients send this name as "model"
    engine: llamacpp            # runs inside this machine, no GPU needed
    model: {SAMPLE_MODEL}
    replicas: 2                 # two engine processes; if one dies, the other answers
"""

File = Annotated[Path, typer.Argument(metavar="FILE", help="The deployment file.", show_default=True)]

app = typer.Typer(no_args_is_help=True, help="Check, show and describe the deployment file.")


def init(
    file: File = DEFAULT_FILE,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write an example deployment file."""
    if file.exists() and not force:
        raise ConfigError(f"{file} is there already. Give another name, or --force to overwrite it.")
    try:
        file.write_text(EXAMPLE, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file} can't be written: {error.strerror or error}") from error
    typer.echo(f"Wrote {file}. Next: inferry up" + ("" if file == DEFAULT_FILE else f" {file}"))


@app.command()
def check(file: File = DEFAULT_FILE) -> None:
    """Say whether the file is right, and everything that is not."""
    from inferry.cli.config_check import check_file
    from inferry.cli.config_warnings import warnings_of
    from inferry.core.home import inferry_home

    loaded = load_file(file, os.environ)
    check_file(loaded, inferry_home(os.environ))
    for warning in warnings_of(loaded):
        typer.echo(f"warning: {warning}", err=True)
    config = loaded.config
    several = f"; {len(config.names)} name(s) over them: {', '.join(config.names)}" if config.names else ""
    names = ", ".join(config.deployments)
    typer.echo(f"{file} is right: {len(config.deployments)} deployment(s): {names}{several}")


@app.command()
def show(
    file: File = DEFAULT_FILE,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: value and origin by key.")] = False,
) -> None:
    """Print each value in effect and where it comes from. Secrets stay references."""
    rows = list(effective_values(load_file(file, os.environ)))
    if as_json:
        typer.echo(
            json.dumps({key: {"value": value, "from": origin} for key, value, origin in rows}, indent=2)
        )
        return
    width = max(len(f"{key}: {json.dumps(value)}") for key, value, _ in rows)
    for key, value, origin in rows:
        text = f"{key}: {json.dumps(value, ensure_ascii=False)}"
        typer.echo(f"{text:<{min(width, 80)}}  # {origin}")


@app.command()
def schema() -> None:
    """Print the file's JSON Schema, for editors."""
    typer.echo(json.dumps(editor_schema(), indent=2))


def editor_schema() -> dict[str, Any]:
    """The file's JSON Schema, with `${NAME}` allowed wherever a number or true and false may stand."""

    def widen(schema: Any) -> Any:
        if isinstance(schema, list):
            return [widen(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        schema = {key: widen(value) for key, value in schema.items()}
        if schema.get("type") not in ("integer", "number", "boolean"):
            return schema
        # What describes the key stays outside, what restricts the value moves into the first choice.
        outside = {key: schema.pop(key) for key in ("title", "description", "default") if key in schema}
        return {**outside, "anyOf": [schema, {"type": "string", "pattern": r"\$\{"}]}

    widened: dict[str, Any] = widen(DeploymentFile.model_json_schema())
    return widened


def effective_values(loaded: LoadedFile) -> list[tuple[str, Any, str]]:
    """(dotted key, value, where it comes from) for each value in effect; a referenced value is shown as `${NAME}`."""
    rows: list[tuple[str, Any, str]] = []

    def walk(value: Any, at: KeyPath) -> None:
        if isinstance(value, BaseModel):
            for name in type(value).model_fields:
                item = getattr(value, name)
                if isinstance(value, LlamaCppDeployment) and name == "model":
                    item = shown_model(value)
                walk(item, (*at, name))
        elif isinstance(value, dict) and value:
            for name, item in value.items():
                walk(item, (*at, name))
        elif isinstance(value, list) and any(isinstance(item, BaseModel) for item in value):
            for index, item in enumerate(value):
                walk(item, (*at, index))
        elif at in loaded.references:
            origin = "from the environment" if at in loaded.from_environment else "the default written there"
            rows.append((_dotted(at), shown_url(loaded.references[at]), f"{_line(at)}, {origin}"))
        else:
            listed = {path: text for path, text in loaded.references.items() if path[: len(at)] == at}
            shown: Any = value
            if isinstance(value, SecretStr):
                shown = "(secret)"
            elif isinstance(value, list) and listed:
                shown = [listed.get((*at, index), item) for index, item in enumerate(value)]
            rows.append((_dotted(at), shown, _line(at)))

    def _line(at: KeyPath) -> str:
        return f"{loaded.path.name}:{loaded.lines[at]}" if at in loaded.lines else "default"

    walk(loaded.config, ())
    return rows


def shown_model(deployment: Deployment) -> str:
    """The model as it may be printed: a URL may hold a password or a signed query."""
    if isinstance(deployment, LlamaCppDeployment):
        return shown_ref(parse_model_ref(deployment.model))
    return deployment.model


def _dotted(at: KeyPath) -> str:
    return ".".join(str(part) for part in at)
