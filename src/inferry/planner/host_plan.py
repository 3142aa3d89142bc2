"""What a machine without GPUs does with a model: whether its memory holds it, for how many at once, and how fast."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from .answers import Performance
from .architecture import Architecture
from .capacity import strain
from .host_memory import host_memory_bytes
from .host_speed import OTHER, OWN, HostSpeed, host_model, predict_on_host
from .kv_cache import kv_bytes_per_token
from .learned_physics import corrected_speed
from .learning import NOTHING_LEARNED, Corrections
from .load import Load
from .setup import Setup
from .wish import Wish

SLOTS_MAX = 64
"""At once, at most: probes have up to four, and a CPU's tokens/s hardly grow beyond a few more."""
MEMORY_SHARE = 0.95
"""Of what is free; predictions of memory were within 2 % of measured starts (docs/calibrate.md), and others need some."""
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class HostSubject:
    """A model's files with the engine that runs them here."""

    arch: Architecture
    engine: str
    """`llamacpp` or `vllm`."""
    weights_bytes: float
    copies_bytes: int = 0
    base_bytes: int | None = None
    """What the engine holds besides, as calibrated."""
    speed: HostSpeed | None = None
    """None: not calibrated here."""
    own: bool = True
    """Calibrated with this very model."""
    learned: Corrections = NOTHING_LEARNED
    """What launches here taught."""


@dataclass(frozen=True, slots=True)
class HostPlan:
    slots: int
    """Requests that are computed at once; 0: not even one fits."""
    slots_fit: int
    """As many as the memory holds, SLOTS_MAX at most."""
    context_tokens: int
    """Longest prompt and answer."""
    kv_bytes: int
    memory_bytes: int
    """Of the engine; for one request where none fits."""
    free_bytes: int
    longest_tokens: int
    """The longest one request for which the memory would do."""
    load: Load | None = None
    at_load: Performance | None = None
    carries: int = 0
    """At once within the SLO."""
    strain: float = math.inf
    """Predicted to allowed, the worst of all bounds; the SLO is kept up to 1."""

    @property
    def good(self) -> bool:
        return self.slots > 0 and self.at_load is not None and self.strain <= 1


def plan_on_host(subject: HostSubject, free_bytes: int, wish: Wish) -> HostPlan:
    """As many places as there are users, or as the rate needs, or as keep the SLO, and as the memory holds."""
    context = wish.context_for(subject.arch.max_position)
    fit = max(
        (slots for slots in range(1, SLOTS_MAX + 1) if _fits(subject, slots, context, free_bytes, wish)),
        default=0,
    )
    if not fit:
        return _plan(subject, 0, fit, context, free_bytes, wish)
    if subject.speed is None:
        return _plan(subject, min(wish.users or 1, fit), fit, context, free_bytes, wish)
    looked = list(_closed_loops(subject, fit, wish))
    carries = next((slots - 1 for slots, _, told in looked if told > 1), fit)
    if wish.users is not None:
        slots, load = min(wish.users, fit), wish.at_once(wish.users)
        found = _speed(subject, load, slots)
        worst = strain(found, load, wish.slo)
    else:
        rate = wish.requests_per_s or 0.0
        enough = [each for each in looked if each[1].requests_per_s.value >= rate]
        best = max(looked, key=lambda each: each[1].requests_per_s.value)
        slots, found, worst = (enough[0] if enough else best) if rate else looked[max(carries, 1) - 1]
        load = wish.at_once(slots)
        worst = max(worst, rate / found.requests_per_s.value)  # up to 1 where the rate is reached
    return _plan(
        subject, slots, fit, context, free_bytes, wish, load=load, at_load=found, carries=carries, worst=worst
    )


def kv_bytes_on_host(subject: HostSubject, slots: int, context_tokens: int, wish: Wish) -> int:
    """llama.cpp keeps a whole context for each place; vLLM is told a number of GiB, here for all at their mean length."""
    if subject.engine != "vllm":
        return int(slots * context_tokens * kv_bytes_per_token(subject.arch, Setup("llamacpp", kv="fp16")))
    tokens = max(slots * (wish.input_tokens + wish.output_tokens), context_tokens)
    needed = tokens * kv_bytes_per_token(subject.arch, Setup("vllm"))
    return max(math.ceil(needed / _GIB), 1) * _GIB


def _closed_loops(subject: HostSubject, most: int, wish: Wish) -> Iterator[tuple[int, Performance, float]]:
    for slots in range(1, most + 1):
        load = wish.at_once(slots)
        found = _speed(subject, load, slots)
        yield slots, found, strain(found, load, wish.slo)


def _speed(subject: HostSubject, load: Load, slots: int) -> Performance:
    assert subject.speed is not None
    shape = host_model(subject.arch, subject.weights_bytes)
    spreads = OWN if subject.own else OTHER
    found = predict_on_host(shape, subject.speed, load, slots=slots, spreads=spreads)
    return corrected_speed(found, subject.learned)


def _memory(subject: HostSubject, slots: int, context_tokens: int, wish: Wish) -> int:
    held = host_memory_bytes(
        subject.engine,
        subject.arch,
        subject.weights_bytes,
        copies_bytes=subject.copies_bytes,
        kv_tokens=slots * context_tokens,
        kv_space_bytes=kv_bytes_on_host(subject, slots, context_tokens, wish),
        base=subject.base_bytes,
    )
    return round(held * subject.learned.factor("memory_bytes"))


def _fits(subject: HostSubject, slots: int, context_tokens: int, free_bytes: int, wish: Wish) -> bool:
    return _memory(subject, slots, context_tokens, wish) <= MEMORY_SHARE * free_bytes


def _longest(subject: HostSubject, free_bytes: int, wish: Wish) -> int:
    """By halving, up to what the model was made for."""
    low, high = 0, subject.arch.max_position or wish.context_for(0)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _fits(subject, 1, middle, free_bytes, wish) else (low, middle - 1)
    return low


def _plan(
    subject: HostSubject,
    slots: int,
    fit: int,
    context_tokens: int,
    free_bytes: int,
    wish: Wish,
    *,
    load: Load | None = None,
    at_load: Performance | None = None,
    carries: int = 0,
    worst: float = math.inf,
) -> HostPlan:
    shown = max(slots, 1)
    return HostPlan(
        slots=slots,
        slots_fit=fit,
        context_tokens=context_tokens,
        kv_bytes=kv_bytes_on_host(subject, shown, context_tokens, wish),
        memory_bytes=_memory(subject, shown, context_tokens, wish),
        free_bytes=free_bytes,
        longest_tokens=_longest(subject, free_bytes, wish),
        load=load,
        at_load=at_load,
        carries=carries,
        strain=worst,
    )
