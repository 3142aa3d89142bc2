"""A model is wanted and memory is bounded: load it now, unload others first, wait, or say that it can't be?

What may be unloaded: deployments that load on demand, have been loaded for `loaded_min_s`, and are not on their
way in or out. Idle ones go first, the least recently used before others. Where those are not enough, busy ones
have to go as well: whoever carries this out lets them finish the requests that they hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Holder:
    """A deployment that holds memory now, or is about to. Times are one monotonic clock's seconds."""

    name: str
    need_bytes: int
    on_demand: bool
    """Otherwise it is always loaded."""
    requests: int = 0
    """That it computes, or that wait for a turn there."""
    used_s: float = 0.0
    """When it last had a request."""
    loaded_s: float | None = None
    """When it became ready; None: it is still loading."""
    loaded_min_s: float = 0.0
    is_leaving: bool = False


@dataclass(frozen=True, slots=True)
class LoadNow:
    because: str


@dataclass(frozen=True, slots=True)
class UnloadFirst:
    """Ask again when their memory is free."""

    names: tuple[str, ...]
    because: str


@dataclass(frozen=True, slots=True)
class WaitForMemory:
    because: str


@dataclass(frozen=True, slots=True)
class CannotLoad:
    """However long one waits."""

    because: str


def decide_load(
    need_bytes: int, budget_bytes: int | None, holders: Sequence[Holder], now_s: float
) -> LoadNow | UnloadFirst | WaitForMemory | CannotLoad:
    """What to do for a model that needs `need_bytes`; `holders` are all others. Never more than the budget is held,
    as far as their figures are true."""
    if budget_bytes is None:
        return LoadNow("there is no memory budget")
    always = [each for each in holders if not each.on_demand]
    always_bytes = sum(each.need_bytes for each in always)
    if need_bytes + always_bytes > budget_bytes:
        return CannotLoad(_too_big(need_bytes, budget_bytes, always, always_bytes))
    held_bytes = sum(each.need_bytes for each in holders)
    short_bytes = held_bytes + need_bytes - budget_bytes
    if short_bytes <= 0:
        return LoadNow(f"{in_gib(budget_bytes - held_bytes)} of {in_gib(budget_bytes)} are free")
    leaving = [each for each in holders if each.is_leaving]
    short_bytes -= sum(each.need_bytes for each in leaving)
    if short_bytes <= 0:
        return WaitForMemory(f"{_listed(leaving)} {_is(leaving)} being unloaded")
    ripe = [each for each in holders if _may_go(each, now_s)]
    idle = sorted((each for each in ripe if not each.requests), key=_last_used)
    busy = sorted((each for each in ripe if each.requests), key=_last_used)
    chosen = _enough((*idle, *busy), short_bytes)
    if not chosen:
        return WaitForMemory(_why_not_yet(holders, now_s))
    return UnloadFirst(
        tuple(each.name for each in chosen),
        f"{in_gib(need_bytes)} are needed, {in_gib(max(budget_bytes - held_bytes, 0))} of "
        f"{in_gib(budget_bytes)} are free",
    )


def is_idle_too_long(holder: Holder, idle_unload_s: float | None, now_s: float) -> bool:
    """Whether it is to be unloaded because nobody asks for it."""
    return (
        idle_unload_s is not None
        and holder.loaded_s is not None
        and not holder.requests
        and not holder.is_leaving
        and now_s - max(holder.used_s, holder.loaded_s) >= idle_unload_s
    )


def in_gib(count_bytes: int) -> str:
    """`1.5 GiB`; `600 MiB` where a tenth of a GiB would round: rounded ones do not add up."""
    tenths = count_bytes * 10 / 2**30
    is_exact = tenths >= 1 and tenths == int(tenths)
    return f"{tenths / 10:.1f} GiB" if is_exact or tenths >= 100 else f"{count_bytes / 2**20:.0f} MiB"


def _may_go(holder: Holder, now_s: float) -> bool:
    return (
        holder.on_demand
        and not holder.is_leaving
        and holder.loaded_s is not None
        and now_s - holder.loaded_s >= holder.loaded_min_s
    )


def _last_used(holder: Holder) -> float:
    return holder.used_s


def _enough(candidates: Sequence[Holder], short_bytes: int) -> list[Holder]:
    """The first of them that free `short_bytes` together, without those that are not needed for it; none if all
    are too few."""
    chosen: list[Holder] = []
    freed_bytes = 0
    for each in candidates:
        if freed_bytes >= short_bytes:
            break
        chosen.append(each)
        freed_bytes += each.need_bytes
    if freed_bytes < short_bytes:
        return []
    for each in reversed(chosen.copy()):  # the most precious first
        if freed_bytes - each.need_bytes >= short_bytes:
            chosen.remove(each)
            freed_bytes -= each.need_bytes
    return chosen


def _why_not_yet(holders: Sequence[Holder], now_s: float) -> str:
    on_demand = [each for each in holders if each.on_demand and not each.is_leaving]
    loading = [each for each in on_demand if each.loaded_s is None]
    fresh = [each for each in on_demand if each.loaded_s is not None and not _may_go(each, now_s)]
    reasons = []
    if loading:
        reasons.append(f"{_listed(loading)} {_is(loading)} before it")
    if fresh:
        reasons.append(f"{_listed(fresh)} {_is(fresh)} loaded for less than loaded_min_s")
    return "; ".join(reasons) or "what could be unloaded is not enough"


def _too_big(need_bytes: int, budget_bytes: int, always: Sequence[Holder], always_bytes: int) -> str:
    text = f"it needs {in_gib(need_bytes)}, and host.memory_budget is {in_gib(budget_bytes)}"
    if always_bytes:
        text = f"{text}, of which {in_gib(always_bytes)} are for what is always loaded ({_listed(always)})"
    return f"{text}: {in_gib(need_bytes + always_bytes - budget_bytes)} are missing"


def _listed(holders: Sequence[Holder]) -> str:
    return ", ".join(f"'{each.name}'" for each in holders[:5]) + (" ..." if len(holders) > 5 else "")


def _is(holders: Sequence[Holder]) -> str:
    return "is" if len(holders) == 1 else "are"
