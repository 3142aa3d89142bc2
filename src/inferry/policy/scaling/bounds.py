"""Between which numbers it may be now: `min` and `max`, the schedule's, and what GPUs and money allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from inferry.core.scaling_settings import Day, Scaling, ScalingSchedule
from inferry.policy.scaling.figures import told

_DAYS: tuple[str, ...] = get_args(Day)
_DAY_MINUTES = 24 * 60
_WEEK_MINUTES = 7 * _DAY_MINUTES


@dataclass(frozen=True, slots=True)
class Bounds:
    """In force at one moment."""

    low: int
    high: int
    low_by: str
    """What sets it, with the value: `min 2`, `schedule 08:00-18:00, min 6`."""
    high_by: str
    note: str = ""
    """What could not be looked at."""


def bounds_in_force(scaling: Scaling, week_minutes: Mapping[str, int], gpus_per_replica: int = 0) -> Bounds:
    """Of the schedule's entries that hold now, the highest `min` and the highest `max`; where what GPUs or money
    allow is less than that, it is that. `week_minutes`: by time zone, minutes since Monday 00:00 there."""
    entries = [each for each in scaling.schedule if _holds(each, week_minutes)]
    low, low_by = _highest(entries, "min", scaling.min)
    high, high_by = _highest(entries, "max", scaling.max)
    for most, by in _budgets(scaling, gpus_per_replica):
        if most < high:
            high, high_by = most, by
    if high < 1:
        high, high_by = 1, f"{high_by} (that is none, but the last one stays)"
    missing = [each.timezone for each in scaling.schedule if each.timezone not in week_minutes]
    note = f"the schedule has no time of {missing[0]}: it rests" if missing else ""
    if low > high:
        low, low_by = high, high_by
    return Bounds(low, high, low_by, high_by, note)


def _highest(entries: list[ScalingSchedule], name: str, otherwise: int) -> tuple[int, str]:
    if not entries:
        return otherwise, f"{name} {otherwise}"
    best: tuple[int, str] | None = None
    for entry in entries:
        own: int | None = getattr(entry, name)
        number = otherwise if own is None else own
        by = f"{name} {number}" if own is None else f"schedule {entry.begin}-{entry.end}, {name} {number}"
        if best is None or number > best[0]:
            best = number, by
    assert best is not None
    return best


def _budgets(scaling: Scaling, gpus_per_replica: int) -> list[tuple[int, str]]:
    budgets = []
    if scaling.gpus_max is not None and gpus_per_replica:
        by = f"gpus_max {scaling.gpus_max}, {gpus_per_replica} per replica"
        budgets.append((scaling.gpus_max // gpus_per_replica, by))
    if scaling.money_per_hour_max is not None and scaling.replica_price_per_hour:
        most, price = scaling.money_per_hour_max, scaling.replica_price_per_hour
        by = f"money_per_hour_max {told(most)}, {told(price)} per replica"
        budgets.append((int(most / price + 1e-9), by))
    return budgets


def _holds(entry: ScalingSchedule, week_minutes: Mapping[str, int]) -> bool:
    now = week_minutes.get(entry.timezone)
    if now is None:
        return False
    begin, end = _minutes(entry.begin), _minutes(entry.end)
    length = end - begin if end > begin else end - begin + _DAY_MINUTES
    return any(
        (now - _DAYS.index(day) * _DAY_MINUTES - begin) % _WEEK_MINUTES < length
        for day in entry.days or _DAYS
    )


def _minutes(time_of_day: str) -> int:
    hours, minutes = time_of_day.split(":")
    return int(hours) * 60 + int(minutes)
