"""What to run: the record that an engine adapter writes and a runtime carries out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inferry.core.replica import Endpoint


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """One engine process.

    Secrets go into `env` (never into `argv`, which every user of the machine can read), and so neither
    `env` nor `endpoint.headers` is in the repr or in a log line.
    """

    replica_id: str
    argv: tuple[str, ...]
    endpoint: Endpoint
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Added to the environment of the parent process."""
    files: Mapping[Path, str] = field(default_factory=dict, repr=False)
    """Written before it starts, for the owner's eyes only; below the context's folder. May hold secrets."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a replica's engine is to run, as its command line must know it."""

    host: str
    """Where it shall listen, and is spoken to."""
    port: int
    folder: Path
    """Where its `LaunchSpec.files` go; not made before there are any."""
    threads: int | None = None
    """Cores that are its own there; None: as many as the fleet gives it."""
    has_own_gpus: bool = False
    """Whoever gave the seat shows it its GPUs: the file's indexes mean nothing there."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a replica wants of a machine; read by runtimes that choose among several."""

    gpus: int = 0
    model_path: Path | None = None
    """Its weights, which must be there."""


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """One start that is wanted: the runtime finds a seat, and then asks what to run there."""

    replica_id: str
    deployment: str
    """Its name in the file."""
    needs: Needs
    spec_at: Callable[[Seat], LaunchSpec]
    """Made for that seat. Raises ConfigError where the engine can't be run there. A runtime whose pods are described
    elsewhere never asks."""
    say: Callable[[str], None] = lambda line: None
    """What a start that takes long is waiting for, in words for an operator."""


@dataclass(frozen=True, slots=True)
class EngineCommand:
    """How an engine is started, wherever that will be: as a process, in a container or in a pod."""

    program: str
    """Its program's usual name: `vllm`. In a container: what to run there."""
    args: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """Without secrets: those may be shown and written into manifests."""
    secret_env: tuple[str, ...] = ()
    """Variables that shall hold the replica's key."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Name to content, below the place's folder. KEY_MARK in it stands for the replica's key."""


@dataclass(frozen=True, slots=True)
class CommandPlace:
    """Where an engine shall run, as its command line sees it."""

    host: str
    port: int
    model: str
    """What the engine is told to load: a path as seen from there, or a hub id."""
    served_name: str
    folder: str
    """Of the command's `files`, as seen from there."""
    threads: int = 1
    gpu_seat: int = 0
    """See `LaunchContext.gpu_seat`."""


Headers = tuple[tuple[str, str], ...]
"""What is sent to an engine with each request; may hold its key."""

KEY_MARK = "@INFERRY_ENGINE_KEY@"


@dataclass(frozen=True, slots=True)
class ContainerNeeds:
    """What an engine's container wants besides its command."""

    image: str
    entrypoint: tuple[str, ...]
    """Always said, since engines' images have changed theirs; the command's args follow it."""
    gpus: int
    """0: it runs on the CPU."""
    shared_memory_bytes: int | None = None
    """For NCCL between processes; None: Docker's 64 MiB will do."""
    cache_folder: str | None = None
    """Where it keeps downloads and compiled kernels: worth a volume."""
