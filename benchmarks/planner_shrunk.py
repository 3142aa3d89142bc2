"""The fit itself: constants of a sum of parts, each a base and small offsets of groups, shrunk to what was thought before.

log(time) = log(sum of exp(base + offsets) x ideal part). Bases and offsets have normal priors: bases around physical
guesses, offsets of engines and of pairs of engine and device family around zero. The loss is Huber's on the logarithm, so
that outliers count little; solved by iterated reweighted Gauss-Newton steps. Everything is deterministic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
NO_OFFSET = 1e-4
FAMILY = 1
"""Place of the group without offsets of its own: what differs between devices is in their rates."""
BEND = 0.05
"""Where Huber's loss turns from square to straight."""
NOISE = 0.15
ITERATIONS = 25


@dataclass(frozen=True, slots=True)
class Stiffness:
    """Standard deviations of the priors, of natural logarithms; chosen on models left out. A term that `engine` or `pair`
    does not name has no offsets of that kind."""

    base: Mapping[str, float]
    """"" stands for all terms that it does not name."""
    engine: Mapping[str, float]
    pair: Mapping[str, float]
    """Of an engine and a family of devices."""

    def of(self, term: str, group: str) -> float:
        table = self.base if group == "" else self.pair if "|" in group else self.engine
        return table.get(term, table.get("", NO_OFFSET))


def fit_quantity(
    groups: Sequence[tuple[str, ...]],
    rows: Sequence[Mapping[str, float]],
    measured: Sequence[float],
    priors: Mapping[str, float],
    stiffness: Stiffness,
) -> dict[str, dict[str, float]]:
    """Constants of one quantity as logarithms, by term and group. `rows`: per sample, the ideal parts by term."""
    terms = list(priors)
    parts = np.array([[row[term] for term in terms] for row in rows], float)
    chosen = [{"", *(name for place, name in enumerate(own) if place != FAMILY)} for own in groups]
    names = sorted(set().union(*chosen))
    member = np.array([[name in own for name in names] for own in chosen], float)
    width, count = len(names), len(terms) * len(names)
    center = np.zeros(count)
    weight = np.zeros(count)
    for t, term in enumerate(terms):
        for n, name in enumerate(names):
            weight[t * width + n] = 1 / stiffness.of(term, name) ** 2
            if name == "":
                center[t * width + n] = np.log(priors[term])
    log_measured = np.log(np.array(measured, float))

    def pieces(x: Array) -> Array:
        return parts * np.exp(member @ x.reshape(len(terms), width).T)

    def cost(x: Array) -> float:
        off = np.abs(log_measured - np.log(pieces(x).sum(1)))
        huber = np.where(off < BEND, off * off / (2 * BEND), off - BEND / 2)
        return float(huber.sum() / NOISE + 0.5 * (weight * (x - center) ** 2).sum())

    x, damping = center.copy(), 1e-3
    best = cost(x)
    for _ in range(ITERATIONS):
        now = pieces(x)
        total = now.sum(1)
        off = log_measured - np.log(total)
        share = now / total[:, None]
        slope = (share[:, :, None] * member[:, None, :]).reshape(len(rows), count)
        pull = 1 / (np.maximum(np.abs(off), BEND) * NOISE)
        curve = (slope * pull[:, None]).T @ slope + np.diag(weight)
        push = slope.T @ (pull * off) - weight * (x - center)
        before = best
        for _ in range(8):
            step = np.clip(np.linalg.solve(curve + damping * np.diag(np.diag(curve)), push), -1, 1)
            found = cost(x + step)
            if found < best:
                x, best, damping = x + step, found, max(damping / 3, 1e-6)
                break
            damping = damping * 5 + 1e-4
        if before - best < 1e-4 * before:
            break
    table = x.reshape(len(terms), width)
    return {
        term: {name: round(float(table[t, n]), 5) for n, name in enumerate(names)}
        for t, term in enumerate(terms)
    }
