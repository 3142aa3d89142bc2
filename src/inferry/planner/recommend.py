"""Which engine, formats, parallelism and how many replicas: the cheapest that does what is asked, and what else does.

Order of what is better: it keeps the SLO and the budget; the model as its checkpoint has it (unless any quantization is
welcome); cheaper; fewer devices; less strain. Where nothing keeps the SLO, the least strained comes first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .answers import MemoryPlan
from .architecture import Architecture
from .candidates import Candidate, candidates
from .cost import Cost, cost_of
from .sizing import Physics, Sized, size
from .wish import Hardware, Wish

ALTERNATIVES_MAX = 5
STRAIN_TIED = 0.02


@dataclass(frozen=True, slots=True)
class Option:
    sized: Sized
    cost: Cost | None
    in_budget: bool

    @property
    def good(self) -> bool:
        return self.sized.keeps_slo and self.in_budget


@dataclass(frozen=True, slots=True)
class Refused:
    """The candidate that came nearest to fitting, for words about what is missing."""

    candidate: Candidate
    memory: MemoryPlan


@dataclass(frozen=True, slots=True)
class Recommendation:
    """`best` does what is asked if `best.good`; else it is the nearest. `others` differ from it and from each other in
    device, engine, formats or parallelism."""

    best: Option
    others: tuple[Option, ...]
    looked_at: int
    """Ways that were judged, those that don't fit among them."""


@dataclass(frozen=True, slots=True)
class NothingFits:
    nearest: Refused | None
    """None: no engine supports any of the formats on any of the devices."""
    looked_at: int


def recommend(
    arch: Architecture, hardware: Sequence[Hardware], wish: Wish, physics: Physics
) -> Recommendation | NothingFits:
    """The best way on any of `hardware`, with alternatives."""
    options: list[Option] = []
    refused: list[Refused] = []
    for each in hardware:
        for candidate in candidates(arch, each, wish, physics.supported):
            found = size(arch, candidate, wish, physics)
            if isinstance(found, MemoryPlan):
                refused.append(Refused(candidate, found))
            else:
                options.append(_option(found, wish))
    looked_at = len(options) + len(refused)
    if not options:
        return NothingFits(max(refused, key=_nearness, default=None), looked_at)
    ranked = sorted(options, key=lambda option: _rank(option, wish))
    return Recommendation(ranked[0], tuple(_distinct(ranked[0], ranked[1:])), looked_at)


def _option(sized: Sized, wish: Wish) -> Option:
    device = sized.candidate.hardware.device
    cost = cost_of(
        device, sized.devices, sized.replicas, sized.load, sized.at_load, sized.alone.ttft_ms.value
    )
    budget = wish.budget_usd_per_hour
    in_budget = budget is None or (cost is not None and cost.usd_per_hour <= budget)
    return Option(sized, cost, in_budget)


def _rank(option: Option, wish: Wish) -> tuple[float, ...]:
    sized = option.sized
    changed = wish.quantization == "auto" and not sized.candidate.as_it_is
    price = option.cost.usd_per_hour if option.cost is not None else math.inf
    if not wish.has_load:
        # No load was named: what counts is how much comes out of the same money, or of the same devices.
        output = max(sized.capacity.output_tokens_per_s * sized.replicas, 1e-9)
        return (
            not option.good,
            changed,
            (price if price < math.inf else sized.devices) / output,
            sized.strain,
        )
    if not sized.keeps_slo:
        return (True, not option.in_budget, sized.strain, changed, price, sized.devices)
    return (not option.good, changed, price, sized.devices, round(sized.strain / STRAIN_TIED), sized.strain)


def _nearness(refused: Refused) -> tuple[bool, int]:
    """How much KV cache is left, per device; the model as it is before others."""
    return refused.candidate.as_it_is, refused.memory.kv


def _distinct(best: Option, ranked: Iterable[Option]) -> Iterable[Option]:
    """The first of each kind, so that a table of few lines shows what else there is; good ones only, if there are any."""
    seen = {_kind(best)}
    shown = 0
    for option in ranked:
        kind = _kind(option)
        if kind in seen or (best.good and not option.sized.keeps_slo and shown >= 2):
            continue
        seen.add(kind)
        yield option
        shown += 1
        if shown == ALTERNATIVES_MAX:
            return


def _kind(option: Option) -> tuple[object, ...]:
    setup = option.sized.setup
    return option.sized.candidate.hardware.device.name, setup.engine, setup.weights, setup.tensor_parallel


def as_many_as_it_takes(hardware: Iterable[Hardware]) -> tuple[Hardware, ...]:
    """The same kinds of devices without a bound, to say how many would do."""
    return tuple(replace(each, count=None) for each in hardware)
