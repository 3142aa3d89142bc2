"""What of a GPU, a CPU or an Apple chip decides how much fits and how fast it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

ComputeType: TypeAlias = Literal["fp32", "fp16", "bf16", "fp8", "int8", "fp4"]
PriceKind: TypeAlias = Literal["on demand", "market place", "own"]
"""A cloud's list price; the lowest that some host asks today; what users say they pay."""


@dataclass(frozen=True, slots=True)
class Price:
    """What one device costs to rent; `as_of` is an ISO date, `source` names who asked that price."""

    usd_per_hour: float
    as_of: str
    source: str
    kind: PriceKind = "on demand"
    """Which prices may be compared: a market place's lowest is below any list price, without the promise to stay."""


PCIE_5_BYTES_PER_S = 64e9
"""16 lanes, one direction (PCI-SIG): all cards that bridges join have them."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device. Rates are the maker's dense peaks, without sparsity."""

    name: str
    """The catalog's own, such as `h100-80g`."""
    kind: Literal["gpu", "cpu", "apple"]
    vendor: str
    memory_bytes: int
    """Nameplate."""
    usable_bytes: int
    """What its driver reports as total, which is what engines take fractions of."""
    bandwidth_bytes_per_s: float
    flops_per_s: Mapping[ComputeType, float]
    """A missing type has no fast path: the engine converts to the next wider one."""
    link_bytes_per_s: float
    """To its neighbours, one direction, per device: NVLink where it has it, else PCIe."""
    link: str = "pcie"
    compute_capability: str | None = None
    """CUDA's, such as "9.0"."""
    power_w: float | None = None
    price: Price | None = None
    source: str = ""
    aliases: tuple[str, ...] = ()
    devices_per_host_max: int = 8
    link_group: int | None = None
    """So many devices share its link, as bridges join them; more of them talk by PCIe. None: all of a host."""
    driver_total_bytes: int | None = None
    """What nvidia-smi prints as total: `usable_bytes` and what the driver keeps. SGLang reckons with it. None: not known."""

    def link_rate(self, ways: int) -> float:
        """Bytes/s, one direction, per device, between `ways` of them."""
        return self.link_bytes_per_s if ways <= (self.link_group or ways) else PCIE_5_BYTES_PER_S
