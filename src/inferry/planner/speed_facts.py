"""The fitted constants of the performance model, and how a setup and a device choose theirs.

A constant is exp(base + offsets): each offset belongs to an engine, a family of devices or a pair of them, was shrunk
to zero by the fit, and is zero for what the fit never saw. Fitted by `python -m benchmarks.planner_fit`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from .device import Device
from .setup import Setup

_FAMILIES = (("7", "turing"), ("8", "ampere"), ("9", "hopper"), ("10", "blackwell"), ("12", "blackwell"))


@dataclass(frozen=True, slots=True)
class Residuals:
    """Errors of held-out predictions as factors on the prediction: 90 % of measured / predicted lie between them."""

    low: float
    high: float


UNCHECKED = Residuals(1.0, 1.0)


@dataclass(frozen=True, slots=True)
class SpeedConstants:
    """`quantities`: "step", "ttft", "burst" and "drain", each a table of term, then of group ("" is the base), of natural
    logarithms."""

    quantities: Mapping[str, Mapping[str, Mapping[str, float]]]
    residuals: Mapping[str, Mapping[str, Residuals]]
    """By quantity ("step", "ttft", "rate"), then by group."""

    def constants(self, quantity: str, groups: Iterable[str]) -> dict[str, float]:
        chosen = ("", *groups)
        return {
            term: math.exp(sum(offsets.get(group, 0.0) for group in chosen))
            for term, offsets in self.quantities[quantity].items()
        }

    def residual(self, quantity: str, groups: Iterable[str], kind: str = "") -> Residuals:
        """Of the most particular group that was checked: the kind of load, the pair of engine and family, the engine.

        "new device" and "new engine" come from leaving such a group out of the fit. No range where nothing was checked.
        """
        table = self.residuals.get(quantity, {})
        engine, family, pair = groups
        seen_families = {name.partition("|")[2] for name in table}
        known = engine if family in seen_families else "new device"
        names = [kind] * bool(kind) + [pair, known if engine in table else "new engine", ""]
        return next((table[name] for name in names if name in table), UNCHECKED)


def device_family(device: Device) -> str:
    """Devices that share kernels, by CUDA compute capability; others are a family by their vendor."""
    major = (device.compute_capability or "").partition(".")[0]
    return dict(_FAMILIES).get(major, device.vendor)


def groups_of(device: Device, setup: Setup) -> tuple[str, ...]:
    """The groups whose offsets apply, from the general to the particular."""
    family = device_family(device)
    return (setup.engine, family, f"{setup.engine}|{family}")


def read_speed_constants(text: str) -> SpeedConstants:
    table = json.loads(text)
    residuals = {
        quantity: {engine: Residuals(*bounds) for engine, bounds in engines.items()}
        for quantity, engines in table["residuals"].items()
    }
    return SpeedConstants(table["quantities"], residuals)


@lru_cache(maxsize=1)
def shipped_speed_constants() -> SpeedConstants:
    text = resources.files("inferry.planner.facts").joinpath("performance.json").read_text(encoding="utf-8")
    return read_speed_constants(text)
