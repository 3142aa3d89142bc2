"""How many replicas one candidate needs, with which limits, and what it then does: the planner's inner search."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from .answers import MemoryPlan, Performance
from .architecture import Architecture
from .candidates import Candidate, Supports
from .device import Device
from .limits import limits_of
from .load import Load, Slo
from .setup import Setup
from .wish import Wish

KV_MARGIN = 0.95
"""Of the predicted KV cache only so much is promised: predictions of it are off by some percent at most."""
REPLICAS_MAX = 256
"""As many as the deployment file takes."""
RATE_LEAST = 0.98
"""An open load counts as served if so much of it comes out."""
TRIES_MAX = 12
CAPACITY_FINE, CAPACITY_NEAR = 1.03, 0.985
"""The search for a capacity ends 3 % apart, or so near to the SLO: finer than any prediction."""


@dataclass(frozen=True, slots=True)
class Physics:
    """What the search asks: memory.py, performance.py and the support table, or a corrected form of them."""

    memory: Callable[[Architecture, Device, Setup], MemoryPlan]
    sequence: Callable[[Architecture, Device, Setup, int], float]
    """Bytes of KV cache that a sequence of so many tokens takes on one device."""
    speed: Callable[[Architecture, Device, Setup, Load], Performance]
    supports: Supports


@dataclass(frozen=True, slots=True)
class Capacity:
    """The most that one replica does within the SLO; zeros where it keeps the SLO at no load."""

    concurrency: int
    requests_per_s: float
    output_tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Sized:
    """A candidate with its replicas and limits. `strain`: the worst of predicted to allowed; at most 1 keeps the SLO."""

    candidate: Candidate
    setup: Setup
    memory: MemoryPlan
    replicas: int
    load: Load
    """Of the fullest replica."""
    at_load: Performance
    capacity: Capacity
    strain: float
    strain_high: float
    """The same at the far end of the intervals."""
    strain_one_lost: float
    """The same with one replica fewer; infinite where there is only one."""

    @property
    def devices(self) -> int:
        return self.replicas * self.setup.devices

    @property
    def keeps_slo(self) -> bool:
        return self.strain <= 1

    @property
    def utilisation(self) -> float:
        """Load to capacity, of the fullest replica; infinite where the capacity is zero."""
        if self.load.concurrency is not None:
            return (
                self.load.concurrency / self.capacity.concurrency if self.capacity.concurrency else math.inf
            )
        assert self.load.requests_per_s is not None
        return (
            self.load.requests_per_s / self.capacity.requests_per_s
            if self.capacity.requests_per_s
            else math.inf
        )

    @property
    def usd_per_hour(self) -> float | None:
        price = self.candidate.hardware.device.price
        return None if price is None else price.usd_per_hour * self.devices


def strain(found: Performance, load: Load, slo: Slo, *, high: bool = False) -> float:
    """Predicted to allowed: TTFT, ITL; of an open load, what is asked to what comes out; of a closed one, how many there
    are to how many are computed at once: what waits for a place is not promised."""
    parts = [0.0]
    for interval, bound in ((found.ttft_ms, slo.ttft_ms), (found.itl_ms, slo.itl_ms)):
        if bound is not None:
            parts.append((interval.high if high else interval.value) / bound)
    if load.requests_per_s is not None:
        served = found.requests_per_s.value / load.requests_per_s
        parts.append(1.0 if served >= 1 else RATE_LEAST / max(served, 1e-9))
        if served >= RATE_LEAST:
            parts[-1] = min(parts[-1], 1.0)
    elif found.queued >= 1:
        parts.append((found.running + found.queued) / found.running)
    return max(parts)


def size(arch: Architecture, candidate: Candidate, wish: Wish, physics: Physics) -> Sized | MemoryPlan:
    """The fewest replicas that keep the SLO, or the most that there is hardware for; MemoryPlan: it does not fit."""
    device = candidate.hardware.device
    context = wish.context_for(arch.max_position)
    setup = _with_defaults(arch, device, replace(candidate.setup, max_model_tokens=context))
    memory = physics.memory(arch, device, setup)
    if memory.kv_tokens * KV_MARGIN < context:
        return memory
    mean_live = wish.input_tokens + wish.output_tokens // 2
    held = max(int(memory.kv * KV_MARGIN / physics.sequence(arch, device, setup, mean_live)), 1)
    setup = replace(setup, max_sequences=min(held, setup.max_sequences or held))
    capacity = capacity_of(arch, device, setup, wish, physics)
    count = candidate.hardware.count
    most = REPLICAS_MAX if count is None else count // setup.devices

    def at(replicas: int) -> tuple[Load, Performance]:
        load = wish.share(replicas) if wish.has_load else wish.at_once(max(capacity.concurrency, 1))
        return load, physics.speed(arch, device, setup, load)

    replicas = min(_first_guess(wish, capacity, most), most)
    load, found = at(replicas)
    for _ in range(TRIES_MAX):
        if strain(found, load, wish.slo) <= 1 or replicas == most or not capacity.concurrency:
            break
        replicas = min(replicas + max(replicas // 8, 1), most)
        load, found = at(replicas)
    lost = math.inf
    if replicas > 1 and wish.has_load:
        lost_load, lost_found = at(replicas - 1)
        lost = strain(lost_found, lost_load, wish.slo)
    setup = _with_fewer_sequences(setup, max(capacity.concurrency, math.ceil(found.running)))
    return Sized(
        candidate,
        setup,
        physics.memory(arch, device, setup),
        replicas,
        load,
        found,
        capacity,
        strain(found, load, wish.slo),
        strain(found, load, wish.slo, high=True),
        lost,
    )


def capacity_of(arch: Architecture, device: Device, setup: Setup, wish: Wish, physics: Physics) -> Capacity:
    """The most requests at once that keep the SLO, by false position: TTFT and ITL grow about evenly with them.

    Every second step halves instead, since a cache that runs full makes them jump.
    """
    most = setup.max_sequences or 1

    def look(concurrency: int) -> tuple[Performance, float]:
        load = wish.at_once(concurrency)
        found = physics.speed(arch, device, setup, load)
        return found, strain(found, load, wish.slo)

    best, low_strain = look(1)
    if low_strain > 1:
        return Capacity(0, 0.0, 0.0)
    found, high_strain = look(most)
    if high_strain <= 1:
        return Capacity(most, found.requests_per_s.value, found.output_tokens_per_s.value)
    low, high = 1, most
    halving = False
    while high - low > 1 and high > CAPACITY_FINE * low and low_strain < CAPACITY_NEAR:
        part = 0.5 if halving else (1 - low_strain) / (high_strain - low_strain)
        middle = min(max(round(low + part * (high - low)), low + 1), high - 1)
        halving = not halving
        found, at_middle = look(middle)
        if at_middle <= 1:
            best, low, low_strain = found, middle, at_middle
        else:
            high, high_strain = middle, at_middle
    return Capacity(low, best.requests_per_s.value, best.output_tokens_per_s.value)


def _first_guess(wish: Wish, capacity: Capacity, most: int) -> int:
    if not capacity.concurrency or not wish.has_load:
        return most if wish.has_load or most < REPLICAS_MAX else 1
    if wish.users is not None:
        return max(math.ceil(wish.users / capacity.concurrency), 1)
    assert wish.requests_per_s is not None
    return max(math.ceil(wish.requests_per_s / capacity.requests_per_s), 1)


def _with_defaults(arch: Architecture, device: Device, setup: Setup) -> Setup:
    """The engine's own limits written out, so that what was planned is what will be started."""
    limits = limits_of(arch, device, setup)
    return replace(
        setup,
        max_sequences=limits.sequences,
        max_batched_tokens=limits.batched_tokens,
        memory_fraction=limits.fraction,
    )


def _with_fewer_sequences(setup: Setup, needed: int) -> Setup:
    """At once as many as are needed, rounded up to a multiple of 8 as CUDA graphs are captured for, and never more than
    there were."""
    wanted = -(-needed // 8) * 8
    return replace(setup, max_sequences=min(wanted, setup.max_sequences or wanted))
