"""The search for the highest load whose goodput holds. Pure: it says what to try next, and is told what came of it.

phase      what it tries                                            ends when
bracket    twice the load while it holds, half while it does not    one holds, and one does not
halve      the middle of the two                                    they are COARSE apart
refine     where, by the fit, another trial tells most              it is sure, or trials are used up

Requests of one trial are not independent: in a queue, late ones come together. So each trial also tells its design
effect, and counts as that many times fewer requests. That is why a goal of 99 % needs hundreds of requests per
second of trial or many trials to be found within a few percent, whatever the tool: the answer says how sure it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean

from msgspec import Struct

from inferry.bench.edge_fit import Edge, Point, error_by_trials, fit_edge
from inferry.bench.statistics import wilson

TOLERANCE = 0.05
"""How far the answer may be off, as a share of it, with 95 % confidence, to be called sure."""
SURE_ERROR = 0.018
"""Standard error at which refining ends: two searches then differ by less than TOLERANCE, 95 times of 100
(1.96 * sqrt(2) * 0.018 = 0.05)."""
COARSE = 1.12
WINDOW = math.log(1.25)
"""Trials farther from the edge, as a logarithm, are left out of the fit: odds fall evenly only near to it."""
ASIDE = (-0.06, -0.04, -0.02, 0.02, 0.04, 0.06)
"""Where the next trial may be, as logarithms beside the edge."""
SETTLED = 0.02
"""The edge may have moved by so much in the last fit, for it to be the answer."""
CALM = 3
"""Trials, all good, that say more than the fit does."""
TRIALS_LEAST = 4
"""Near the edge, before the error of the fit is believed."""
BLOCKS = 10
"""Of one trial, to see how its outcomes cluster: batch means, as in simulation studies (A. Law, Simulation Modeling
and Analysis, 5th edition, section 9.5)."""
UNSEEN = 2.0
CLUSTERED = 3.0
"""By how much more than blocks of one trial show requests depend on each other, and the least that is believed: the
longer clusters are not seen. Measured with queues of 8, 32 and 64 servers (tests/unit/bench/queue_model.py): with
these, the interval that is given has the true edge in about nine of ten searches; with neither, in six."""
UNSTEADY = 10
"""A trial that got slower and slower counts as if at least so many times as many requests had been bad as may be: in
a longer one they would have been."""
HOPELESS = 0.5
"""A first failure with a smaller share of good requests than that is not tried again: it is no chance."""
SURE_Z = 2.576
"""For 99 %: a load is looked at again and again until it is clear, which makes chance look clear more often."""
TINY_RATE = 1e-3
"""Requests per second below which nobody looks further."""


class Trial(Struct, frozen=True, kw_only=True):
    """What to do next: one run."""

    rate: float
    """Requests per second; of a closed loop, the number of users."""
    duration_s: float
    repeat: int
    """How often this very load was tried before."""


class Result(Struct, frozen=True, kw_only=True):
    """What came of a trial."""

    good: int
    sent: int
    rate: float | None = None
    """At which requests really came. None: as asked for."""
    design_effect: float = 1.0
    stationary: bool = True
    """False: it got slower and slower, so that a longer trial would have been worse."""


class Found(Struct, frozen=True, kw_only=True):
    """The answer."""

    rate: float
    """0: not even the least load holds."""
    low: float
    high: float | None
    """The edge is between them, with 95 % confidence; None: nothing was tried that does not hold."""
    sure: bool
    """Whether both are within TOLERANCE of `rate`."""
    why: str
    """It ended, for people."""


class Goal(Struct, frozen=True, kw_only=True):
    """What is searched, and how much that may cost."""

    share: float = 0.99
    """Of requests, that must be good: above 0 and below 1."""
    start: float = 1.0
    duration_s: float = 30.0
    climb_s: float | None = None
    """Of the trials of the bracket, which need only be right by a factor of two; None: as long as the others."""
    whole: bool = False
    """Only whole numbers: users of a closed loop."""
    most: float | None = None
    """Higher loads are not tried."""
    trials_max: int = 30


class _Told(Struct, frozen=True):
    rate: float
    result: Result

    def holds(self, share: float) -> bool:
        return self.result.stationary and self.result.good >= share * self.result.sent > 0


class Search:
    """`next` until it is a `Found`; after each Trial, `tell`. The same answers give the same questions."""

    def __init__(self, goal: Goal) -> None:
        self._goal = goal
        self._told: list[_Told] = []
        self._stopped: str | None = None
        self._edge: float | None = None
        """The load at which the last fit saw it; None: nothing was fitted yet."""

    def next(self) -> Trial | Found:
        """What to try now, or the answer."""
        low, high = self._bracket()
        if self._stopped is not None:
            return self._answer(self._stopped)
        if len(self._told) >= self._goal.trials_max:
            return self._answer(f"{self._goal.trials_max} trials were made, and no more are allowed")
        if low is None and high is None:
            return self._trial(self._goal.start, climbing=True)
        if self._edge is None and (doubted := self._doubted()) is not None:
            return self._trial(doubted)
        if low is None:
            return self._lower(high or TINY_RATE)
        if high is None:
            return self._higher(low)
        if self._edge is None and not self._is_near(low, high):
            return self._trial(math.sqrt(low * high))
        return self._refine(math.sqrt(low * high))

    def tell(self, trial: Trial, result: Result) -> None:
        self._told.append(_Told(trial.rate, result))

    def stop(self, why: str) -> None:
        """No more trials: the client was the limit, or somebody has had enough."""
        self._stopped = why

    # --- bracket and halve ----------------------------------------------------------------------------

    def _bracket(self) -> tuple[float | None, float | None]:
        """The highest load that held below the lowest that did not, by the last trial of each."""
        last = {each.rate: each.holds(self._goal.share) for each in self._told}
        high = min((rate for rate, held in last.items() if not held), default=None)
        low = max(
            (rate for rate, held in last.items() if held and (high is None or rate < high)), default=None
        )
        return low, high

    def _doubted(self) -> float | None:
        """The load that failed in the last trial, for the first time and not hopelessly: a hiccup must not end the
        climb far below the edge."""
        last = self._told[-1]
        hopeless = last.result.good < HOPELESS * last.result.sent or last.result.sent == 0
        if hopeless or last.holds(self._goal.share) or sum(each.rate == last.rate for each in self._told) > 1:
            return None
        return last.rate

    def _lower(self, high: float) -> Trial | Found:
        least = 1.0 if self._goal.whole else TINY_RATE
        return self._trial(max(least, high / 2)) if high > least else self._answer(f"not even {high:g} holds")

    def _higher(self, low: float) -> Trial | Found:
        most = self._goal.most
        if most is None or low < most:
            return self._trial(2 * low if most is None else min(2 * low, most), climbing=True)
        return self._answer(f"{low:g} holds, and no more was to be tried")

    def _is_near(self, low: float, high: float) -> bool:
        return high / low <= COARSE or (self._goal.whole and high - low <= 1)

    # --- refine ---------------------------------------------------------------------------------------

    def _refine(self, middle: float) -> Trial | Found:
        near = middle if self._edge is None else self._edge
        edge, error, count, clustered = self._fitted(near)
        moved = max(-max(ASIDE), min(max(ASIDE), edge.x))
        self._edge = near * math.exp(moved)
        if count >= TRIALS_LEAST and abs(moved) <= SETTLED and error <= SURE_ERROR:
            return self._answer("more trials would hardly change it")
        if self._is_between_sure_ones(self._edge):
            return self._answer("it holds below, and does not above")
        requests = self._edge * self._goal.duration_s / clustered
        aside = min(ASIDE, key=lambda each: edge.after(moved + each, requests).error)
        return self._trial(self._edge * math.exp(aside))

    def _fitted(self, near: float) -> tuple[Edge, float, int, float]:
        """The edge relative to `near`, from trials not far from it; its error; how many they are; design effect."""
        close = [each for each in self._told if abs(math.log(each.rate / near)) <= WINDOW]
        effects = [each.result.design_effect for each in close if 0 < each.result.good < each.result.sent]
        clustered = max(CLUSTERED, UNSEEN * mean(effects) if effects else CLUSTERED)
        points = [self._point(each, near, clustered) for each in close]
        edge = fit_edge(points, self._goal.share)
        return edge, error_by_trials(edge, points), len(points), clustered

    def _point(self, told: _Told, near: float, clustered: float) -> Point:
        result = told.result
        worst = 1 - min(0.5, UNSTEADY * (1 - self._goal.share))
        good = result.good if result.stationary else min(result.good, result.sent * worst)
        rate = told.rate if result.rate is None else result.rate
        return Point(math.log(rate / near), good / clustered, (result.sent - good) / clustered)

    def _is_between_sure_ones(self, edge: float) -> bool:
        low, high = self._sure_sides()
        if low is None or high is None or low >= high:
            return False
        if self._goal.whole and high - low <= 1:
            return True
        return high / low <= 1 + TOLERANCE and low <= edge <= high

    def _sure_sides(self) -> tuple[float | None, float | None]:
        """The highest load that clearly holds, and the lowest that clearly does not, by all trials of each."""
        good, sent = dict[float, float](), dict[float, float]()
        for told in self._told:
            effect = max(CLUSTERED, UNSEEN * told.result.design_effect)
            point = self._point(told, told.rate, effect)
            good[told.rate] = good.get(told.rate, 0.0) + point.good
            sent[told.rate] = sent.get(told.rate, 0.0) + point.good + point.bad
        between = {rate: wilson(round(good[rate]), max(1, round(sent[rate])), SURE_Z) for rate in sent}
        twice = {each.rate for each in self._told if sum(other.rate == each.rate for other in self._told) > 1}
        between = {rate: ends for rate, ends in between.items() if rate in twice}
        low = max((rate for rate, (least, _) in between.items() if least >= self._goal.share), default=None)
        high = min((rate for rate, (_, most) in between.items() if most < self._goal.share), default=None)
        return low, high

    def _always_held(self, edge: float) -> float:
        """The load that held in CALM trials of it and of higher ones, where none failed below them; 0: there is none.

        Where a server's limit is sharp, as with even arrivals, the fit's slope is its prior's, and the edge that it
        sees lies below loads that have never failed.
        """
        failed = min((each.rate for each in self._told if not each.holds(self._goal.share)), default=math.inf)
        held = sorted(each.rate for each in self._told if edge < each.rate < failed)
        return held[-CALM] if len(held) >= CALM else 0.0

    # --- the answer -----------------------------------------------------------------------------------

    def _trial(self, rate: float, *, climbing: bool = False) -> Trial:
        # Four digits are enough to name a load, and make loads that are hardly different the same.
        rate = float(max(1, round(rate))) if self._goal.whole else float(f"{rate:.4g}")
        repeat = sum(each.rate == rate for each in self._told)
        duration_s = self._goal.duration_s
        if climbing and self._goal.climb_s is not None:
            duration_s = min(duration_s, self._goal.climb_s)
        return Trial(rate=rate, duration_s=duration_s, repeat=repeat)

    def _answer(self, why: str) -> Found:
        low, high = self._bracket()
        if low is None or high is None or self._edge is None:
            return Found(rate=low or 0.0, low=low or 0.0, high=high, sure=False, why=why)
        half = 1.96 * self._fitted(self._edge)[1]
        rate = max(self._edge, self._always_held(self._edge))
        between = rate * math.exp(-half), rate * math.exp(half)
        if self._is_between_sure_ones(self._edge):
            sure_low, sure_high = self._sure_sides()
            between = max(between[0], sure_low or 0.0), min(between[1], sure_high or math.inf)
        if self._goal.whole:
            rate = float(math.floor(rate + 1e-9))
        is_near = between[1] / rate <= 1 + TOLERANCE and rate / between[0] <= 1 + TOLERANCE
        return Found(
            rate=rate,
            low=between[0],
            high=between[1],
            sure=self._stopped is None and (is_near or self._is_between_sure_ones(self._edge)),
            why=why,
        )


def design_effect(outcomes: Sequence[bool]) -> float:
    """How many requests, in the order in which they were due, tell as much as one independent one: 1 at least.

    The variance of the shares of BLOCKS blocks, over what independent requests would have.
    """
    size = len(outcomes) // BLOCKS
    share = sum(outcomes) / len(outcomes) if outcomes else 0.0
    if size < 2 or share in (0.0, 1.0):
        return 1.0
    blocks = [sum(outcomes[number * size : (number + 1) * size]) / size for number in range(BLOCKS)]
    middle = mean(blocks)
    variance = sum((each - middle) ** 2 for each in blocks) / (BLOCKS - 1)
    return max(1.0, variance / (share * (1 - share) / size))
