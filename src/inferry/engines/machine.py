"""What a machine has that engines need: plain data, read elsewhere. None stands for what can't be read there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `inferry engines doctor`."""

    about: str
    verdict: Verdict
    text: str
    way_out: str | None = None
    """What to do about it; always there when it is no pass."""


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    memory_bytes: int
    used_bytes: int


@dataclass(frozen=True, slots=True)
class Driver:
    """NVIDIA's, with the GPUs that it shows."""

    version: str
    cuda: str | None
    """The newest CUDA that it runs: `12.4`."""
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True, slots=True)
class Machine:
    python: tuple[int, int]
    cores: int
    """Those that this process may use."""
    cores_of_machine: int
    driver: Driver | None
    """None: no NVIDIA driver answers."""
    amd_gpu: bool
    """AMD's driver is there; nothing more is looked at."""
    driver_problem: str | None
    """Why a driver that is there does not answer."""
    memory_bytes: int | None
    """Of the machine, or less where a cgroup says so."""
    memory_available_bytes: int | None
    disk_folder: str
    """Where models are kept."""
    disk_free_bytes: int | None
    disk_writable: bool
    shm_bytes: int | None
    """Size of /dev/shm."""
    open_files_max: int | None
    """The soft limit of this process."""
    tasks_max: int | None
    """Processes and threads that the cgroup allows; None: no limit."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one deployment of a file asks of the machine."""

    name: str
    engine: str
    replicas: int
    gpus: int
    """Per replica; 0: it runs on the CPU."""
    gpu_indexes: tuple[int, ...] | None
    """Those that the file names."""
    model_bytes: int | None
    """None: not here yet, or not known."""
    model_missing: str | None
    """How to bring the model here; None: it is here, or the engine brings it."""
    model_fetchable: bool
    """Whether `inferry up` brings a missing model itself."""
    cannot_start: str | None
    """Why its engine can't be started here, with the way out in it."""
    model_wrong: tuple[str, str] | None = None
    """Why its engine can't load the model that is here, and the way out."""


@dataclass(frozen=True, slots=True)
class BusyPort:
    """A port of the file that something else has."""

    key: str
    address: str
    why: str
