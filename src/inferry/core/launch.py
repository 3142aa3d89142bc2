"""What to run: the record that an engine adapter writes and a runtime carries out."""

from __future__ import annotations

from collections.abc import Mapping
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
