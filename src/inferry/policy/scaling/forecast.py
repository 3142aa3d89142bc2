"""How many requests a second come now, and how far that is to be trusted: the level, its noise, where it goes.

The level is the rate over the longest window that no shorter one contradicts: steps are seen within seconds, and calm
traffic is averaged over minutes (the idea of adaptive windowing, Bifet and Gavaldà, SDM 2007). What contradicts is
measured in the noise of this very traffic: its index of dispersion (variance of counts over their mean; 1 for Poisson
arrivals, 5 to 25 for the clients of the ServeGen traces).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import sqrt

from inferry.policy.scaling.windows import Windows

LENGTHS = (1, 2, 4, 8, 16, 32)
"""Windows, in looks."""
CONTRADICTS = 3.0
"""So many standard deviations, a shorter window contradicts a longer one."""
BURST_S = 10.0
"""How long bursts are that queues and steps can't even out."""
LEARN = 0.01
"""Share of the newest look in what is learned of the noise: about the last 100 count."""
ERRORS = 0.002
"""Share of the newest forecast in what is learned of its errors: about the last 500, or 80 minutes, count."""
AT_FIRST = 30
"""So many forecasts, what is assumed of errors before the first counts for."""
DAY_S = 86400.0
BIN_S = 600.0
"""A day's course is kept in bins of this."""
RATIO_MAX = 2.0


@dataclass(frozen=True, slots=True)
class Demand:
    """At one look. Rates are requests a second."""

    now: float
    ahead: float
    """When replicas that are started now will serve."""
    noise: float
    """Standard deviation of bursts, as a share of the rate."""
    error: float
    """Root mean square of what forecasts fell short by lately, as a share; rises and falls of the level included."""
    how: str
    """What `ahead` rests on, in words; empty: that it stays as it is."""


class Forecast:
    """Looks are every `every_s`; forecasts reach `lead_s` ahead."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self.windows_s = tuple(every_s * each for each in LENGTHS)
        self._dispersion = 4.0
        """Until something is seen: rather bursty."""
        self._last: float | None = None
        self._levels: deque[tuple[float, float]] = deque()
        """When, and the level: as far back as a forecast reaches."""
        self._ways = [_Way("", 0.0), _Way("as it rises or falls", 0.0), _Way("as a day before", 0.0)]
        self._course: dict[int, float] = {}
        """The level by bin, of the last day and now."""
        self._error, self._judged = 0.1, AT_FIRST

    def look(self, now_s: float, lead_s: float, windows: Windows) -> Demand | None:
        """After `windows` has looked. None: nothing to compare with yet."""
        rates: list[tuple[float, float]] = []
        for length_s in self.windows_s:
            window = windows.last(length_s)
            if window is None:
                break
            if rates and window.span_s <= rates[-1][1]:
                break
            rates.append((window.arrived / window.span_s, window.span_s))
        if not rates:
            return None
        self._learn_noise(rates)
        level = self._level(rates)
        self._learn_error(now_s, lead_s, level)
        noise = sqrt(self._dispersion / max(level * BURST_S, 1.0))
        ahead, how = self._best(level)
        return Demand(level, ahead, min(noise, 1.0), self._error, how)

    def _learn_noise(self, rates: list[tuple[float, float]]) -> None:
        """From differences of neighbours, so that a step counts once and not for ever (von Neumann, 1941)."""
        rate, span_s = rates[0]
        if self._last is not None and rate + self._last > 0:
            seen = (rate - self._last) ** 2 * span_s / (rate + self._last)
            self._dispersion += LEARN * (min(seen, 16 * self._dispersion) - self._dispersion)
            self._dispersion = max(self._dispersion, 1.0)
        self._last = rate

    def _level(self, rates: list[tuple[float, float]]) -> float:
        level = rates[0][0]
        for number in range(1, len(rates)):
            longer, _ = rates[number]
            for shorter, span_s in rates[:number]:
                deviation = sqrt(self._dispersion * max(longer, 1 / span_s) / span_s)
                if abs(shorter - longer) > CONTRADICTS * deviation:
                    return level
            level = longer
        return level

    def _learn_error(self, now_s: float, lead_s: float, level: float) -> None:
        """Hold what was forecast for now against now, way by way; then forecast for `lead_s` from now."""
        levels = self._levels
        then = None
        while levels and levels[0][0] <= now_s - lead_s:
            then = levels.popleft()
        if then is not None and then[1] > 0:
            for way in self._ways:
                way.judge(level, now_s - lead_s)
            short = max(level / then[1] - 1, 0.0)
            # A mean over all forecasts at first, and later over the latest ones.
            self._judged += 1
            learn = max(ERRORS, 1 / self._judged)
            self._error = sqrt(self._error**2 + learn * (min(short, 1.0) ** 2 - self._error**2))
        before = levels[0][1] if levels else level
        levels.append((now_s, level))
        self._keep_course(now_s, level)
        self._ways[0].foretell(now_s, level)
        self._ways[1].foretell(now_s, max(level + (level - before) * 0.5, 0.0))
        self._ways[2].foretell(now_s, level * self._as_a_day_before(now_s, lead_s))

    def _keep_course(self, now_s: float, level: float) -> None:
        number = int(now_s // BIN_S)
        if number not in self._course:
            self._course.pop(number - 2 * round(DAY_S / BIN_S), None)
            self._course[number] = level
        self._course[number] += 0.1 * (level - self._course[number])

    def _as_a_day_before(self, now_s: float, lead_s: float) -> float:
        """By how much it rose or fell from this time on to `lead_s` later, a day ago."""
        a_day = round(DAY_S / BIN_S)
        here = self._course.get(int(now_s // BIN_S) - a_day)
        there = self._course.get(int((now_s + lead_s) // BIN_S) - a_day)
        if not here or there is None:
            return 1.0
        return min(max(there / here, 1 / RATIO_MAX), RATIO_MAX)

    def _best(self, level: float) -> tuple[float, str]:
        """By the way that was off least lately."""
        best = min(self._ways, key=lambda way: way.off)
        return best.latest if best.how else level, best.how


class _Way:
    """One way to forecast, and how far off it was."""

    __slots__ = ("_told", "how", "latest", "off")

    def __init__(self, how: str, off: float) -> None:
        self.how = how
        self.off = off
        self.latest = 0.0
        self._told: deque[tuple[float, float]] = deque()

    def foretell(self, now_s: float, rate: float) -> None:
        self.latest = rate
        self._told.append((now_s, rate))

    def judge(self, rate: float, told_s: float) -> None:
        """What was told at `told_s` was for now, when it is `rate`. Too little counts thrice: it costs answers."""
        told = None
        while self._told and self._told[0][0] <= told_s:
            told = self._told.popleft()[1]
        if told is None:
            return
        off = (rate - told) / max(rate, told, 1e-9)
        self.off += ERRORS * ((3 * off if off > 0 else -off) - self.off)
