"""An engine's command in a container: what it is told inside, and the `docker run` that starts it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from inferry.core.launch import KEY_MARK, CommandPlace, ContainerNeeds, EngineCommand
from inferry.engines.gpus import VISIBLE_GPUS

MODEL_FOLDER = "/model"
FILES_FOLDER = "/inferry"
"""Inside: where the model is, and the command's files."""

HUB_TOKEN = "HF_TOKEN"
"""What engines that fetch from the hub read their token from; only its name is ever written."""

_SPLIT_GGUF = re.compile(r".*-\d{5}-of-\d{5}\.gguf")

Words = tuple[str, ...]
"""Words of a command that belong together: a flag and its value."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or folder of the machine, for reading only."""

    outside: Path
    inside: str


@dataclass(frozen=True, slots=True)
class ContainerModel:
    """The model as a container has it."""

    told: str
    """What the engine is told to load: a path inside, or a name that it fetches itself."""
    mount: Mount | None
    """None: the engine fetches it."""
    hub: bool = False
    """It is fetched from Hugging Face's hub."""


def mounted_model(path: Path) -> ContainerModel:
    """A model of this machine: its folder, its file, or the folder of a file that has several parts."""
    if path.suffix != ".gguf":
        return ContainerModel(MODEL_FOLDER, Mount(path, MODEL_FOLDER))
    inside = str(PurePosixPath(MODEL_FOLDER, path.name))
    if _SPLIT_GGUF.fullmatch(path.name):
        return ContainerModel(inside, Mount(path.parent, MODEL_FOLDER))
    return ContainerModel(inside, Mount(path, inside))


def place_inside(model: ContainerModel, port: int, served_name: str, threads: int) -> CommandPlace:
    """Where the command runs, as it is seen from inside. It listens for all: the container is the wall."""
    return CommandPlace("0.0.0.0", port, model.told, served_name, FILES_FOLDER, threads)


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """All that the container forms of one replica have in common."""

    name: str
    command: EngineCommand
    """Made for `place_inside`."""
    needs: ContainerNeeds
    port: int
    model: ContainerModel
    files_folder: Path
    """Of this machine: where the command's files are written, for the eyes of their owner."""
    stop_grace_s: float
    gpu_indexes: tuple[int, ...] | None = None
    """Those that the file names; None: any."""
    hidden_env: frozenset[str] = frozenset()
    """Variables of the command whose values came by reference: only their names are written."""
    other_mounts: tuple[Path, ...] = ()
    """Adapters and draft models that the arguments name; the same path inside."""
    user: str | None = None
    """UID[:GID]; None: the image's."""
    restart: str | None = "unless-stopped"
    """Docker's restart policy; None: the container goes when the engine ends."""

    @property
    def container_name(self) -> str:
        """Docker takes none of one letter, which a deployment may have."""
        return f"inferry-{self.name}"

    @property
    def shown_env(self) -> dict[str, str]:
        """What may be written. Which GPUs it sees is for the container's own settings: inside, they count from 0."""
        hidden = {*self.hidden_env, *self.command.secret_env, VISIBLE_GPUS}
        return {name: value for name, value in self.command.env.items() if name not in hidden}

    @property
    def passed_env(self) -> Words:
        """Variables whose values come from outside: keys, references, the hub's token where it may be wanted."""
        hidden = [name for name in self.command.env if name in self.hidden_env]
        token = [HUB_TOKEN] if self.model.hub and HUB_TOKEN not in self.command.env else []
        return tuple(dict.fromkeys((*self.command.secret_env, *hidden, *token)))

    @property
    def gpus(self) -> int:
        """How many it gets; 0: it runs on the CPU."""
        return 0 if self.gpu_indexes == () else self.needs.gpus

    @property
    def inside(self) -> Words:
        """What runs in the container."""
        return (*self.needs.entrypoint, *self.command.args)


def needs_key(command: EngineCommand) -> bool:
    """Whether the engine is given the replica's key at all; some have none to give it to."""
    return bool(command.secret_env) or has_key_in_files(command)


def has_key_in_files(command: EngineCommand) -> bool:
    return any(KEY_MARK in content for content in command.files.values())


def docker_argv(plan: ContainerPlan) -> Words:
    """The whole `docker run`."""
    return tuple(word for words in docker_words(plan) for word in words)


def docker_words(plan: ContainerPlan) -> list[Words]:
    """The same, in groups that belong on one line."""
    program, *first_arguments = plan.needs.entrypoint
    words: list[Words] = [("docker", "run"), ("--name", plan.container_name)]
    words += [("--rm",)] if plan.restart is None else [("--detach",), ("--restart", plan.restart)]
    # Engines start children: a first process that reaps them, and hands on signals.
    words += [("--init",), ("--stop-timeout", str(math.ceil(plan.stop_grace_s)))]
    words += [("--security-opt", "no-new-privileges")]
    if plan.user is not None:
        words.append(("--user", plan.user))
    if plan.gpus:
        indexes = ",".join(map(str, plan.gpu_indexes or ()))
        # Docker reads the value as CSV, so a list of GPUs is quoted within it.
        words.append(("--gpus", f'"device={indexes}"' if indexes else str(plan.gpus)))
    if plan.needs.shared_memory_bytes is not None:
        words.append(("--shm-size", size_text(plan.needs.shared_memory_bytes)))
    # Loopback only: an engine's key covers some of its routes at best.
    words.append(("--publish", f"127.0.0.1:{plan.port}:{plan.port}"))
    words += [("--mount", _bind(mount)) for mount in _mounts(plan)]
    if plan.needs.cache_folder is not None:
        volume = f"type=volume,source={plan.container_name}-cache,target={plan.needs.cache_folder}"
        words.append(("--mount", volume))
    words += [("--env", f"{name}={value}") for name, value in plan.shown_env.items()]
    words += [("--env", name) for name in plan.passed_env]
    words += [("--entrypoint", program), (plan.needs.image,)]
    return words + grouped((*first_arguments, *plan.command.args))


def _mounts(plan: ContainerPlan) -> list[Mount]:
    mounts = [plan.model.mount] if plan.model.mount is not None else []
    mounts += [Mount(path, str(path)) for path in plan.other_mounts]
    if plan.command.files:
        mounts.append(Mount(plan.files_folder, FILES_FOLDER))
    return mounts


def _bind(mount: Mount) -> str:
    """`--mount`, not `--volume`: a path that is not there is an error, not a new folder of root's."""
    fields = ("type=bind", f"source={mount.outside}", f"target={mount.inside}", "readonly")
    return ",".join(_csv_field(each) for each in fields)


def _csv_field(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n') else text


def grouped(args: Words) -> list[Words]:
    """Arguments in groups: each flag with what follows it."""
    groups: list[list[str]] = []
    for word in args:
        if not groups or _is_flag(word):
            groups.append([word])
        else:
            groups[-1].append(word)
    return [tuple(group) for group in groups]


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not re.fullmatch(r"-\d+(\.\d+)?", word)


def size_text(size_bytes: int) -> str:
    """As Docker writes sizes: `8g`."""
    for unit, factor in (("g", 1024**3), ("m", 1024**2), ("k", 1024)):
        if size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)
