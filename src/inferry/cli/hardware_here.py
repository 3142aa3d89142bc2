"""This machine as devices that the planner can use: its GPUs as the catalog knows them, and its CPU.

What `inferry calibrate` measured of the CPU here comes before what is estimated of it; a CPU that was not measured says so
in its source.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from inferry.cli.calibrate_machine import fingerprint
from inferry.cli.hardware_cpu import CpuHere, read_cpu
from inferry.cli.hardware_gpus import GpuHere, GpusHere, read_gpus
from inferry.core.clock import utc_text
from inferry.core.home import inferry_home
from inferry.fleet.calibration_file import read_calibration
from inferry.planner.calibration import Calibration, Rates, measured_device
from inferry.planner.device import ComputeType, Device
from inferry.planner.facts.device_catalog import known_devices, look_up

GIB = 2**30
FREE_SHARE = 0.1
"""Of the memory: what vLLM leaves by default, and more than others leave."""
CPU_NAME = "this-cpu"
CORE_BANDWIDTH = 10e9
"""Bytes/s that one core reads: a rule of thumb, for those who have not run `inferry calibrate`."""
CORE_CLOCK = 2.5e9
"""A rule of thumb as well: base clocks of servers' CPUs are 2 to 3 GHz."""
FLOPS_PER_CLOCK = {"AVX-512": 32, "AVX2": 16, "SVE": 16, "NEON": 8}
"""FP32 operations of one core: half of two multiply-adds per clock and lane, which products of matrices rarely exceed."""
FLOPS_PER_CLOCK_LEAST = 4


@dataclass(frozen=True, slots=True)
class MachineHere:
    cpu: CpuHere
    gpus: GpusHere
    calibration: Calibration | None
    """Of this very machine; None: never taken, or of another."""


def machine_here(environ: Mapping[str, str]) -> MachineHere:
    """Reads all there is. Raises ConfigError if a stored calibration is damaged."""
    calibration = read_calibration(inferry_home(environ))
    if calibration is not None and calibration.host != fingerprint():
        calibration = None
    return MachineHere(read_cpu(), read_gpus(), calibration)


def device_list(machine: MachineHere, own: Iterable[Device] = ()) -> list[Device]:
    """One per GPU that is known, in the driver's order, then the CPU, or the Apple chip. `own`: users' devices, which
    come before the catalog's. GPUs that nobody knows are left out: see `unknown_gpus`."""
    known = (*own, *known_devices())
    found = [gpu_device(gpu, known) for gpu in machine.gpus.gpus]
    return [device for device in found if device is not None] + [cpu_device(machine, known)]


def unknown_gpus(machine: MachineHere, own: Iterable[Device] = ()) -> list[str]:
    """Names of those that can't be planned for until somebody describes them under `facts.devices`."""
    known = (*own, *known_devices())
    return [gpu.name for gpu in machine.gpus.gpus if gpu_device(gpu, known) is None]


def gpu_device(gpu: GpuHere, known: Collection[Device]) -> Device | None:
    """As the catalog has it, with this card's own memory.

    Not with the rates that 'inferry calibrate' measured: the constants of performance.json were fitted on makers' peaks,
    and have in them how much of a peak a card reaches.
    """
    size_gib = round(gpu.memory_bytes / GIB)
    # One name may be two cards: an RTX 4060 Ti has 8 or 16 GB, and its driver does not say which in its name.
    device = look_up(f"{gpu.name} {size_gib}GB", known) or look_up(gpu.name, known)
    if device is None:
        return None
    return _with_own_memory(device, gpu) if gpu.memory_bytes else device


def _with_own_memory(device: Device, gpu: GpuHere) -> Device:
    """Less than the catalog where ECC is on or the card is shared out; never more than engines were seen to get."""
    reserved_bytes = gpu.reserved_bytes
    if reserved_bytes is None:
        reserved_bytes = max((device.driver_total_bytes or 0) - device.usable_bytes, 0)
    return replace(
        device,
        usable_bytes=min(device.usable_bytes, gpu.memory_bytes - reserved_bytes),
        driver_total_bytes=min(device.driver_total_bytes or gpu.memory_bytes, gpu.memory_bytes),
    )


def busy_gpus(machine: MachineHere) -> list[str]:
    """Per GPU that others use more of than engines leave free by default: what they will say at start, and the way out."""
    return [
        f"GPU {gpu.index} ({gpu.name}): {gpu.used_bytes / GIB:.1f} of its {gpu.memory_bytes / GIB:.1f} GiB are in use by "
        "others; engines take their share of the whole, and end at start where it is not free. Free it, or lower "
        f"'memory_fraction' below {max(1 - gpu.used_bytes / gpu.memory_bytes, 0):.2f}"
        for gpu in machine.gpus.gpus
        if gpu.memory_bytes and gpu.used_bytes > FREE_SHARE * gpu.memory_bytes
    ]


def cpu_device(machine: MachineHere, known: Iterable[Device] | None = None) -> Device:
    """The CPU with its memory as one device; on a Mac, its chip from the catalog where it is known."""
    cpu = machine.cpu
    memory_bytes = cpu.memory_bytes or 0
    if cpu.apple_chip is not None:
        size_gib = round(memory_bytes / GIB)
        chip = look_up(f"{cpu.apple_chip} {size_gib}GB", known_devices() if known is None else known)
        if chip is not None:
            return chip
    estimated = Device(
        name=CPU_NAME,
        kind="cpu",
        vendor=cpu.vendor,
        memory_bytes=memory_bytes,
        usable_bytes=memory_bytes if cpu.available_bytes is None else cpu.available_bytes,
        bandwidth_bytes_per_s=cpu.cores * CORE_BANDWIDTH,
        flops_per_s=_estimated_flops(cpu),
        link_bytes_per_s=0.0,
        link="none",
        source=f"{cpu.name}: rates estimated from {cpu.cores} cores; measure them with 'inferry calibrate'",
        devices_per_host_max=1,
    )
    calibration = machine.calibration
    if calibration is None:
        return estimated
    measured = _measured(estimated, calibration.cpu, calibration)
    # A type that was not measured keeps its distance from FP32, which is.
    factor = measured.flops_per_s["fp32"] / estimated.flops_per_s["fp32"]
    flops: dict[ComputeType, float] = {
        name: rate if name in calibration.cpu.flops_per_s else rate * factor
        for name, rate in measured.flops_per_s.items()
    }
    return replace(measured, flops_per_s=flops)


def is_measured(device: Device) -> bool:
    """Whether its rates are this machine's own."""
    return "measured by 'inferry calibrate'" in device.source


def _measured(device: Device, rates: Rates, calibration: Calibration) -> Device:
    when = utc_text(calibration.wall_s)[:10]
    return replace(measured_device(device, rates), source=f"measured by 'inferry calibrate' on {when}")


def _estimated_flops(cpu: CpuHere) -> dict[ComputeType, float]:
    per_clock = max((FLOPS_PER_CLOCK.get(words, 0) for words in cpu.isa), default=0) or FLOPS_PER_CLOCK_LEAST
    fp32 = cpu.cores * CORE_CLOCK * per_clock
    rates: dict[ComputeType, float] = {"fp32": fp32}
    if "AVX-512 BF16" in cpu.isa or "AMX" in cpu.isa:
        rates["bf16"] = 2 * fp32
    return rates
