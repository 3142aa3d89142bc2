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
from inferry.core.launch import KEY_MARK, EngineCommand, LaunchSpec
from inferry.core.local_engines import LlamaCppDeployment
from inferry.core.model_ref import ModelRef, ModelSource, parse_model_ref
from inferry.core.server_engines import OllamaDeployment
from inferry.engines.adapter import CommandAdapter, LaunchContext
from inferry.engines.container import ContainerModel, ContainerPlan, mounted_model, needs_key, place_inside
from inferry.engines.pod import PodProbes
from inferry.engines.program import process_place
from inferry.engines.registry import launcher_for
from inferry.models.store import ModelStore

_FETCHES = "After the start 'inferry up' fetches and loads the model"
EMBEDDED = "inferry.engines.llamacpp_child"
"""The program of the embedded llama.cpp."""


@dataclass(frozen=True, slots=True)
class ProcessForm:
    command: EngineCommand
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
    on_cpu: bool = False


@dataclass(frozen=True, slots=True)
class _Model:
    path: Path | None
    """On this machine, or where the file says that it will be."""
    name: str
    """Where there is no path: what the engine fetches itself."""
    from_hub: bool = False


def process_form(
    choice: Choice, port: int, files_folder: Path, environ: Mapping[str, str], replica: int = 0
) -> ProcessForm:
    """The process that `inferry up` would start here; if the engine is not here, the one of its newest known version.

    Raises ConfigError for what can't be started anywhere, the adapter's own reasons among it.
    """
    engine = choice.deployment.engine
    adapter = _adapter(choice.name, choice.deployment)
    model = _model(choice, environ)
    told = Path(model.name) if model.path is None else model.path
    context = LaunchContext(
        replica_id=f"{choice.name}-{replica}",
        host="127.0.0.1",
        port=port,
        model_path=told,
        served_name=choice.name,
        threads=choice.threads,
        secret=KEY_MARK,
        folder=files_folder,
        gpu_seat=replica,
    )
    try:
        command = _as_command(adapter.launch(context, environ))
        first = f"{engine} {_version_started(engine, command, environ) or adapter.version}"
    except ConfigError as error:
        command = adapter.command(process_place(context, str(told)))
        first = f"{engine} {adapter.version}, which can't be started here: {error.message}"
    notes = _notes(command, model)
    if isinstance(choice.deployment, OllamaDeployment):
        # OLLAMA_HOST also tells its client where the server is; its default port is another.
        notes.insert(0, f"{_FETCHES}: 'OLLAMA_HOST=127.0.0.1:{port} ollama pull {model.name}'.")
    return ProcessForm(command, (first, *choice.notes, *notes))


def _version_started(engine: str, command: EngineCommand, environ: Mapping[str, str]) -> str | None:
    """The version of the program that the command starts, if that is the one that is installed."""
    here = engine_here(engine, environ)
    ours = here is not None and (here.where in (command.program, *command.args) or EMBEDDED in command.args)
    return here.version if here is not None and ours else None


def _as_command(spec: LaunchSpec) -> EngineCommand:
    """A process made with the mark in place of a key, as a command that can be shown."""
    program, *args = spec.argv
    return EngineCommand(
        program,
        tuple(args),
        env={name: value for name, value in spec.env.items() if value != KEY_MARK},
        secret_env=tuple(name for name, value in spec.env.items() if value == KEY_MARK),
        files={path.name: content for path, content in spec.files.items()},
    )


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
        gpu_indexes=() if wishes.on_cpu else _gpu_indexes(deployment),
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
    notes = _notes(command, model)
    if isinstance(deployment, OllamaDeployment):
        notes.insert(0, f"{_FETCHES}: inside the container, 'ollama pull {model.name}'.")
    if isinstance(deployment, LlamaCppDeployment):
        notes.insert(
            0,
            "A container runs llama-server; 'inferry up' starts the embedded llama.cpp, unless 'binary' is set.",
        )
    return ContainerForm(plan, probes, (f"{deployment.engine} {adapter.version}", *choice.notes, *notes))


def _adapter(name: str, deployment: Deployment) -> CommandAdapter:
    adapter = launcher_for(name, deployment)
    if not isinstance(adapter, CommandAdapter):
        raise ConfigError(
            f"deployments.{name}: {deployment.engine} has no command of its own: 'inferry up' starts it, "
            "or others run it."
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


def _gpu_indexes(deployment: Deployment) -> tuple[int, ...] | None:
    indexes: list[int] | None = getattr(deployment, "gpus", None)
    return None if indexes is None else tuple(indexes)


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
