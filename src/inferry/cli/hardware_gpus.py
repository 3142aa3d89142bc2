"""The GPUs of this machine: through NVML where its Python bindings are installed, else by nvidia-smi."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from inferry.cli.machine_readings import AMD_DRIVER, read_driver

INSTALL_NVML = "pip install 'inferry[gpu]'"


@dataclass(frozen=True, slots=True)
class GpuHere:
    index: int
    name: str
    """The driver's."""
    memory_bytes: int
    used_bytes: int
    reserved_bytes: int | None = None
    """By the driver, for itself; None: not told."""
    compute_capability: str | None = None
    power_limit_w: float | None = None
    nvlinks: int | None = None
    """Links to other GPUs that are up; None: not told."""


@dataclass(frozen=True, slots=True)
class GpusHere:
    gpus: tuple[GpuHere, ...]
    read_by: str | None
    """None: there was nobody to ask."""
    driver: str | None = None
    remark: str | None = None
    """Why there is nothing, or less than there could be, and the way out."""


def read_gpus() -> GpusHere:
    """All NVIDIA GPUs. Never raises: what can't be read is told as a remark."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return _by_nvidia_smi()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return _nothing(f"NVML finds no NVIDIA driver ({error})")
    try:
        count = nvml.nvmlDeviceGetCount()
        gpus = tuple(_read_gpu(nvml, index) for index in range(count))
        return GpusHere(gpus, "NVML", _text(nvml.nvmlSystemGetDriverVersion()))
    except nvml.NVMLError as error:
        return _nothing(f"NVML fails: {error}")
    finally:
        nvml.nvmlShutdown()


def _read_gpu(nvml: Any, index: int) -> GpuHere:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    name = _text(nvml.nvmlDeviceGetName(handle))
    memory = _asked(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    exact = _asked(nvml, nvml.nvmlDeviceGetMemoryInfo, handle, getattr(nvml, "nvmlMemory_v2", None))
    capability = _asked(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle)
    power_mw = _asked(nvml, nvml.nvmlDeviceGetPowerManagementLimit, handle)
    return GpuHere(
        index=index,
        name=name,
        # GPUs that share the machine's memory have none of their own to tell.
        memory_bytes=0 if memory is None else int(memory.total),
        used_bytes=0 if memory is None else int(memory.used),
        reserved_bytes=None if exact is None else getattr(exact, "reserved", None),
        compute_capability=None if capability is None else f"{capability[0]}.{capability[1]}",
        power_limit_w=None if power_mw is None else power_mw / 1000,
        nvlinks=_nvlinks(nvml, handle),
    )


def _nvlinks(nvml: Any, handle: Any) -> int | None:
    states = [_asked(nvml, nvml.nvmlDeviceGetNvLinkState, handle, link) for link in range(18)]
    return None if all(state is None for state in states) else sum(1 for state in states if state)


def _asked(nvml: Any, question: Any, *arguments: Any) -> Any:
    """The answer; None where this GPU or this driver has none."""
    try:
        return question(*arguments)
    except (nvml.NVMLError, TypeError, AttributeError):
        return None


def _text(answer: str | bytes) -> str:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer


def _by_nvidia_smi() -> GpusHere:
    driver, problem = read_driver()
    if driver is None:
        return _nothing(problem)
    gpus = tuple(
        GpuHere(index, gpu.name, gpu.memory_bytes, gpu.used_bytes) for index, gpu in enumerate(driver.gpus)
    )
    remark = f"More is read with NVML's bindings: {INSTALL_NVML}"
    return GpusHere(gpus, "nvidia-smi", driver.version, remark)


def _nothing(problem: str | None) -> GpusHere:
    if problem is not None:
        return GpusHere((), None, remark=problem)
    if AMD_DRIVER.exists():
        return GpusHere(
            (),
            None,
            remark="AMD's driver is here, but AMD GPUs are not read: name them with 'inferry plan --gpu'.",
        )
    return GpusHere(
        (), None, remark=f"No NVIDIA driver answers. Where there is one, more is read with: {INSTALL_NVML}"
    )
