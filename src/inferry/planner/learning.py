"""What launches taught: by how much predictions of this engine and model on this device were off, and what to do about it.

Works on logarithms of measured over *uncorrected* prediction, so that corrections never pile up. A model's own launches
count once each; launches of other models on the same engine and device set where it starts from. A model is the same
with the same formats of weights and KV cache only. Both are shrunken
towards "no correction" (empirical Bayes with a fixed prior weight: Efron and Morris 1975), newer ones weigh more, and
what lies far from the others is pulled in (winsorised) before it counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from .setup import Setup

OWN_PRIOR = 1.0
"""Of times and rates: one launch moves a prediction half of the way to what was measured, n launches n/(n+1) of it."""
OWN_PRIOR_OF_SIZES = 0.1
"""Of bytes and tokens, which repeat within 2 % (docs/calibrate.md): one launch moves them 10/11 of the way."""
REST = "rest_bytes"
"""What one device holds of the engine's budget besides the KV cache. Learned as a difference in bytes, which is the same
at another fraction or context; a factor on the cache is not."""
SIZES = frozenset({"weights_bytes", "kv_tokens", "memory_bytes", REST})
OTHERS_PRIOR = 2.0
"""One other model moves it a third of the way."""
DISTANT_WEIGHT = 0.5
"""Of launches with another engine version, and of models of another family."""
HALF_LIFE_LAUNCHES = 10.0
"""The launch before the last ten weighs half of the newest."""
RATIO_MAX = 3.0
"""A measurement further off than that is taken for one that is that far off."""
SPREAD_FLOOR = 0.05
"""Launches within 5 % of their median are never called outliers (measured: a CPU engine's memory repeats within 2 %)."""
OUTLIER_SPREADS = 3.0


class Launch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One launch of a replica, or one bench run: what was predicted from facts alone, and what was measured.

    Quantities: `weights_bytes`, `kv_tokens`, `rest_bytes`, `memory_bytes`, `start_s`, `itl_ms`, `ttft_ms`,
    `output_tokens_per_s`; `predicted` also has `loaded_bytes`, the weights that a replica reads at its start.
    """

    wall_s: float
    engine: str
    engine_version: str | None = None
    device: str
    model: str
    family: str = ""
    weights: str = ""
    """The format of its weights."""
    setup: Setup | None = None
    """In the planner's words; None on CPUs, where it has none."""
    predicted: Mapping[str, float] = {}
    """Without any correction."""
    expected: Mapping[str, float] = {}
    """With what was known then."""
    measured: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class Subject:
    """What is going to be planned."""

    engine: str
    device: str
    model: str
    family: str = ""
    engine_version: str | None = None
    weights: str = ""
    setup: Setup | None = None


@dataclass(frozen=True, slots=True)
class Correction:
    """Multiply a prediction by `factor`. Errors are medians of |predicted / measured - 1| over this model's launches."""

    factor: float
    launches: int
    """Of this very model with this engine on this device; 0: learned from others only."""
    others: int
    """Other models that were launched with this engine on this device."""
    error_before: float | None
    """Without correction; None: it was never launched here."""
    error_after: float | None
    """Each launch predicted from all others; None: fewer than two."""
    difference: float = 0.0
    """Of `rest_bytes` only: bytes to add, per device."""


@dataclass(frozen=True, slots=True)
class Corrections:
    """By quantity; a quantity that nobody measured has no entry, and the factor 1."""

    by_quantity: Mapping[str, Correction] = field(default_factory=dict)

    def factor(self, quantity: str) -> float:
        found = self.by_quantity.get(quantity)
        return 1.0 if found is None else found.factor


NOTHING_LEARNED = Corrections()


@dataclass(frozen=True, slots=True)
class _Point:
    log_ratio: float
    weight: float


def learn(launches: Iterable[Launch], subject: Subject) -> Corrections:
    """What the launches say of `subject`. Pure; the order of `launches` does not matter."""
    relevant = [each for each in launches if (each.engine, each.device) == (subject.engine, subject.device)]
    relevant.sort(key=lambda each: each.wall_s, reverse=True)
    quantities = sorted({name for each in relevant for name in each.measured})
    found = {
        name: _rest(relevant, subject) if name == REST else _correction(relevant, subject, name)
        for name in quantities
    }
    return Corrections({name: each for name, each in found.items() if each is not None})


def describe(quantity: str, correction: Correction) -> str:
    """`itl_ms: x1.18 from 4 launches; off by 21 % without it, 3 % with it`."""
    source = f"{correction.launches} launch{'' if correction.launches == 1 else 'es'}"
    if correction.others:
        source += f" and {correction.others} other model{'' if correction.others == 1 else 's'}"
    change = (
        f"{correction.difference / 1024**3:+.2f} GiB" if quantity == REST else f"x{correction.factor:.3g}"
    )
    words = f"{quantity}: {change} from {source}"
    if correction.error_before is not None:
        words += f"; off by {correction.error_before:.0%} without it"
    if correction.error_after is not None:
        words += f", {correction.error_after:.0%} with it"
    return words


def _correction(relevant: Sequence[Launch], subject: Subject, quantity: str) -> Correction | None:
    own = [each for each in relevant if _is_own(each, subject) and _log_ratio(each, quantity) is not None]
    prior, others = _from_others(relevant, subject, quantity)
    if not own and not others:
        return None
    ratios = [ratio for each in own if (ratio := _log_ratio(each, quantity)) is not None]
    points = _points(own, ratios, subject)
    weight = OWN_PRIOR_OF_SIZES if quantity in SIZES else OWN_PRIOR
    before = None if not own else _median([abs(math.exp(-ratio) - 1) for ratio in ratios])
    after = None
    if len(own) > 1:
        left_out = [
            abs(math.exp(_shrunken(points[:index] + points[index + 1 :], prior, weight) - ratio) - 1)
            for index, ratio in enumerate(ratios)
        ]
        after = _median(left_out)
    return Correction(math.exp(_shrunken(points, prior, weight)), len(own), others, before, after)


def _rest(relevant: Sequence[Launch], subject: Subject) -> Correction | None:
    """By launches of this very setup, where there are any. Others' say only that there is less than was predicted: what
    was free in their setup need not be free in this one."""
    same = [each for each in relevant if _is_own(each, subject) and _same_setup(each.setup, subject.setup)]
    heard = [each for each in relevant if each in same or not _is_own(each, subject)] if same else relevant
    found = _correction(heard, subject, REST)
    if found is None:
        return None
    told = [each for each in heard if _log_ratio(each, REST) is not None]
    own = [each for each in told if _is_own(each, subject)]
    difference = (found.factor - 1) * _median([each.predicted[REST] for each in own or told])
    if not same and difference < 0:
        return replace(found, factor=1.0)
    return replace(found, difference=difference)


def _same_setup(one: Setup | None, other: Setup | None) -> bool:
    """But for the engine's version, which is weighed."""
    if one is None or other is None:
        return one is other
    return replace(one, engine_version=None) == replace(other, engine_version=None)


def _from_others(relevant: Sequence[Launch], subject: Subject, quantity: str) -> tuple[float, int]:
    """The logarithm that other models teach, and how many they are. Each model counts once, however often it ran."""
    by_model: dict[tuple[str, str, str], list[Launch]] = {}
    for each in relevant:
        if not _is_own(each, subject):
            by_model.setdefault((each.model, each.weights, _kv(each.setup)), []).append(each)
    total = weights = 0.0
    count = 0
    for launches in by_model.values():
        ratios = [ratio for each in launches if (ratio := _log_ratio(each, quantity)) is not None]
        if not ratios:
            continue
        count += 1
        weight = 1.0 if launches[0].family == subject.family else DISTANT_WEIGHT
        total += weight * _median(ratios)
        weights += weight
    return total / (weights + OTHERS_PRIOR), count


def _is_own(launch: Launch, subject: Subject) -> bool:
    asked = (subject.model, subject.weights, _kv(subject.setup))
    return (launch.model, launch.weights, _kv(launch.setup)) == asked


def _kv(setup: Setup | None) -> str:
    return "" if setup is None else setup.kv


def _log_ratio(launch: Launch, quantity: str) -> float | None:
    predicted, measured = launch.predicted.get(quantity), launch.measured.get(quantity)
    if predicted is None or measured is None or predicted <= 0 or measured <= 0:
        return None
    ratio = measured / predicted
    # Of a damaged line, it may be too small or too large for a number.
    return math.log(ratio) if 0 < ratio < math.inf else None


def _points(own: Sequence[Launch], ratios: Sequence[float], subject: Subject) -> list[_Point]:
    """Newest first, weighed by age and version. Bounds are set by the median, which one outlier does not move."""
    if not ratios:
        return []
    middle = _median(ratios)
    spread = max(_median([abs(ratio - middle) for ratio in ratios]), SPREAD_FLOOR)
    reach = OUTLIER_SPREADS * spread if len(ratios) > 2 else math.inf
    low = max(-math.log(RATIO_MAX), middle - reach)
    high = min(math.log(RATIO_MAX), middle + reach)
    points = []
    for age, (launch, ratio) in enumerate(zip(own, ratios, strict=True)):
        weight = 0.5 ** (age / HALF_LIFE_LAUNCHES)
        if launch.engine_version != subject.engine_version:
            weight *= DISTANT_WEIGHT
        points.append(_Point(min(max(ratio, min(low, high)), max(low, high)), weight))
    return points


def _shrunken(points: Sequence[_Point], prior: float, prior_weight: float) -> float:
    weights = sum(point.weight for point in points)
    total = sum(point.weight * point.log_ratio for point in points)
    return (total + prior_weight * prior) / (weights + prior_weight)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
