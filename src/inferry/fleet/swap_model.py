"""One model that is loaded on demand: what is known of it. Owned by fleet/model_swap.py."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from enum import StrEnum

from inferry.core.errors import LifecycleRefused
from inferry.fleet.memory_need import Need


class Phase(StrEnum):
    UNLOADED = "unloaded"
    LOADING = "loading"
    LOADED = "loaded"
    UNLOADING = "unloading"


@dataclass(frozen=True, slots=True)
class Use:
    """Of a deployment, at all gateways together."""

    held: int = 0
    """Requests that it computes or that wait for it."""
    sent: int = 0
    """Requests ever sent to the replicas that it has now."""


@dataclass(frozen=True, slots=True)
class LoadState:
    """What `inferry status` shows of a deployment that loads on demand."""

    phase: Phase
    says: str
    need: Need


@dataclass(slots=True, eq=False)
class SwapModel:
    name: str
    phase: Phase
    used_s: float
    """When it last had a request, or was loaded."""
    sent: int = 0
    held: int = 0
    loaded_s: float | None = None
    wanted_since_s: float | None = None
    wanted_s: float = -math.inf
    refused_until_s: float = -math.inf
    says: str = ""
    by_hand: list[asyncio.Future[None]] = field(default_factory=list)
    """Those who wait for `load`."""

    def __post_init__(self) -> None:
        if self.phase is Phase.UNLOADED:
            self.says = self.how_to_load

    @property
    def how_to_load(self) -> str:
        return f"loads with the first request, or by: inferry load {self.name}"

    @property
    def how_to_undrain(self) -> str:
        return f"drained by hand, and takes no requests until: inferry undrain {self.name}"

    @property
    def is_wanted(self) -> bool:
        return self.wanted_since_s is not None

    def forget_leavers(self) -> None:
        """Who asked by hand and left wants nothing any more."""
        self.by_hand = [each for each in self.by_hand if not each.done()]

    def settle(self, refused: str | None = None) -> None:
        """Answer those who asked by hand: it serves, or why it won't."""
        waiting, self.by_hand = self.by_hand, []
        for each in waiting:
            if each.done():
                continue
            if refused is None:
                each.set_result(None)
            else:
                each.set_exception(LifecycleRefused(refused))
