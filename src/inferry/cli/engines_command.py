"""`inferry engines command`: the exact command that starts an engine, to read, keep and paste."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferry.core.errors import ConfigError

if TYPE_CHECKING:
    from inferry.cli.engines_choice import Choice
    from inferry.cli.engines_forms import ContainerForm, ProcessForm
    from inferry.engines.presets import Preset

DEFAULT_PORT = 8001
"""Not the gateway's 8000: that one stands in front."""


def command(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="ENGINE", help="An engine's name; with --file: the deployment's.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A hub name, a path, or a source as in the file.")
    ] = None,
    shell: Annotated[bool, typer.Option("--shell", help="For this machine (the default).")] = False,
    docker: Annotated[bool, typer.Option("--docker", help="As 'docker run'.")] = False,
    pod: Annotated[bool, typer.Option("--pod", help="As a Kubernetes pod in YAML.")] = False,
    preset: Annotated[
        str | None, typer.Option("--preset", help="Begin with: development, production or quantized.")
    ] = None,
    tp: Annotated[int | None, typer.Option("--tp", help="GPUs that share each layer.")] = None,
    pp: Annotated[int | None, typer.Option("--pp", help="Groups of layers, each on GPUs of its own.")] = None,
    dp: Annotated[int | None, typer.Option("--dp", help="Copies of the model in one replica.")] = None,
    context_tokens: Annotated[
        int | None, typer.Option("--context-tokens", help="Longest prompt and answer together.")
    ] = None,
    quantization: Annotated[str | None, typer.Option("--quantization", help="In the engine's word.")] = None,
    kv_cache_dtype: Annotated[
        str | None, typer.Option("--kv-cache-dtype", help="In the engine's word.")
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", help="The engine's, for its flags and its image.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other key of the deployment; repeatable."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Take the deployment from this file.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What requests send as 'model'.")] = None,
    port: Annotated[int, typer.Option("--port", help="Where the engine listens.", min=1, max=65535)] = (
        DEFAULT_PORT
    ),
    user: Annotated[
        str | None, typer.Option("--user", metavar="UID[:GID]", help="Whom a container runs as.")
    ] = None,
    restart: Annotated[
        str, typer.Option("--restart", help="Docker's policy; 'none': the container goes when it ends.")
    ] = "unless-stopped",
    cpu: Annotated[
        bool, typer.Option("--cpu", help="A container without GPUs; see that its image is one for that.")
    ] = False,
    claim: Annotated[
        str | None, typer.Option("--claim", help="For --pod: the PersistentVolumeClaim with the model.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Print the command that starts an engine, as 'inferry up' would; nothing is started."""
    from inferry.cli.engines_choice import choose_from_file, choose_from_options
    from inferry.cli.engines_forms import ContainerWishes, container_form, process_form

    if shell + docker + pod > 1:
        raise ConfigError("Say one of --shell, --docker and --pod.")
    _check_container_options(user, restart, claim)
    options: dict[str, Any] = {
        "model": model,
        "tensor_parallel": tp,
        "pipeline_parallel": pp,
        "data_parallel": dp,
        "context_tokens": context_tokens,
        "quantization": quantization,
        "kv_cache_dtype": kv_cache_dtype,
        "version": version,
    }
    if file is not None:
        given = [f"--{key}" for key, value in options.items() if value is not None]
        given += ["--preset"] if preset else []
        given += ["--set"] if settings else []
        if given or name is not None:
            raise ConfigError(f"With --file everything comes from {file}: write it there.")
        choice = choose_from_file(file, subject, os.environ)
    elif subject is None:
        raise ConfigError("Name an engine, as in: inferry engines command vllm --model org/name")
    else:
        choice = choose_from_options(
            subject, name, options, _preset(preset), settings or (), in_container=docker or pod
        )
    files_folder = Path.cwd() / f"{choice.name}.files"
    if docker or pod:
        wishes = ContainerWishes(user, None if restart == "none" else restart, on_cpu=cpu)
        form = container_form(choice, port, files_folder, os.environ, wishes)
        text = _pod(form, claim, as_json) if pod else _docker(form, as_json)
    else:
        text = _process(process_form(choice, port, files_folder, os.environ), choice, files_folder, as_json)
    typer.echo(text, nl=False)


def _preset(word: str | None) -> Preset | None:
    from inferry.core.suggest import did_you_mean
    from inferry.engines.presets import PRESETS

    for preset in PRESETS:
        if word == preset:
            return preset
    if word is None:
        return None
    raise ConfigError(f"There is no preset '{word}'.{did_you_mean(word, PRESETS)}")


def _check_container_options(user: str | None, restart: str, claim: str | None) -> None:
    import re

    # The API reference's "DNS Subdomain Names", which those of claims must be.
    label = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
    if claim is not None and not (len(claim) <= 253 and re.fullmatch(rf"{label}(\.{label})*", claim)):
        raise ConfigError(
            f"--claim {claim}: Kubernetes takes small letters, digits, '-' and '.', as in model-weights"
        )

    if user is not None and not re.fullmatch(r"\d{1,10}(:\d{1,10})?", user):
        raise ConfigError(f"--user {user}: write numbers, as in 1000 or 1000:1000")
    if not re.fullmatch(r"none|no|always|unless-stopped|on-failure(:\d+)?", restart):
        raise ConfigError(
            f"--restart {restart}: one of none, no, always, unless-stopped, on-failure[:TIMES] is needed"
        )


def _process(form: ProcessForm, choice: Choice, files_folder: Path, as_json: bool) -> str:
    from inferry.engines.shell_text import comment, process_text

    if not as_json:
        text = process_text(form.command, files_folder, choice.hidden_env)
        return comment(form.notes) + text
    command = form.command
    unseen = {*choice.hidden_env, *command.secret_env}
    shown = {name: value for name, value in command.env.items() if name not in unseen}
    return _json(
        {
            "argv": [command.program, *command.args],
            "env": shown,
            "env_from_outside": sorted(choice.hidden_env & set(command.env)),
            "key_env": list(command.secret_env),
            "files": {str(files_folder / name): content for name, content in command.files.items()},
            "notes": list(form.notes),
        }
    )


def _docker(form: ContainerForm, as_json: bool) -> str:
    from inferry.engines.container import docker_argv
    from inferry.engines.shell_text import comment, docker_text

    if not as_json:
        return comment(form.notes) + docker_text(form.plan)
    plan = form.plan
    return _json(
        {
            "argv": list(docker_argv(plan)),
            "env_from_outside": [name for name in plan.passed_env if name not in plan.command.secret_env],
            "key_env": list(plan.command.secret_env),
            "files": {str(plan.files_folder / name): text for name, text in plan.command.files.items()},
            "notes": list(form.notes),
        }
    )


def _pod(form: ContainerForm, claim: str | None, as_json: bool) -> str:
    from inferry.engines import pod
    from inferry.engines.shell_text import comment

    if as_json:
        return _json(pod.pod(form.plan, form.probes, claim))
    notes = list(form.notes)
    if keys := pod.secret_keys(form.plan):
        notes.append(f"It takes {', '.join(keys)} from the Secret {pod.secrets_name(form.plan)}, made by:")
        notes.append(f"  {pod.secret_recipe(form.plan)}")
    return comment(notes) + pod.pod_yaml(form.plan, form.probes, claim)


def _json(value: object) -> str:
    import json

    return json.dumps(value, indent=2) + "\n"
