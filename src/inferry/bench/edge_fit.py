"""Where the share of good requests falls below a goal, from trials at several loads. Pure.

The log-odds of a good request are taken to fall evenly with the logarithm of the load near the edge: a logistic
regression, whose crossing of the goal is the edge. How steeply they fall has a weak prior (STEEP, normal), so that
a handful of trials that are all good or all bad has an answer too. The error is the delta method's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

STEEP = 40.0
STEEP_DEVIATION = 80.0
LEAST_STEEP = 5.0
"""Log-odds per e-fold of the load. At 40, 5 % more load makes of 1 % bad requests 7 %: about what a queue of several
servers does. The prior is wide, so that it matters only until there are trials on both sides."""
ROUNDS = 60
ODDS_MAX = 35.0
"""Beyond it, exp is 0 or out of a float's range for what is done here."""


class Point(NamedTuple):
    """One trial. `x`: logarithm of its load over some reference; counts may be fractions."""

    x: float
    good: float
    bad: float


@dataclass(frozen=True, slots=True)
class Edge:
    """A fit: log-odds of good are `odds` - `steep` * x. The rest is the information behind it, by second derivatives."""

    odds: float
    steep: float
    of_odds: float
    of_both: float
    of_steep: float
    goal_odds: float

    @property
    def x(self) -> float:
        """Where the goal is crossed."""
        return (self.odds - self.goal_odds) / self.steep

    @property
    def error(self) -> float:
        """Standard error of `x`."""
        by_odds, by_steep = 1 / self.steep, -self.x / self.steep
        determinant = self.of_odds * self.of_steep - self.of_both**2
        variance = (
            by_odds**2 * self.of_steep - 2 * by_odds * by_steep * self.of_both + by_steep**2 * self.of_odds
        )
        return math.sqrt(variance / determinant)

    def share(self, x: float) -> float:
        """Of good requests at a load."""
        return _share(self.odds - self.steep * x)

    def after(self, x: float, count: float) -> Edge:
        """With the information that so many more independent requests at `x` will bring, whatever they show."""
        share = self.share(x)
        weight = count * share * (1 - share)
        return replace(
            self,
            of_odds=self.of_odds + weight,
            of_both=self.of_both - weight * x,
            of_steep=self.of_steep + weight * x * x,
        )


def fit_edge(points: Sequence[Point], goal: float) -> Edge:
    """The most likely edge, by Newton's method; `goal` is between 0 and 1."""
    goal_odds = math.log(goal / (1 - goal))
    odds, steep = goal_odds, STEEP
    of_odds = of_both = of_steep = 0.0
    for _ in range(ROUNDS):
        of_odds, of_both, of_steep = 1e-6, 0.0, 1 / STEEP_DEVIATION**2
        pull_odds, pull_steep = 0.0, -(steep - STEEP) / STEEP_DEVIATION**2
        for x, good, bad in points:
            share, count = _share(odds - steep * x), good + bad
            weight = count * share * (1 - share)
            pull_odds += good - count * share
            pull_steep -= (good - count * share) * x
            of_odds += weight
            of_both -= weight * x
            of_steep += weight * x * x
        determinant = of_odds * of_steep - of_both**2
        step_odds = (pull_odds * of_steep - pull_steep * of_both) / determinant
        step_steep = (pull_steep * of_odds - pull_odds * of_both) / determinant
        # Where the data say little, a whole step can throw it out of the region in which they say anything.
        scale = min(1.0, 3 / max(abs(step_odds), 1e-9), 10 / max(abs(step_steep), 1e-9))
        odds += scale * step_odds
        steep = max(LEAST_STEEP, steep + scale * step_steep)
        if abs(step_odds) + abs(step_steep) < 1e-6:
            break
    return Edge(odds, steep, of_odds, of_both, of_steep, goal_odds)


def error_by_trials(edge: Edge, points: Sequence[Point]) -> float:
    """Standard error of `edge.x`, by how trials differ from the fit, each taken as one cluster of requests that
    depend on each other: the sandwich estimator, with k / (k - 2) for the smallness of k trials. At least the fit's
    own error, which takes requests as independent. Source: K.-Y. Liang and S. Zeger, Biometrika 73 (1986).
    """
    determinant = edge.of_odds * edge.of_steep - edge.of_both**2
    by_odds, by_steep = 1 / edge.steep, -edge.x / edge.steep
    # What one unit of each score moves the edge by.
    odds_moves = (by_odds * edge.of_steep - by_steep * edge.of_both) / determinant
    steep_moves = (by_steep * edge.of_odds - by_odds * edge.of_both) / determinant
    total = 0.0
    for x, good, bad in points:
        off = good - (good + bad) * edge.share(x)
        total += (off * odds_moves - off * x * steep_moves) ** 2
    few = len(points) / (len(points) - 2) if len(points) > 2 else 3.0
    return max(edge.error, math.sqrt(total * few))


def _share(odds: float) -> float:
    return 1 / (1 + math.exp(-max(-ODDS_MAX, min(ODDS_MAX, odds))))
