"""How busy and how full are the GPUs of a replica, and what do they draw? Asked of NVIDIA's library NVML, where it is installed.

A GPU is a replica's if one of the replica's processes computes on it: NVML names the processes, and engines that
we start have a process group of their own. What runs in a container without the host's process ids is not found;
its replica has no GPU readings then, and goes by what its engine tells.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import structlog

from inferry.core.replica import GpuPower

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class GpuUse:
    """`busy` and `memory`: 0 to 1; of several GPUs, the busiest and the fullest."""

    busy: float
    memory: float
    gpus: tuple[GpuPower, ...] = ()
    """Each of them."""


class Nvml(Protocol):
    """The part of `pynvml` (distribution nvidia-ml-py) that is used here. Every call may raise."""

    def nvmlInit(self) -> None: ...  # noqa: N802 - the library's names

    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...  # noqa: N802

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any: ...  # noqa: N802

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...  # noqa: N802

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int: ...  # noqa: N802

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> Sequence[Any]: ...  # noqa: N802


def load_nvml() -> Nvml | None:
    """The library, ready to be asked; None if it is not installed, or there is no driver."""
    try:
        library = cast(Nvml, importlib.import_module("pynvml"))
        library.nvmlInit()
    except ImportError:
        return None
    except Exception as error:  # noqa: BLE001 - a class of the library's own for each of its errors
        log.info("no_gpu_readings", because=str(error))
        return None
    return library


class GpuReadings:
    """Asks `library` for all GPUs at once. Blocks for some milliseconds: not for the event loop's thread."""

    def __init__(self, library: Nvml) -> None:
        self._library = library
        self._failing = False

    def by_process_group(self) -> Mapping[int, GpuUse]:
        """By process group id; empty where the library fails, which is logged once."""
        try:
            found = self._read()
        except Exception as error:  # noqa: BLE001 - as above; readings are advice, nothing depends on them
            if not self._failing:
                log.warning("gpu_readings_failed", because=str(error))
            self._failing = True
            return {}
        self._failing = False
        return found

    def _read(self) -> Mapping[int, GpuUse]:
        library = self._library
        found: dict[int, GpuUse] = {}
        for index in range(library.nvmlDeviceGetCount()):
            gpu = library.nvmlDeviceGetHandleByIndex(index)
            memory = library.nvmlDeviceGetMemoryInfo(gpu)
            busy = library.nvmlDeviceGetUtilizationRates(gpu).gpu / 100
            full = memory.used / memory.total if memory.total else 0.0
            groups = [
                _process_group(process.pid) for process in library.nvmlDeviceGetComputeRunningProcesses(gpu)
            ]
            known = {group for group in groups if group is not None}
            power = GpuPower(index, self._power_w(gpu), users=len(known) + groups.count(None))
            for group in known:
                so_far = found.get(group, GpuUse(0.0, 0.0))
                found[group] = GpuUse(max(so_far.busy, busy), max(so_far.memory, full), (*so_far.gpus, power))
        return found

    def _power_w(self, gpu: Any) -> float | None:
        """NVML has milliwatts: the mean of a second on Ampere and newer, but for GA100's; of that moment on others."""
        try:
            return self._library.nvmlDeviceGetPowerUsage(gpu) / 1000
        except Exception:  # noqa: BLE001 - GPUs without power management; their other readings are as good as ever
            return None


def gpu_readings() -> GpuReadings | None:
    """Of this machine's GPUs; None where nobody can be asked."""
    library = load_nvml()
    return None if library is None else GpuReadings(library)


def _process_group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:  # it has ended, or is not of this namespace
        return None
