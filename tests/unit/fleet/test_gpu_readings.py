"""GPU figures from NVML, by the processes that compute there. A stand-in library: no GPU is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from types import ModuleType

import pytest
from structlog.testing import capture_logs

from inferry.core.replica import GpuPower
from inferry.fleet.gpu_readings import GpuReadings, GpuUse, gpu_readings, load_nvml


@dataclass
class Gpu:
    gpu: int
    """Percent, as NVML has it."""
    used: int
    total: int
    pids: list[int] = field(default_factory=list)
    milliwatts: int | None = None
    """None: it can't tell, and raises, as the library does for such GPUs."""


@dataclass
class Process:
    pid: int


class StandInNvml:
    """The calls of `pynvml` that are used, with its names and units (nvidia-ml-py 13.615)."""

    def __init__(self, *gpus: Gpu) -> None:
        self.gpus = gpus
        self.failure: Exception | None = None

    def nvmlInit(self) -> None:  # noqa: N802
        if self.failure is not None:
            raise self.failure

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        if self.failure is not None:
            raise self.failure
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:  # noqa: N802
        return self.gpus[index]

    def nvmlDeviceGetUtilizationRates(self, handle: Gpu) -> Gpu:  # noqa: N802
        return handle

    def nvmlDeviceGetMemoryInfo(self, handle: Gpu) -> Gpu:  # noqa: N802
        return handle

    def nvmlDeviceGetPowerUsage(self, handle: Gpu) -> int:  # noqa: N802
        if handle.milliwatts is None:
            raise RuntimeError("Not Supported")
        return handle.milliwatts

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Gpu) -> list[Process]:  # noqa: N802
        return [Process(pid) for pid in handle.pids]


def test_a_replica_has_the_busiest_and_the_fullest_of_its_gpus() -> None:
    """Two GPUs of one process group are one reading; a GPU on which nobody computes is nobody's."""
    mine, group = os.getpid(), os.getpgid(0)
    readings = GpuReadings(StandInNvml(Gpu(80, 10, 100, [mine]), Gpu(20, 60, 100, [mine]), Gpu(99, 99, 100)))
    powers = (GpuPower(0, None, users=1), GpuPower(1, None, users=1))
    assert readings.by_process_group() == {group: GpuUse(0.8, 0.6, powers)}


def test_each_gpu_says_what_it_draws_and_who_shares_it() -> None:
    """Watts, of milliwatts; processes of one group are one user; one that nobody knows may be anybody's, and counts."""
    mine, group = os.getpid(), os.getpgid(0)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, process_group=0) as other:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        library = StandInNvml(
            Gpu(80, 1, 2, [mine, mine], 412_500),
            Gpu(9, 1, 2, [mine, other.pid], 60_000),
            Gpu(9, 1, 2, [gone.pid, mine]),
        )
        found = GpuReadings(library).by_process_group()
        other.communicate(b"\n")
    assert found[group].gpus == (GpuPower(0, 412.5, 1), GpuPower(1, 60.0, 2), GpuPower(2, None, 2))
    assert found[other.pid].gpus == (GpuPower(1, 60.0, 2),)


def test_a_process_that_is_gone_is_nobodys() -> None:
    """NVML may name one that has just ended, or one of another process-id namespace."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert GpuReadings(StandInNvml(Gpu(80, 10, 100, [child.pid]))).by_process_group() == {}


def test_a_failing_library_costs_the_readings_and_one_line() -> None:
    """A driver that is being replaced is not the end of anything."""
    library = StandInNvml(Gpu(80, 10, 100, [os.getpid()]))
    readings = GpuReadings(library)
    library.failure = RuntimeError("GPU is lost")
    with capture_logs() as logs:
        assert readings.by_process_group() == readings.by_process_group() == {}
    assert [(line["event"], line["because"]) for line in logs] == [("gpu_readings_failed", "GPU is lost")]
    library.failure = None
    assert readings.by_process_group() == {os.getpgid(0): GpuUse(0.8, 0.1, (GpuPower(0, None, 1),))}


def test_without_the_library_or_a_driver_there_are_no_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is needed, and neither is an error."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_readings() is None
    library = ModuleType("pynvml")
    stand_in = StandInNvml()
    library.nvmlInit = stand_in.nvmlInit  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert load_nvml() is library
    assert isinstance(gpu_readings(), GpuReadings)
    stand_in.failure = RuntimeError("NVML Shared Library Not Found")
    with capture_logs() as logs:
        assert gpu_readings() is None
    assert [line["because"] for line in logs] == ["NVML Shared Library Not Found"]
