"""What `inferry calibrate` found out about a machine, and what it was measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from .device import ComputeType, Device
from .host_speed import HostSpeed, Probe


class Reading(msgspec.Struct, frozen=True):
    """Median of `runs` repetitions; `spread` is the middle half of them, relative to the median."""

    value: float
    spread: float
    runs: int


class Fingerprint(msgspec.Struct, frozen=True):
    """The machine. Where it differs, nothing that was measured is used."""

    cpu: str
    cores: int
    memory_bytes: int
    gpus: tuple[str, ...] = ()
    driver: str | None = None


class Rates(msgspec.Struct, frozen=True):
    """Of one device. FLOP/s by type, of dense matrix products."""

    bandwidth_bytes_per_s: Reading
    flops_per_s: dict[str, Reading]


class EngineCalibration(msgspec.Struct, frozen=True):
    """One engine with one model: what was probed, and the constants that explain it."""

    engine: str
    version: str | None
    model: str
    weights: str
    """Its format, which decides how the constants are used for other models."""
    threads: int
    wall_s: float
    probes: tuple[Probe, ...]
    speed: HostSpeed
    memory_base_bytes: int = 0
    """What its processes hold besides weights and KV cache."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Of one machine."""

    host: Fingerprint
    wall_s: float
    cpu: Rates
    others_busy: float
    """Share of the cores that other processes used meanwhile, 0 to 1."""
    gpus: dict[str, Rates] = {}
    """By the name that the driver gives."""
    engines: tuple[EngineCalibration, ...] = ()

    def engine(self, engine: str, weights: str, model: str = "") -> EngineCalibration | None:
        """The newest calibration of that engine: with that very model, else with that format, else none."""
        same = [each for each in self.engines if (each.engine, each.weights) == (engine, weights)]
        own = [each for each in same if each.model == model]
        return max(own or same, key=lambda each: each.wall_s, default=None)


NOISY_SPREAD = 0.10
BUSY_SHARE = 0.10


def warnings_of(calibration: Calibration) -> list[str]:
    """Why its figures should be taken again, in words; empty where they are good."""
    said = []
    if calibration.others_busy > BUSY_SHARE:
        said.append(
            f"Other processes used {calibration.others_busy:.0%} of the cores meanwhile: the figures are too low."
        )
    rates = {"the CPU": calibration.cpu, **calibration.gpus}
    for name, each in rates.items():
        readings: Mapping[str, Reading] = {"bandwidth": each.bandwidth_bytes_per_s, **each.flops_per_s}
        noisy = [
            f"{what} by {reading.spread:.0%}"
            for what, reading in readings.items()
            if reading.spread > NOISY_SPREAD
        ]
        if noisy:
            said.append(
                f"Repetitions on {name} differ: {', '.join(noisy)}. Take them again on a quiet machine."
            )
    return said


def measured_device(device: Device, rates: Rates) -> Device:
    """With what was measured on this one in place of what was estimated; types that were not measured keep that."""
    known: dict[ComputeType, float] = {
        each: rates.flops_per_s[each].value if each in rates.flops_per_s else peak
        for each, peak in device.flops_per_s.items()
    }
    return replace(device, bandwidth_bytes_per_s=rates.bandwidth_bytes_per_s.value, flops_per_s=known)
