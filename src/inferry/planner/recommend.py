"""Which engine, formats, parallelism and how many replicas: the cheapest that does what is asked, and what else does.

Order of what is better: it keeps the SLO and the budget; it keeps the SLO; the model as its checkpoint has it (unless any quantization is
welcome); cheaper; fewer devices; less strain. Where nothing keeps the SLO, the least strained comes first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from .answers import MemoryPlan
from .architecture import Architecture
from .candidates import Candidate, candidates
from .cost import Cost, cost_of
from .facts.engine_support import NotSupported
from .sizing import Physics, Sized, size
from .wish import Hardware, Wish

PLACES_AS_IT_IS, PLACES_CHANGED = 4, 2
"""Among the alternatives that are shown."""
CHANGED_ON = 2
"""Devices on which quantization is shown beside the model as it is."""
STRAIN_TIED = 0.02
NEARLY_AS_NEAR = 1.25
"""Of those that miss the SLO by about as much, the smallest is the nearest."""


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
    unsupported: tuple[str, ...] = ()
    """Why."""


def recommend(
    arch: Architecture, hardware: Sequence[Hardware], wish: Wish, physics: Physics
) -> Recommendation | NothingFits:
    """The best way on any of `hardware`, with alternatives.

    Where the model as it is comes first, the others are only looked at on the devices that did best with it, or on all
    if none did.
    """
    judged = _Judged()
    first_as_it_is = wish.quantization == "auto"
    for each in hardware:
        _judge(arch, each, wish, physics, judged, as_it_is=True if first_as_it_is else None)
    if first_as_it_is:
        good = sorted((each for each in judged.options if each.good), key=lambda option: _rank(option, wish))
        names = list(dict.fromkeys(option.sized.candidate.hardware.device.name for option in good))
        for each in hardware:
            if not good or each.device.name in names[:CHANGED_ON]:
                _judge(arch, each, wish, physics, judged, as_it_is=False)
    looked_at = len(judged.options) + len(judged.refused)
    if not judged.options:
        nearest = max(judged.refused, key=_nearness, default=None)
        return NothingFits(nearest, looked_at, tuple(judged.unsupported))
    ranked = sorted(judged.options, key=lambda option: _rank(option, wish))
    return Recommendation(ranked[0], tuple(_distinct(ranked[0], ranked[1:])), looked_at)


@dataclass(slots=True)
class _Judged:
    options: list[Option] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    unsupported: dict[str, None] = field(default_factory=dict)
    """In the order in which they were met."""


def _judge(
    arch: Architecture,
    hardware: Hardware,
    wish: Wish,
    physics: Physics,
    judged: _Judged,
    *,
    as_it_is: bool | None,
) -> None:
    """`as_it_is` None: all candidates.

    3, 5, 6 or 7 devices for a replica are only looked at where fewer do not hold the model: they split it less well than
    replicas of their own use them. Bounded or not, the same ways are looked at, so that a bound never makes it cheaper.
    """
    held = set()
    for candidate in candidates(arch, hardware, wish, physics.supports):
        if isinstance(candidate, NotSupported):
            judged.unsupported.setdefault(candidate.why)
            continue
        if as_it_is is not None and candidate.as_it_is is not as_it_is:
            continue
        kind = (candidate.setup.engine, candidate.source, candidate.setup.kv)
        devices = candidate.setup.devices
        if kind in held and devices & (devices - 1):
            continue
        found = size(arch, candidate, wish, physics)
        if isinstance(found, MemoryPlan):
            judged.refused.append(Refused(candidate, found))
        else:
            held.add(kind)
            judged.options.append(_option(found, wish))


def _option(sized: Sized, wish: Wish) -> Option:
    device = sized.candidate.hardware.device
    cost = cost_of(device, sized.devices, sized.busy_replicas, sized.load, sized.at_load)
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
        about = round(math.log(min(sized.strain, 1e9)) / math.log(NEARLY_AS_NEAR))
        return (
            True,
            True,
            not option.in_budget,
            sized.queue_grows,
            about,
            changed,
            price,
            sized.devices,
            sized.strain,
        )
    return (
        not option.good,
        False,
        changed,
        price,
        sized.devices,
        round(sized.strain / STRAIN_TIED),
        sized.strain,
    )


def _nearness(refused: Refused) -> tuple[bool, int]:
    """How much KV cache is left, per device; the model as it is before others."""
    return refused.candidate.as_it_is, refused.memory.kv


def _distinct(best: Option, ranked: Iterable[Option]) -> Iterable[Option]:
    """Those that bring something new: a device, an engine, a format or a number of devices that no line above has. Some
    places are kept for formats other than the model's own, which rank behind it."""
    seen = _traits(best)
    places = {True: PLACES_AS_IT_IS, False: PLACES_CHANGED}
    for option in ranked:
        new = _traits(option) - seen
        as_it_is = option.sized.candidate.as_it_is
        if not new or not places[as_it_is] or (best.good and not option.sized.keeps_slo):
            continue
        seen |= new
        places[as_it_is] -= 1
        yield option


def _traits(option: Option) -> set[tuple[str, object]]:
    setup = option.sized.setup
    return {
        ("device", option.sized.candidate.hardware.device.name),
        ("engine", setup.engine),
        ("weights", setup.weights),
        ("kv", setup.kv),
        ("devices", setup.devices),
    }


def as_many_as_it_takes(hardware: Iterable[Hardware]) -> tuple[Hardware, ...]:
    """The same kinds of devices without a bound, to say how many would do."""
    return tuple(replace(each, count=None) for each in hardware)
