"""Which devices are known, by the names that people, drivers and benchmarks use: `devices.json`.

No fact without its source: each device names where its rates come from and where its usable memory was read.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import resources
from typing import Literal

import msgspec

from inferry.core.errors import ConfigError
from inferry.core.suggest import did_you_mean
from inferry.planner.device import ComputeType, Device, Price, PriceKind

GIB = 2**30
_DRIVER_TOTALS = "smi_logs"
_BRAND = re.compile(
    r"\b(nvidia|amd|intel|apple|huawei|geforce|tesla|quadro|instinct|radeon|generation|graphics|gpu|accelerator)\b"
)
_IN_BRACKETS = re.compile(r"\(.*?\)")


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    what: str
    address: str
    date: str
    """Of the reading or of the document: YYYY[-MM[-DD]]."""
    price_kind: PriceKind | None = None
    """Of the prices that it names."""


class _PriceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    usd_per_hour: float
    source: str


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: str
    kind: Literal["gpu", "cpu", "apple"] = "gpu"
    vendor: str
    memory_gib: tuple[float, ...]
    """Several where one chip is sold with each; the largest is the one without a size in its name."""
    usable_gib: float | None = None
    """Left out: `usable_share` of the nameplate, or what `shares` says of `usable_source`."""
    usable_share: float | None = None
    usable_source: str
    driver_total_mib: int | None = None
    """As nvidia-smi prints it."""
    bandwidth_gb_per_s: float
    tflops: dict[ComputeType, float]
    link: str = "pcie"
    link_gb_per_s: float
    link_group: int | None = None
    compute_capability: str | None = None
    power_w: float | None = None
    price: _PriceEntry | None = None
    source: str
    note: str = ""
    aliases: tuple[str, ...] = ()
    devices_per_host_max: int = 8


class _Catalog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sources: dict[str, Source]
    shares: dict[str, tuple[tuple[float | None, float], ...]]
    """Usable shares by size, under the source that says so: below that many GiB, null for all the rest."""
    devices: tuple[_Entry, ...]


def known_devices() -> tuple[Device, ...]:
    """All devices, in the order of the file: by maker, and newer ones first."""
    return _devices()


def device_sources() -> Mapping[str, Source]:
    """By the name that `Device.source` and `Price.source` carry in front of a colon or alone."""
    return _catalog().sources


def find_device(name: str) -> Device:
    """The device that `name` means: `h100-80g`, `H100 SXM 80GB`, `NVIDIA H100 80GB HBM3`, `4090`.

    Raises ConfigError with a suggestion if it means none.
    """
    if (found := _in_index(name, _catalog_index())) is not None:
        return found
    names = [device.name for device in known_devices()]
    raise ConfigError(
        f"gpu: '{name}' is no device of the catalog.{_suggestion(name, names)} "
        "'inferry hardware --catalog' lists them; one of your own goes under 'facts.devices' of a file for --facts."
    )


def look_up(name: str, devices: Iterable[Device]) -> Device | None:
    """As `find_device` among `devices`, the first that has the name; None if none has it."""
    return _in_index(name, _index(devices))


def _index(devices: Iterable[Device]) -> dict[str, Device]:
    """By each name, bare and with the size that the device has anyway: "L4" and "L4 24GB"."""
    named = [(_plain(each), device) for device in devices for each in (device.name, *device.aliases)]
    index: dict[str, Device] = {}
    for name, device in named:
        index.setdefault(name, device)
    for name, device in named:
        index.setdefault(f"{name}{round(device.memory_bytes / GIB)}g", device)
    return index


def _in_index(name: str, index: Mapping[str, Device]) -> Device | None:
    """What is in brackets goes first: "Mac Studio (M3 Ultra 512GB)"; a remark there names no device."""
    inside = (index.get(_plain(each)) for each in re.findall(r"\((.*?)\)", name))
    return next((device for device in inside if device is not None), None) or index.get(_plain(name))


@functools.cache
def _catalog_index() -> dict[str, Device]:
    return _index(known_devices())


def _plain(name: str) -> str:
    """What is left of a name without maker, brackets, spaces and signs; "80GB" and "80g" are one."""
    words = _BRAND.sub(" ", _IN_BRACKETS.sub(" ", name.lower()).replace("_", " "))
    return re.sub(r"(\d)gi?b?$", r"\1g", re.sub(r"[^a-z0-9+]", "", words))


def _suggestion(name: str, names: list[str]) -> str:
    words = did_you_mean(_IN_BRACKETS.sub("", name).strip().lower().replace(" ", "-"), names)
    # The whole catalog in one message helps nobody.
    return words if words.startswith(" Did") else ""


@functools.cache
def _catalog() -> _Catalog:
    raw = (resources.files("inferry.planner.facts") / "devices.json").read_bytes()
    return msgspec.json.decode(raw, type=_Catalog)


@functools.cache
def _devices() -> tuple[Device, ...]:
    return tuple(
        device
        for entry in _catalog().devices
        for device in _of_each_size(_device(entry, max(entry.memory_gib)), entry)
    )


def _of_each_size(largest: Device, entry: _Entry) -> list[Device]:
    if len(entry.memory_gib) == 1:
        return [largest]
    smaller = [
        replace(_device(entry, size), name=f"{entry.name}-{size:g}g", aliases=(), price=None)
        for size in sorted(entry.memory_gib, reverse=True)
    ]
    return [largest, *smaller]


def _device(entry: _Entry, memory_gib: float) -> Device:
    sources = _catalog().sources
    usable_gib = (
        entry.usable_gib if entry.usable_gib is not None else memory_gib * _usable_share(entry, memory_gib)
    )
    price = entry.price
    return Device(
        name=entry.name,
        kind=entry.kind,
        vendor=entry.vendor,
        memory_bytes=int(memory_gib * GIB),
        usable_bytes=int(usable_gib * GIB),
        bandwidth_bytes_per_s=entry.bandwidth_gb_per_s * 1e9,
        flops_per_s={name: rate * 1e12 for name, rate in entry.tflops.items()},
        link_bytes_per_s=entry.link_gb_per_s * 1e9,
        link=entry.link,
        link_group=entry.link_group,
        compute_capability=entry.compute_capability,
        power_w=entry.power_w,
        price=None
        if price is None
        else Price(
            price.usd_per_hour,
            sources[price.source].date,
            sources[price.source].what,
            sources[price.source].price_kind or "on demand",
        ),
        source="; ".join(
            part
            for part in (
                sources[entry.source].what,
                f"usable memory: {sources[entry.usable_source].what}",
                "" if entry.driver_total_mib is None else f"total: {sources[_DRIVER_TOTALS].what}",
                entry.note,
            )
            if part
        ),
        aliases=entry.aliases,
        devices_per_host_max=entry.devices_per_host_max,
        driver_total_bytes=None if entry.driver_total_mib is None else entry.driver_total_mib * 2**20,
    )


def _usable_share(entry: _Entry, memory_gib: float) -> float:
    if entry.usable_share is not None:
        return entry.usable_share
    sizes = _catalog().shares.get(entry.usable_source, ())
    return next((share for below, share in sizes if below is None or memory_gib < below), 1.0)
