"""How many replicas one candidate needs, with which limits, and what it then does: the planner's inner search."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .answers import MemoryPlan, Performance
from .architecture import Architecture
from .candidates import Candidate, Supports
from .capacity import NO_CAPACITY, Capacity, capacity_of, queue_grows, strain
from .checkpoints import GGUF_ENGINES
from .device import Device
from .limits import limits_of
from .load import Load
from .setup import Setup
from .wish import Wish

KV_MARGIN = 0.95
"""Of the predicted KV cache only so much is promised: predictions of it are off by some percent at most."""
REPLICAS_MAX = 256
"""As many as the deployment file takes."""
SEQUENCES_LEAST = 8
"""An engine is asked for no fewer places, so that CUDA graphs of its usual sizes are used."""
HOPELESS_WITHIN = 2.0
"""Where even one request alone misses the SLO, no number of replicas keeps it: so many that load adds no more than as much
again are enough to name what is nearest."""
FLOOD = 1e6
"""Requests/s that no replica serves: what comes out then is the most that can."""


@dataclass(frozen=True, slots=True)
class Physics:
    """What the search asks: memory.py, performance.py and the support table, or a corrected form of them."""

    memory: Callable[[Architecture, Device, Setup], MemoryPlan]
    sequence: Callable[[Architecture, Device, Setup, int], float]
    """Bytes of KV cache that a sequence of so many tokens takes on one device."""
    speed: Callable[[Architecture, Device, Setup, Load], Performance]
    supports: Supports


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
    busy_replicas: float
    """What all replicas put out over what the fullest does: fewer than there are where users can't be shared out evenly."""
    capacity: Capacity
    strain: float
    strain_high: float
    """The same at the far end of the intervals."""
    strain_one_lost: float
    """The same with one replica fewer; infinite where there is only one."""
    strain_alone: float
    """The same of one request alone: above 1, no number of replicas keeps the SLO."""

    @property
    def devices(self) -> int:
        return self.replicas * self.setup.devices

    @property
    def keeps_slo(self) -> bool:
        return self.strain <= 1

    @property
    def queue_grows(self) -> bool:
        return queue_grows(self.at_load, self.load)

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


def size(arch: Architecture, candidate: Candidate, wish: Wish, physics: Physics) -> Sized | MemoryPlan:
    """The fewest replicas that keep the SLO; where none do, as many as bring it nearer, or fewer where that is hopeless.
    MemoryPlan: it does not fit."""
    held = _held(arch, candidate, wish, physics)
    if isinstance(held, MemoryPlan):
        return held
    device = candidate.hardware.device

    def look(load: Load) -> tuple[Performance, float]:
        found = physics.speed(arch, device, held, load)
        return found, strain(found, load, wish.slo)

    capacity = _capacity(held, wish, look)
    looked: dict[int, tuple[Performance, float]] = {}

    def share(replicas: int) -> Load:
        return wish.share(replicas) if wish.has_load else wish.at_once(max(capacity.concurrency, 1))

    def strain_of(replicas: int) -> float:
        if replicas not in looked:
            looked[replicas] = look(share(replicas))
        return looked[replicas][1]

    most = _most_replicas(candidate, held, wish, capacity, look)
    _, alone = look(wish.at_once(1))
    within = 1.0 if alone <= 1 else HOPELESS_WITHIN
    replicas = (
        fewest(strain_of, _first_guess(wish, capacity, most), most, within=within) if wish.has_load else most
    )
    lost = strain_of(replicas - 1) if replicas > 1 and wish.has_load else math.inf
    strain_of(replicas)
    found, worst = looked[replicas]
    load = share(replicas)
    capacity = _at_least(capacity, load, found, worst)
    setup = _with_fewer_sequences(held, max(capacity.concurrency, _places(found, load)))
    return Sized(
        candidate,
        setup,
        physics.memory(arch, device, setup),
        replicas,
        load,
        found,
        _busy_replicas(wish, replicas, found, look),
        capacity,
        worst,
        strain(found, load, wish.slo, high=True),
        lost,
        alone,
    )


