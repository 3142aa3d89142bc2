# ruff: noqa: N802, N815 - the names of NVML's own functions
"""`inferry hardware`: GPUs by a made-up NVML, the CPU from written files, and what the planner gets of both."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inferry.cli import hardware_gpus
from inferry.cli.calibrate_machine import fingerprint
from inferry.cli.hardware_cpu import CpuHere, read_cpu
from inferry.cli.hardware_gpus import GpusHere, read_gpus
from inferry.cli.hardware_here import (
    MachineHere,
    cpu_device,
    device_list,
    is_measured,
    machine_here,
    unknown_gpus,
)
from inferry.engines.machine import Driver, Gpu
from inferry.fleet.calibration_file import write_calibration
from inferry.planner.calibration import Calibration, Rates, Reading

from .conftest import Run

GIB = 2**30


class NVMLError(Exception):
    """As NVML's own."""


class FakeNvml:
    """NVML's functions for cards that are made up; what a card has no answer for raises, as the real one does."""

    NVMLError = NVMLError
    nvmlMemory_v2 = 2

    def __init__(self, *cards: dict[str, Any], fails: str | None = None) -> None:
        self.cards = cards
        self.fails = fails
        self.open = 0

    def nvmlInit(self) -> None:
        if self.fails is not None:
            raise NVMLError(self.fails)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"570.86.10"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        return self.cards[index]

    def nvmlDeviceGetName(self, card: dict[str, Any]) -> str:
        return str(card["name"])

    def nvmlDeviceGetMemoryInfo(self, card: dict[str, Any], version: int | None = None) -> Any:
        if "total" not in card:
            raise NVMLError("Not Supported")
        info = SimpleNamespace(total=card["total"], used=card["used"])
        if version == 2:
            info.reserved = card["reserved"]
        return info

    def nvmlDeviceGetCudaComputeCapability(self, card: dict[str, Any]) -> tuple[int, int]:
        return (9, 0)

    def nvmlDeviceGetPowerManagementLimit(self, card: dict[str, Any]) -> int:
        return 700_000

    def nvmlDeviceGetNvLinkState(self, card: dict[str, Any], link: int) -> int:
        if link >= card.get("nvlinks", 0):
            raise NVMLError("Invalid Argument")
        return 1


H100 = {
    "name": "NVIDIA H100 80GB HBM3",
    "total": 81_559 * 2**20,
    "used": 600 * 2**20,
    "reserved": 470 * 2**20,
    "nvlinks": 18,
}
CPU = CpuHere("A CPU", "amd", 8, ("AVX-512", "AVX2"), 64 * GIB, 48 * GIB)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(*cards: dict[str, Any], fails: str | None = None) -> FakeNvml:
        fake = FakeNvml(*cards, fails=fails)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    return use


def test_gpus_are_read_through_nvml(nvml: Any) -> None:
    """Name, memory, capability, power and links; the library is closed again."""
    fake = nvml(H100, H100)
    here = read_gpus()
    assert here.read_by == "NVML"
    assert here.driver == "570.86.10"
    assert [gpu.index for gpu in here.gpus] == [0, 1]
    gpu = here.gpus[0]
    assert (gpu.name, gpu.compute_capability, gpu.power_limit_w, gpu.nvlinks) == (
        "NVIDIA H100 80GB HBM3",
        "9.0",
        700.0,
        18,
    )
    assert fake.open == 0


def test_a_gpu_without_memory_of_its_own_is_no_error(nvml: Any) -> None:
    """DGX Spark's shares the machine's: NVML says that it can't tell."""
    nvml({"name": "NVIDIA GB10"})
    here = read_gpus()
    assert here.gpus[0].memory_bytes == 0
    assert [device.name for device in device_list(MachineHere(CPU, here, None))] == ["gb10", "this-cpu"]


def test_no_driver_is_told_not_raised(nvml: Any) -> None:
    """The bindings are there, the driver is not."""
    nvml(fails="Driver Not Loaded")
    assert read_gpus() == GpusHere((), None, remark="NVML finds no NVIDIA driver (Driver Not Loaded)")


