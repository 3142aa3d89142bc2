"""What would help where nothing does what is asked: less load, more devices, others, a looser SLO, more money.

Each is checked by the search itself, and names what it found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .architecture import Architecture
from .capacity import ttft_quantile_ms
from .load import Slo
from .recommend import Option, Recommendation, as_many_as_it_takes, recommend
from .sizing import Physics
from .wish import Hardware, Wish

ROUNDING = 1.05
"""A looser bound is proposed so much above the prediction."""


@dataclass(frozen=True, slots=True)
class Relief:
    """One change with which it works, and the option that was found with it."""

    change: Literal[
        "less_load", "more_devices", "other_devices", "looser_slo", "more_budget", "fewer_devices"
    ]
    option: Option
    slo: Slo | None = None
    """Of a looser one."""


def reliefs(
    arch: Architecture,
    hardware: Sequence[Hardware],
    for_rent: Sequence[Hardware],
    wish: Wish,
    best: Option,
    physics: Physics,
) -> tuple[Relief, ...]:
    """At most one of each kind; none is guessed. `for_rent`: devices that may be proposed instead."""
    found: list[Relief] = []
    capacity = best.sized.capacity
    if not best.sized.keeps_slo and capacity.concurrency and wish.has_load:
        found.append(Relief("less_load", best))
    if any(each.count is not None for each in hardware):
        found += _if_good("more_devices", recommend(arch, as_many_as_it_takes(hardware), wish, physics))
    known = {each.device.name for each in hardware}
    others = [each for each in for_rent if each.device.name not in known]
    if others and not _has_more_devices(found):
        found += _if_good("other_devices", recommend(arch, others, wish, physics))
    if wish.budget_usd_per_hour is not None:
        found += _about_budget(arch, hardware, wish, best, physics)
    if not best.sized.keeps_slo and (looser := _looser(wish.slo, best)) != wish.slo:
        found += [
            replace(each, slo=looser)
            for each in _if_good("looser_slo", recommend(arch, hardware, replace(wish, slo=looser), physics))
        ]
    return tuple(found)


def _has_more_devices(found: Sequence[Relief]) -> bool:
    return any(each.change == "more_devices" for each in found)


def _if_good(
    change: Literal["more_devices", "other_devices", "looser_slo", "more_budget"], answer: object
) -> list[Relief]:
    if isinstance(answer, Recommendation) and answer.best.good:
        return [Relief(change, answer.best)]
    return []


def _about_budget(
    arch: Architecture, hardware: Sequence[Hardware], wish: Wish, best: Option, physics: Physics
) -> list[Relief]:
    """What it costs to do all that is asked, and what the money does."""
    assert wish.budget_usd_per_hour is not None
    unbound = replace(wish, budget_usd_per_hour=None)
    found = _if_good("more_budget", recommend(arch, hardware, unbound, physics))
    affordable = []
    for each in hardware:
        if each.device.price is not None:
            count = int(wish.budget_usd_per_hour // each.device.price.usd_per_hour)
            if count:
                affordable.append(
                    replace(each, count=count if each.count is None else min(count, each.count))
                )
    most = replace(unbound, users=None, requests_per_s=None)
    within = recommend(arch, affordable, most, physics)
    if isinstance(within, Recommendation) and within.best.good:
        found.append(Relief("fewer_devices", within.best))
    return found


def _looser(slo: Slo, best: Option) -> Slo:
    """Bounds that the nearest option keeps, rounded up to two figures; those asked for, where its queue grows."""
    at_load = best.sized.at_load
    if best.sized.queue_grows:
        return slo
    ttft_ms = ttft_quantile_ms(at_load, slo.percentile)
    return replace(
        slo,
        ttft_ms=None if slo.ttft_ms is None else max(slo.ttft_ms, _rounded(ttft_ms)),
        itl_ms=None if slo.itl_ms is None else max(slo.itl_ms, _rounded(at_load.itl_ms.value)),
    )


def _rounded(value_ms: float) -> float:
    return float(f"{ROUNDING * value_ms:.2g}")