def fewest(strain_of: Callable[[int], float], guess: int, most: int, *, within: float) -> int:
    """The smallest number up to `most` whose strain is at most 1; where there is none, the smallest whose strain is at most
    `within` times the least. More of them never strain more."""
    bound = 1.0
    low, high = 0, min(max(guess, 1), most)
    step = 1
    while strain_of(high) > bound:
        if high == most:
            bound = within * strain_of(most)
            low = 0
            break
        low, high = high, min(high + step, most)
        step *= 2
    step = 1
    while low < high - 1:
        # Near the guess first: it is seldom far off.
        middle = max(high - step, (low + high) // 2) if low == 0 else (low + high) // 2
        step *= 2
        if strain_of(middle) <= bound:
            high = middle
        else:
            low = middle
    return high


def _held(arch: Architecture, candidate: Candidate, wish: Wish, physics: Physics) -> Setup | MemoryPlan:
    """The setup with its limits written out and as many sequences as the cache holds; MemoryPlan: it does not fit, with
    the engine's own number of sequences or with as few as are needed."""
    device = candidate.hardware.device
    context = wish.context_for(arch.max_position)
    setup = _with_defaults(arch, device, replace(candidate.setup, max_model_tokens=context))
    for sequences in _sequences_tried(setup, wish):
        tried = replace(setup, max_sequences=sequences)
        memory = physics.memory(arch, device, tried)
        if physics.sequence(arch, device, tried, context) <= KV_MARGIN * memory.kv:
            # llama.cpp and Ollama set room for the longest request aside for each place, others as tokens come.
            live = context if setup.engine in GGUF_ENGINES else wish.input_tokens + wish.output_tokens // 2
            held = max(int(memory.kv * KV_MARGIN / physics.sequence(arch, device, tried, live)), 1)
            return replace(tried, max_sequences=min(held, sequences or held))
    return memory


def _sequences_tried(setup: Setup, wish: Wish) -> Iterator[int | None]:
    """The engine's default first; engines keep memory for each, so that fewer may fit where the default does not."""
    yield setup.max_sequences
    default = setup.max_sequences or math.inf
    for fewer in (-(-(wish.users or 0) // 8) * 8, SEQUENCES_LEAST):
        if SEQUENCES_LEAST <= fewer < default:
            yield fewer


def _capacity(setup: Setup, wish: Wish, look: Callable[[Load], tuple[Performance, float]]) -> Capacity:
    """Of the kind of load that is asked for: users who wait for their answers come in step, arrivals do not."""
    if wish.requests_per_s is None:
        return capacity_of(
            lambda at_once: look(wish.at_once(at_once)), float(setup.max_sequences or 1), whole=True
        )
    served, _ = look(wish.at_rate(FLOOD))
    most = served.requests_per_s.value
    return capacity_of(lambda rate: look(wish.at_rate(rate)), most, whole=False) if most > 0 else NO_CAPACITY


def _at_least(capacity: Capacity, load: Load, found: Performance, worst: float) -> Capacity:
    """The search for a capacity ends a little below it: a load that keeps the SLO is within it."""
    over = (load.concurrency or 0) > capacity.concurrency
    if load.requests_per_s is not None:
        over = load.requests_per_s > capacity.requests_per_s
    if worst > 1 or not over:
        return capacity
    at_once = max(math.floor(load.concurrency or found.running), 1)
    return Capacity(at_once, found.requests_per_s.value, found.output_tokens_per_s.value)


def _most_replicas(
    candidate: Candidate,
    setup: Setup,
    wish: Wish,
    capacity: Capacity,
    look: Callable[[Load], tuple[Performance, float]],
) -> int:
    """What the hardware and the deployment file take, and never more than there is work for: one user on each, or where
    the SLO is out of reach, requests that one replica serves one at a time."""
    count = candidate.hardware.count
    most = REPLICAS_MAX if count is None else min(count // setup.devices, REPLICAS_MAX)
    if not wish.has_load:
        return 1 if count is None else most
    if wish.users is not None:
        return min(most, wish.users)
    if capacity.requests_per_s or wish.requests_per_s is None:
        return most
    alone, _ = look(wish.at_once(1))
    return min(most, max(math.ceil(wish.requests_per_s / alone.requests_per_s.value), 1))


def _first_guess(wish: Wish, capacity: Capacity, most: int) -> int:
    if not capacity.concurrency:
        return most
    if wish.users is not None:
        return math.ceil(wish.users / capacity.concurrency)
    assert wish.requests_per_s is not None
    return math.ceil(wish.requests_per_s / capacity.requests_per_s)


def _busy_replicas(
    wish: Wish, replicas: int, fullest: Performance, look: Callable[[Load], tuple[Performance, float]]
) -> float:
    """Some have one user fewer than the fullest, where users can't be shared out evenly."""
    fuller = replicas if wish.users is None else wish.users % replicas or replicas
    if fuller == replicas:
        return replicas
    assert wish.users is not None
    other, _ = look(wish.at_once(wish.users // replicas))
    return fuller + (replicas - fuller) * other.requests_per_s.value / fullest.requests_per_s.value


def _places(found: Performance, load: Load) -> int:
    """At once under way; of arrivals at random now and then more than their mean: two standard deviations of their
    number, which is Poisson's where nobody waits."""
    spread = 2 * math.sqrt(found.running) if load.requests_per_s is not None else 0.0
    return math.ceil(found.running + spread)


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