def test_without_the_bindings_nvidia_smi_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less is read, and how to read more is said; with neither, only that."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    driver = Driver("570.86", "12.8", (Gpu("NVIDIA L4", 23_034 * 2**20, 0),))
    monkeypatch.setattr(hardware_gpus, "read_driver", lambda: (driver, None))
    here = read_gpus()
    assert (here.read_by, here.gpus[0].name) == ("nvidia-smi", "NVIDIA L4")
    assert "inferry[gpu]" in str(here.remark)
    monkeypatch.setattr(hardware_gpus, "read_driver", lambda: (None, None))
    assert "inferry[gpu]" in str(read_gpus().remark)


def test_a_card_gives_no_more_than_it_has(nvml: Any) -> None:
    """With ECC on, an A6000 has less than the catalog's; a card that reports more gets what engines were seen to get."""
    a6000 = {"name": "NVIDIA RTX A6000", "total": 46_068 * 2**20, "used": 0, "reserved": 450 * 2**20}
    nvml(a6000, H100)
    small, large = device_list(MachineHere(CPU, read_gpus(), None))[:2]
    assert small.usable_bytes == (46_068 - 450) * 2**20
    assert large.usable_bytes == pytest.approx(79.19 * GIB, rel=1e-3)


def test_without_the_bindings_a_card_gives_no_more_than_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """nvidia-smi tells no reserve: the catalog's is taken off; and 8 GB under one name with a 16 GB card are 8."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    cards = (
        Gpu("NVIDIA GeForce RTX 4060 Ti", 8188 * 2**20, 0),
        Gpu("NVIDIA GeForce RTX 4060 Ti", 16_380 * 2**20, 0),
        Gpu("NVIDIA L40S", 23_034 * 2**20, 0),
    )
    monkeypatch.setattr(hardware_gpus, "read_driver", lambda: (Driver("570.86", "12.8", cards), None))
    small, large, half, _ = device_list(MachineHere(CPU, read_gpus(), None))
    assert [small.name, large.name] == ["rtx4060-ti-8g", "rtx4060-ti-16g"]
    assert small.usable_bytes <= 8188 * 2**20
    assert half.usable_bytes == pytest.approx(22 * GIB, rel=0.05)
    assert half.driver_total_bytes == 23_034 * 2**20


def test_a_gpu_that_others_use_is_told(run: Run, nvml: Any) -> None:
    """Engines take a share of the whole: with 20 of 24 GiB in use they end at start. What a desktop takes is no matter."""
    rtx4090 = {"name": "NVIDIA GeForce RTX 4090", "total": 24_564 * 2**20, "reserved": 400 * 2**20}
    nvml({**rtx4090, "used": 1 * GIB}, {**rtx4090, "used": 20 * GIB})
    told = json.loads(run("hardware", "--json").out)["warnings"]
    assert [words[:5] for words in told] == ["GPU 1"]
    assert "20.0 of its 24.0 GiB" in told[0]
    assert "below 0.17" in run("hardware").out


def test_a_gpu_that_nobody_knows_is_named(nvml: Any) -> None:
    """It is not taken for another that sounds alike."""
    nvml({"name": "NVIDIA GeForce RTX 4090 Laptop GPU", "total": 16 * GIB, "used": 0, "reserved": 0}, H100)
    machine = MachineHere(CPU, read_gpus(), None)
    assert unknown_gpus(machine) == ["NVIDIA GeForce RTX 4090 Laptop GPU"]
    assert [device.name for device in device_list(machine)] == ["h100-80g", "this-cpu"]


def test_the_cpu_is_read_from_proc(tmp_path: Path) -> None:
    """Name, what it computes with, and memory as far as the cgroup lets this process have it."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    cgroups.mkdir()
    (proc / "cpuinfo").write_text(
        "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Platinum 8480+\ncpu family\t: 6\n"
        "model\t: 143\nflags\t: fpu avx avx2 avx512f avx512_bf16 amx_tile\n\nprocessor\t: 1\n"
    )
    (proc / "meminfo").write_text("MemTotal: 131072000 kB\nMemAvailable: 100000000 kB\n")
    (proc / "self" / "cgroup").write_text("0::/\n")
    (cgroups / "memory.max").write_text(str(32 * GIB))
    (cgroups / "memory.current").write_text(str(2 * GIB))
    cpu = read_cpu(proc, cgroups)
    assert cpu.name == "Intel(R) Xeon(R) Platinum 8480+ (family 6, model 143)"
    assert cpu.vendor == "intel"
    assert cpu.isa == ("AMX", "AVX-512 BF16", "AVX-512", "AVX2")
    assert (cpu.memory_bytes, cpu.available_bytes) == (32 * GIB, 30 * GIB)


