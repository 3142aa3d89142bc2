"""How long: whole tokens from a distribution."""

from __future__ import annotations

import math
from random import Random

from inferry.bench.plan import Lengths
from inferry.core.errors import BadBenchPlan


def draw(lengths: Lengths, chance: Random) -> int:
    """Rounded, and not beyond `least` and `most`: what lies outside is put on the border, which moves the mean."""
    match lengths.spread:
        case "fixed":
            value = lengths.mean
        case "uniform":
            value = chance.uniform(lengths.mean - lengths.deviation, lengths.mean + lengths.deviation)
        case "normal":
            value = chance.gauss(lengths.mean, lengths.deviation)
        case "lognormal":
            value = chance.lognormvariate(*_of_the_log(lengths.mean, lengths.deviation))
    tokens = max(lengths.least, math.floor(value + 0.5))
    return tokens if lengths.most is None else min(tokens, lengths.most)


def _of_the_log(mean: float, deviation: float) -> tuple[float, float]:
    """Mean and deviation of the logarithm, from those of the value: 100 and 100 give 4.259 and 0.833."""
    variance = math.log(1 + (deviation / mean) ** 2)
    return math.log(mean) - variance / 2, math.sqrt(variance)


def check_lengths(name: str, lengths: Lengths) -> None:
    """Raises BadBenchPlan."""
    if not (math.isfinite(lengths.mean) and lengths.mean > 0):
        raise BadBenchPlan(f"the mean of {name} is {lengths.mean:g}: it must be above 0", param=name)
    if not (math.isfinite(lengths.deviation) and lengths.deviation >= 0):
        raise BadBenchPlan(
            f"the deviation of {name} is {lengths.deviation:g}: it must be 0 or more", param=name
        )
    if lengths.least < 1:
        raise BadBenchPlan(f"the least of {name} is {lengths.least}: it must be 1 or more", param=name)
    if lengths.most is not None and lengths.most < lengths.least:
        raise BadBenchPlan(
            f"the most of {name} is {lengths.most}: it must not be less than the least, {lengths.least}",
            param=name,
        )
