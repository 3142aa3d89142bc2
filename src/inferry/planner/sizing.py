"""How many replicas one candidate needs, with which limits, and what it then does: the planner's inner search."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from .answers import MemoryPlan, Performance
from .architecture import Architecture
from .candidates import Candidate, Supported
from .device import Device
from .load import Load, Slo
from .setup import Setup
from .wish import Wish

KV_MARGIN = 0.95
"""Of the predicted KV cache only so much is promised: predictions of it are off by some percent at most."""
LARGE_BYTES = 70 * 2**30
SEQUENCES_LARGE, SEQUENCES_SMALL = 1024, 256
"""At once on devices from LARGE_BYTES on, and below: vLLM's own defaults (vllm/engine/arg_utils.py,
get_batch_defaults), and no more than these is promised on any engine."""
REPLICAS_MAX = 256
"""As many as the deployment file takes."""
RATE_LEAST = 0.98
"""An open load counts as served if so much of it comes out."""
TRIES_MAX = 12


@dataclass(frozen=True, slots=True)
class Physics:
    """What the search asks: memory.py, performance.py and the support table, or a corrected form of them."""

    memory: Callable[[Architecture, Device, Setup], MemoryPlan]
    speed: Callable[[Architecture, Device, Setup, Load], Performance]
    supported: Supported


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
    alone: Performance
    """One request on an idle replica."""
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
    """Predicted to allowed: TTFT, ITL and, of an open load, what is asked to what comes out."""
    parts = [0.0]
    for interval, bound in ((found.ttft_ms, slo.ttft_ms), (found.itl_ms, slo.itl_ms)):
        if bound is not None:
            parts.append((interval.high if high else interval.value) / bound)
    if load.requests_per_s is not None:
        served = found.requests_per_s.value / load.requests_per_s
        parts.append(1.0 if served >= 1 else RATE_LEAST / max(served, 1e-9))
        if served >= RATE_LEAST:
            parts[-1] = min(parts[-1], 1.0)
    return max(parts)


def size(arch: Architecture, candidate: Candidate, wish: Wish, physics: Physics) -> Sized | MemoryPlan:
    """The fewest replicas that keep the SLO, or the most that there is hardware for; MemoryPlan: it does not fit."""
    device = candidate.hardware.device
    context = wish.context_for(arch.max_position)
    setup = replace(candidate.setup, max_model_tokens=context, max_sequences=sequences_most(device))
    memory = physics.memory(arch, device, setup)
    if memory.kv_tokens * KV_MARGIN < context:
        return memory
    capacity = capacity_of(arch, device, setup, wish, physics)
    setup = _with_limits(setup, memory, capacity, wish)
    memory = physics.memory(arch, device, setup)
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
    return Sized(
        candidate,
        setup,
        memory,
        replicas,
        load,
        found,
        physics.speed(arch, device, setup, wish.at_once(1)),
        capacity,
        strain(found, load, wish.slo),
        strain(found, load, wish.slo, high=True),
        lost,
    )


def capacity_of(arch: Architecture, device: Device, setup: Setup, wish: Wish, physics: Physics) -> Capacity:
    """By doubling and halving of the number of requests at once; TTFT and ITL only grow with it."""

    def keeps(concurrency: int) -> Performance | None:
        load = wish.at_once(concurrency)
        found = physics.speed(arch, device, setup, load)
        return found if strain(found, load, wish.slo) <= 1 else None

    best = keeps(1)
    if best is None:
        return Capacity(0, 0.0, 0.0)
    most = sequences_most(device)
    low, high, step = 1, most + 1, 8
    while step <= most:
        found = keeps(step)
        if found is None:
            high = step
            break
        best, low, step = found, step, step * 2
    while high - low > max(low // 32, 1):  # 3 % is finer than any prediction
        middle = (low + high) // 2
        found = keeps(middle)
        if found is None:
            high = middle
        else:
            best, low = found, middle
    return Capacity(low, best.requests_per_s.value, best.output_tokens_per_s.value)


def sequences_most(device: Device) -> int:
    return SEQUENCES_LARGE if device.usable_bytes >= LARGE_BYTES else SEQUENCES_SMALL


def _first_guess(wish: Wish, capacity: Capacity, most: int) -> int:
    if not capacity.concurrency or not wish.has_load:
        return most if wish.has_load or most < REPLICAS_MAX else 1
    if wish.users is not None:
        return max(math.ceil(wish.users / capacity.concurrency), 1)
    assert wish.requests_per_s is not None
    return max(math.ceil(wish.requests_per_s / capacity.requests_per_s), 1)


def _with_limits(setup: Setup, memory: MemoryPlan, capacity: Capacity, wish: Wish) -> Setup:
    """Sequences at once: as many as keep the SLO and as the cache holds at their mean length; a multiple of 8."""
    mean_live = wish.input_tokens + wish.output_tokens / 2
    held = int(memory.kv_tokens * KV_MARGIN / mean_live)
    sequences = max(min(max(capacity.concurrency, 1), held), 1)
    rounded = sequences if sequences < 8 else sequences // 8 * 8
    return replace(setup, max_sequences=rounded, memory_fraction=round(memory.budget / memory.total, 2))