def test_a_cpu_is_estimated_until_it_is_measured(tmp_path: Path) -> None:
    """The estimate says so; after `inferry calibrate` the measured rates come, but not those of another machine."""
    here = {"INFERRY_HOME": str(tmp_path)}
    estimate = device_list(machine_here(here))[-1]
    assert not is_measured(estimate)
    assert "estimated" in estimate.source
    rates = Rates(Reading(31e9, 0.02, 5), {"fp32": Reading(0.2e12, 0.02, 5)})
    calibration = Calibration(host=fingerprint(), wall_s=1_790_000_000.0, cpu=rates, others_busy=0.0)
    write_calibration(tmp_path, calibration)
    measured = device_list(machine_here(here))[-1]
    assert is_measured(measured)
    assert measured.bandwidth_bytes_per_s == 31e9
    assert measured.flops_per_s["fp32"] == 0.2e12
    ratios = {name: rate / estimate.flops_per_s[name] for name, rate in measured.flops_per_s.items()}
    assert len(set(ratios.values())) == 1
    other = Calibration(
        host=type(calibration.host)("another CPU", 1, 1), wall_s=0.0, cpu=rates, others_busy=0.0
    )
    write_calibration(tmp_path, other)
    assert not is_measured(device_list(machine_here(here))[-1])


def test_a_mac_is_its_chip() -> None:
    """The catalog knows Apple's chips with each size of memory; what users say of theirs comes first."""
    cpu = CpuHere("Apple M4 Max", "apple", 16, ("NEON",), 64 * GIB, None, apple_chip="Apple M4 Max")
    machine = MachineHere(cpu, GpusHere((), None), None)
    device = cpu_device(machine)
    assert (device.name, device.kind) == ("m4-max-64g", "apple")
    wired = replace(device, usable_bytes=60 * GIB)
    assert device_list(machine, (wired,)) == [wired]


def test_the_verb_shows_this_machine(run: Run, nvml: Any) -> None:
    """GPUs as the driver and the catalog call them, the CPU, the disk of INFERRY_HOME, and the way to the catalog."""
    nvml(H100)
    shown = run("hardware")
    assert shown.code == 0
    for words in (
        "NVIDIA H100 80GB HBM3: 79.6 GiB",
        "in the catalog: h100-80g",
        "18 NVLinks",
        "CPU",
        "GiB free",
    ):
        assert words in shown.out
    assert "inferry calibrate" in shown.out
    told = json.loads(run("hardware", "--json").out)
    assert [device["name"] for device in told["devices"]] == ["h100-80g", "this-cpu"]
    assert told["gpus"]["gpus"][0]["compute_capability"] == "9.0"


def test_the_verb_shows_the_catalog(run: Run) -> None:
    """A line per device; one of them with its price, its date, its sources, and what engines run on it."""
    table = run("hardware", "--catalog")
    assert "h100-80g" in table.out
    assert "2026-11-09" in table.out
    assert "market place" in table.out
    one = run("hardware", "--catalog", "H100 SXM")
    for words in ("79.19 GiB", "USD/h, on demand, as of 2026-11-09", "source", "vLLM", "nvfp4 (slow)"):
        assert words in one.out
    told = json.loads(run("hardware", "--catalog", "--json").out)
    assert len(told["devices"]) > 100
    assert told["sources"]


def test_a_device_that_is_not_there_gets_a_suggestion(run: Run) -> None:
    """No traceback: what was asked, what may have been meant, where the list is."""
    shown = run("hardware", "rtx4909")
    assert shown.code == 1
    assert "Did you mean 'rtx4090'?" in shown.err
