"""A deployment's engine as a process, a container or a pod: the same adapter that `inferry up` uses, three forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inferry.cli.engines_choice import Choice
from inferry.cli.engines_here import engine_here
from inferry.core.deployment import Deployment
from inferry.core.deployment_base import ManagedBase
from inferry.core.errors import ConfigError
from inferry.core.home import inferry_home
from inferry.core.launch import CommandPlace, EngineCommand
from inferry.core.model_ref import ModelRef, ModelSource, parse_model_ref
from inferry.core.server_engines import OllamaDeployment, ProgramBase
from inferry.engines.adapter import CommandAdapter
from inferry.engines.container import ContainerModel, ContainerPlan, mounted_model, needs_key, place_inside
from inferry.engines.pod import PodProbes
from inferry.engines.program import find_program
from inferry.engines.registry import adapter_for
from inferry.models.store import ModelStore


@dataclass(frozen=True, slots=True)
class ProcessForm:
    command: EngineCommand
    program: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContainerForm:
    plan: ContainerPlan
    probes: PodProbes
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContainerWishes:
    """What the operator wants of the container, beyond the deployment."""

    user: str | None = None
    restart: str | None = "unless-stopped"


@dataclass(frozen=True, slots=True)
class _Model:
    path: Path | None
    """On this machine, or where the file says that it will be."""
    name: str
    """Where there is no path: what the engine fetches itself."""
    from_hub: bool = False


def process_form(choice: Choice, port: int, files_folder: Path, environ: Mapping[str, str]) -> ProcessForm:
    """The command for this machine: flags for the version that is installed here, else for the newest known.

    Raises ConfigError for what can't be started, the adapter's own reasons among it.
    """
    deployment, engine = choice.deployment, choice.deployment.engine
    here = engine_here(engine, environ)
    if isinstance(deployment, ProgramBase) and deployment.version is None and here and here.version:
        deployment = deployment.model_copy(update={"version": here.version})
    adapter = _adapter(choice.name, deployment)
    model = _model(choice, environ)
    told = model.name if model.path is None else str(model.path)
    place = CommandPlace("127.0.0.1", port, told, choice.name, str(files_folder), choice.threads)
    command = adapter.command(place)
    binary: str | None = getattr(deployment, "binary", None)
    try:
        program = find_program(choice.name, binary, command.program, engine, environ)
    except ConfigError:
        program = binary or command.program
        first = f"{engine} {adapter.version}; '{program}' is not on this machine."
    else:
        first = f"{engine} {adapter.version}"
    return ProcessForm(command, program, (first, *choice.notes, *_notes(command, model)))


def container_form(
    choice: Choice, port: int, files_folder: Path, environ: Mapping[str, str], wishes: ContainerWishes
) -> ContainerForm:
    """The command for a container. Raises ConfigError as `process_form`."""
    deployment = choice.deployment
    adapter = _adapter(choice.name, deployment)
    assert isinstance(deployment, ManagedBase)  # whoever has a command is started by us
    model = _model(choice, environ)
    inside = (
        ContainerModel(model.name, None, hub=model.from_hub)
        if model.path is None
        else mounted_model(model.path)
    )
    command = adapter.command(place_inside(inside, port, choice.name, choice.threads))
    plan = ContainerPlan(
        name=choice.name,
        command=command,
        needs=adapter.container(),
        port=port,
        model=inside,
        files_folder=files_folder,
        stop_grace_s=deployment.stop_grace_s,
        hidden_env=choice.hidden_env,
        other_mounts=_other_paths(deployment),
        user=wishes.user,
        restart=wishes.restart,
    )
    health = deployment.health
    probes = PodProbes(
        adapter.probe_path,
        deployment.start_timeout_s,
        health.interval_s,
        health.timeout_s,
        health.failures_max,
    )
    notes = (f"{deployment.engine} {adapter.version}", *choice.notes, *_notes(command, model))
    return ContainerForm(plan, probes, notes)


def _adapter(name: str, deployment: Deployment) -> CommandAdapter:
    adapter = adapter_for(name, deployment)
    if not isinstance(adapter, CommandAdapter):
        engine = deployment.engine
        ways = {
            "llamacpp": "the embedded llama.cpp runs inside Inferry: start it with 'inferry up', "
            "or name a llama-server in 'binary'",
            "simulated": "it is a part of Inferry: start it with 'inferry up'",
        }
        raise ConfigError(
            f"deployments.{name}: {engine} has no command of its own: {ways.get(engine, 'others run it')}."
        )
    return adapter


def _model(choice: Choice, environ: Mapping[str, str]) -> _Model:
    """The model in Inferry's store if it is there, else where it will be, else what the engine fetches itself."""
    deployment = choice.deployment
    if isinstance(deployment, OllamaDeployment):
        return _Model(None, deployment.model)
    ref = parse_model_ref(str(deployment.model))
    stored = ModelStore(inferry_home(environ)).find(ref)
    if stored is not None:
        return _Model(stored.path, "")
    if ref.source is ModelSource.FILE:
        return _Model(Path(ref.name).expanduser().absolute(), "")
    if ref.source is ModelSource.HF and ref.file is None and ref.revision is None:
        return _Model(None, ref.name, from_hub=True)
    raise ConfigError(f"deployments.{choice.name}.model: {_why_fetch(ref)}: 'inferry models pull {ref}'")


def _why_fetch(ref: ModelRef) -> str:
    if ref.revision is not None and ref.file is None:
        return "an engine that fetches the model itself would not take this revision; fetch it first"
    return "the file is not in Inferry's store yet; fetch it first"


def _other_paths(deployment: Deployment) -> tuple[Path, ...]:
    """Folders that the command names besides the model: LoRA adapters and draft models that are no hub ids."""
    named: list[str] = list(getattr(deployment, "lora", {}).values())
    speculative = getattr(deployment, "speculative", None)
    if speculative is not None and speculative.model is not None:
        named.append(speculative.model)
    return tuple(dict.fromkeys(Path(each) for each in named if each.startswith("/")))


def _notes(command: EngineCommand, model: _Model) -> list[str]:
    notes = []
    if model.from_hub:
        notes.append(
            f"{model.name} is not in Inferry's store: the engine fetches it itself. 'inferry up' would fetch it first."
        )
    elif model.path is not None and not model.path.exists():
        notes.append(f"{model.path} is not on this machine.")
    if not needs_key(command):
        notes.append("This engine asks for no key: let nothing but the gateway reach its port.")
    return notes
