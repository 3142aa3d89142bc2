"""From step times at many places to the few figures of an EngineTiming: linear least squares of relative errors, with no
figure below zero, since no step gets shorter by doing more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

Row = tuple[Sequence[float], float]
"""What a step does, in the law's terms, and how long it took."""


@dataclass(frozen=True, slots=True)
class Fitted:
    factors: tuple[float, ...]
    """Per term, none below 0."""
    worst: float
    """Largest relative error at any of the places; 0.05 is 5 %."""


def fit(rows: Iterable[Row]) -> Fitted:
    """Factors with which the terms add up to the time, as nearly as that goes. Of few terms: each set of them that are not
    zero is tried, as the optimum is an ordinary least squares solution of one of them (Lawson and Hanson 1974, ch. 23).

    Raises ValueError where nothing explains the rows: without any, or with times of 0.
    """
    scaled = [([value / took for value in terms], 1.0) for terms, took in rows if took > 0]
    if not scaled:
        raise ValueError("no step's time is known")
    count = len(scaled[0][0])
    best: tuple[float, tuple[float, ...]] | None = None
    for size in range(1, count + 1):
        for chosen in combinations(range(count), size):
            found = _least_squares([([terms[each] for each in chosen], one) for terms, one in scaled])
            if found is None or min(found) < 0:
                continue
            factors = [0.0] * count
            for each, factor in zip(chosen, found, strict=True):
                factors[each] = factor
            loss = sum((_sum(factors, terms) - one) ** 2 for terms, one in scaled)
            if best is None or loss < best[0] - 1e-12:
                best = loss, tuple(factors)
    if best is None:
        raise ValueError("no step's time is explained by what it does")
    worst = max(abs(_sum(best[1], terms) - one) for terms, one in scaled)
    return Fitted(best[1], worst)


def _sum(factors: Sequence[float], terms: Sequence[float]) -> float:
    return sum(factor * term for factor, term in zip(factors, terms, strict=True))


def _least_squares(rows: Sequence[Row]) -> list[float] | None:
    """By the normal equations, each term scaled to its own size first; None where terms depend on each other."""
    count = len(rows[0][0])
    sizes = [math.sqrt(sum(terms[each] ** 2 for terms, _ in rows)) for each in range(count)]
    if min(sizes) <= 0:
        return None
    matrix = [
        [sum(terms[a] / sizes[a] * terms[b] / sizes[b] for terms, _ in rows) for b in range(count)]
        + [sum(terms[a] / sizes[a] * took for terms, took in rows)]
        for a in range(count)
    ]
    for column in range(count):  # Gauss and Jordan, the largest pivot first
        pivot = max(range(column, count), key=lambda row: abs(matrix[row][column]))
        if abs(matrix[pivot][column]) < 1e-9:
            return None
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        for row in range(count):
            if row != column:
                part = matrix[row][column] / matrix[column][column]
                matrix[row] = [a - part * b for a, b in zip(matrix[row], matrix[column], strict=True)]
    return [matrix[each][-1] / matrix[each][each] / sizes[each] for each in range(count)]
