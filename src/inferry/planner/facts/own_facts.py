"""Users' own devices and models, from the `facts:` section of a deployment file: merged with what ships."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from inferry.core.errors import ConfigError
from inferry.core.facts_settings import Facts, OwnDevice, OwnModel
from inferry.planner.architecture import Architecture
from inferry.planner.device import Device, Price
from inferry.planner.facts.device_catalog import GIB, find_device, known_devices, look_up
from inferry.planner.model_config import architecture_from_config

USABLE_SHARE = 0.97
"""Of the nameplate, where nothing is said and it is like no other: most GPUs of the catalog report 0.91 to 1.00 of it, half of them under 0.983."""
PCIE_BYTES_PER_S = 32e9
"""PCIe 4.0 x16 in one direction: what a GPU has at least that serves models today."""
OWN_SOURCE = "facts of the deployment file"


@dataclass(frozen=True, slots=True)
class OwnFacts:
    """What users add or correct."""

    devices: tuple[Device, ...] = ()
    models: Mapping[str, Architecture] = field(default_factory=dict)

    def find_device(self, name: str) -> Device:
        """Theirs first, then the catalog's. Raises ConfigError with a suggestion if it is neither."""
        return look_up(name, self.devices) or find_device(name)

    def find_model(self, name: str) -> Architecture | None:
        """Theirs only."""
        return self.models.get(name)

    def known_devices(self) -> tuple[Device, ...]:
        """Theirs, and those of the catalog that they did not replace."""
        own = {device.name for device in self.devices}
        return (*self.devices, *(device for device in known_devices() if device.name not in own))


def own_facts(facts: Facts, configs: Mapping[str, Mapping[str, Any]]) -> OwnFacts:
    """`configs`: the parsed config.json of each model that names one.

    Raises ConfigError that names the entry where it is not enough to plan with.
    """
    devices = tuple(own_device(name, told) for name, told in facts.devices.items())
    models = {name: own_model(name, told, configs.get(name, {})) for name, told in facts.models.items()}
    return OwnFacts(devices, models)


def own_device(name: str, told: OwnDevice) -> Device:
    """What is told, over the device that it is like. Raises ConfigError where that is unknown or too little is told."""
    base, replaced = _base(name, told)
    memory_bytes = base.memory_bytes if told.nameplate_memory is None else int(told.nameplate_memory)
    usable_bytes = _usable_bytes(name, told, base, memory_bytes)
    flops = (
        base.flops_per_s if told.tflops is None else {kind: rate * 1e12 for kind, rate in told.tflops.items()}
    )
    own = replace(
        base,
        name=base.name if replaced else name,
        kind=told.kind or base.kind,
        vendor=told.vendor or base.vendor,
        memory_bytes=memory_bytes,
        usable_bytes=usable_bytes,
        bandwidth_bytes_per_s=_scaled(told.bandwidth_gb_per_second, 1e9, base.bandwidth_bytes_per_s),
        flops_per_s=flops,
        link=told.link or base.link,
        link_bytes_per_s=_scaled(told.link_gb_per_second, 1e9, base.link_bytes_per_s),
        link_group=base.link_group if told.link is None else None,
        compute_capability=told.compute_capability or base.compute_capability,
        power_w=base.power_w if told.power_w is None else told.power_w,
        price=(base.price if replaced else None) if told.usd_per_hour is None else _price(told),
        source=OWN_SOURCE if not base.source else f"{OWN_SOURCE}, over {base.name}: {base.source}",
        aliases=(*told.aliases, *base.aliases) if replaced else tuple(told.aliases),
        devices_per_host_max=told.per_host or base.devices_per_host_max,
        driver_total_bytes=base.driver_total_bytes
        if (memory_bytes, usable_bytes) == (base.memory_bytes, base.usable_bytes)
        else None,
    )
    if own.kind == "gpu" and own.vendor == "nvidia" and own.compute_capability is None:
        raise ConfigError(
            f"facts.devices.{name}: 'compute_capability' must be said of an NVIDIA card, as 9.0: engines have kernels by "
            "it. 'nvidia-smi --query-gpu=compute_cap --format=csv' prints it."
        )
    return own


def own_model(name: str, told: OwnModel, config: Mapping[str, Any]) -> Architecture:
    """As its config.json says, and before that the keys of `fields`. Raises ConfigError where one is missing or wrong."""
    try:
        return architecture_from_config(name, {**config, **told.fields}, source=OWN_SOURCE)
    except ConfigError as error:
        raise ConfigError(f"facts.models.{name}: {error.message}") from error


def _base(name: str, told: OwnDevice) -> tuple[Device, bool]:
    """What is told goes over it; and whether it takes that one's place in the catalog."""
    if told.like is not None:
        try:
            return find_device(told.like), False
        except ConfigError as error:
            raise ConfigError(f"facts.devices.{name}.like: {error.message}") from error
    same = look_up(name, known_devices())
    if same is not None:
        return same, True
    if missing := told.missing():
        keys = ", ".join(f"'{key}'" for key in missing)
        raise ConfigError(
            f"facts.devices.{name}: {keys} must be said of a device that the catalog does not have; "
            "or say with 'like' which one it is like."
        )
    nothing = Device(
        name=name,
        kind="gpu",
        vendor="unknown",
        memory_bytes=0,
        usable_bytes=0,
        bandwidth_bytes_per_s=0.0,
        flops_per_s={},
        link_bytes_per_s=PCIE_BYTES_PER_S,
    )
    return nothing, False


def _usable_bytes(name: str, told: OwnDevice, base: Device, memory_bytes: int) -> int:
    """Raises ConfigError where more is told to be usable than the card has."""
    if told.usable_memory is None:
        share = base.usable_bytes / base.memory_bytes if base.memory_bytes else USABLE_SHARE
        return base.usable_bytes if memory_bytes == base.memory_bytes else int(memory_bytes * share)
    if told.usable_memory > memory_bytes:
        raise ConfigError(
            f"facts.devices.{name}.usable_memory: {told.usable_memory / GIB:.4g} GiB is more than the "
            f"{memory_bytes / GIB:.4g} GiB of {base.name}: a driver never reports more than there is. Say "
            "'nameplate_memory' too if this card has more."
        )
    return int(told.usable_memory)


def _scaled(told: float | None, unit: float, base: float) -> float:
    return base if told is None else told * unit


def _price(told: OwnDevice) -> Price:
    return Price(told.usd_per_hour or 0.0, told.price_as_of or "", OWN_SOURCE, "own")
