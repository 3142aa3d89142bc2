"""Axes: from where to where, with which ticks, and how a value is written beside one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

Unit = Literal["ms", "s", "share", "number", "per_s", "W"]

LOG_SPAN = 30.0
"""From the least to the most, above which a linear axis hides the small: a thirtieth of a plot's height is 6 px."""
MINUTES_FROM_S = 300.0
NOTHING = 1e-6
"""A nanosecond, in ms: what is less is drawn as 0."""
_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
_TIME_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)


class Axis(Struct, frozen=True, kw_only=True):
    """One direction of a plot."""

    low: float
    high: float
    unit: Unit
    log: bool = False
    ticks: tuple[float, ...] = ()

    def place(self, value: float) -> float:
        """Where `value` is: 0 at the low end, 1 at the high one; what lies outside is put on the edge."""
        if self.log:
            value = max(value, self.low)
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return min(max(part, 0.0), 1.0)


def axis_for(values: Iterable[float], unit: Unit, *, log: bool | None = None) -> Axis:
    """An axis on which all finite values fit. Linear ones begin at 0.

    `log` None: logarithmic if the positive values span more than LOG_SPAN and none is 0. Without values: 0 to 1.
    """
    finite = [value for value in values if math.isfinite(value)]
    positive = [value for value in finite if value > NOTHING]
    if log is None:
        log = len(positive) == len(finite) > 0 and max(positive) / min(positive) > LOG_SPAN
    if log and positive:
        return log_axis(min(positive), max(positive), unit)
    return linear_axis(max(finite, default=0.0), unit)


def linear_axis(high: float, unit: Unit) -> Axis:
    """From 0 to the first round tick at or above `high`."""
    high = high if high > NOTHING else 1.0
    step = _nice_step(high / 5, unit)
    count = max(math.ceil(high / step - 1e-9), 1)
    ticks = tuple(round(step * number, 10) for number in range(count + 1))
    return Axis(low=0.0, high=ticks[-1], unit=unit, ticks=ticks)


def time_axis(until_s: float) -> Axis:
    """From 0 to `until_s` and no further, so that all plots of a run share one clock."""
    high = until_s if until_s > NOTHING else 1.0
    step = next((step for step in _TIME_STEPS_S if high / step <= 7), 86_400.0)
    ticks = tuple(round(step * number, 10) for number in range(int(high / step + 1e-9) + 1))
    return Axis(low=0.0, high=high, unit="s", ticks=ticks)


def share_axis(least: float = 0.0) -> Axis:
    """To 100 %, from the highest of 0, 50 and 90 % that is not above `least`."""
    low = max(start for start in (0.0, 0.5, 0.9) if start <= max(least, 0.0))
    ticks = tuple(round(low + (1 - low) * number / 5, 10) for number in range(6)) if low else _QUARTERS
    return Axis(low=low, high=1.0, unit="share", ticks=ticks)


def log_axis(least: float, most: float, unit: Unit) -> Axis:
    """Over all values, ends at round ones; ticks at 1, 2 and 5 where there is room, else at powers of ten."""
    if most <= least * 1.0001:
        least, most = least / 2, most * 2
    candidates = [
        digit * 10.0**power
        for power in range(math.floor(math.log10(least)) - 1, math.ceil(math.log10(most)) + 1)
        for digit in (1, 2, 5)
    ]
    low = max(tick for tick in candidates if tick <= least * 1.0001)
    high = min((tick for tick in candidates if tick >= most * 0.9999), default=most)
    inside = [tick for tick in candidates if low <= tick <= high]
    tens = [tick for tick in inside if math.isclose(math.log10(tick) % 1, 0, abs_tol=1e-9)]
    decades = math.log10(high / low)
    ticks = inside if decades <= 2.5 else tens[:: max(math.ceil(len(tens) / 7), 1)]
    return Axis(low=low, high=high, unit=unit, log=True, ticks=tuple(ticks))


def _nice_step(rough: float, unit: Unit) -> float:
    """1, 2 or 5 times a power of ten, at or above `rough`; counts get no fractions."""
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough * 0.999)
    return max(step, 1.0) if unit == "number" else step


# --- as text ------------------------------------------------------------------------------------------


def amount_text(value: float | None, unit: Unit) -> str:
    """For people, with its unit and three figures: `1.25 s` for 1250 ms; `–` for None, `∞` for infinity."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    match unit:
        case "ms":
            return _duration_text(value)
        case "s":
            return _time_text(value)
        case "share":
            return "under 0.01 %" if 0 < value < 0.0001 else f"{plain(100 * value)} %"
        case "per_s":
            return f"{plain(value)}/s"
        case "W":
            return f"{plain(value)} W"
        case "number":
            return plain(value)


def _duration_text(ms: float) -> str:
    size = abs(ms)
    if size >= 999.5:
        return f"{plain(ms / 1000)} s"
    if 0 < size < 0.0995:
        return f"{plain(ms * 1000)} µs"
    return f"{plain(ms)} ms"


def _time_text(seconds: float) -> str:
    if abs(seconds) >= MINUTES_FROM_S:
        return f"{plain(seconds / 60)} min"
    return f"{plain(seconds)} s"


def plain(value: float) -> str:
    """Three significant figures, all of a whole number's, and neither exponent nor trailing zeros."""
    if value == 0:
        return "0"
    digits = max(2 - math.floor(math.log10(abs(value))), 0)
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
