"""What the plots of one run show, as numbers: per second, as distributions, and which points of very many."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from inferry.bench.records import RequestRecord, RunRecord, Verdict
from inferry.bench.request_figures import token_gaps_ms
from inferry.bench.statistics import Sample

BINS_MAX = 90
"""As many as a plot of 400 px shows apart."""
_SHORT_S = 10.0
"""Runs shorter than this have bins of a part of a second; in others such bins would show chance, no more."""
_BIN_WIDTHS_S = (0.2, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
P99_COUNT_MIN = 100
"""Of fewer values, the 99th percentile lies between the two greatest: the greatest itself is shown."""
GAPS_MAX = 500_000
"""Gaps between tokens that are sorted for their distribution; of more, every k-th request is taken."""
DOTS_MAX = 2_000
TAIL_SHARE = 0.01
_SHARES = (*(number / 100 for number in range(100)), 0.992, 0.994, 0.996, 0.998, 0.999, 0.9995, 1.0)

SINCE_START = "time since the run's start"
"""The name of the x axis that all plots over time share."""

Pairs = tuple[tuple[float, float | None], ...]


class Series(Struct, frozen=True, kw_only=True):
    """Values per bin of `width_s`; x is the bin's middle."""

    width_s: float
    due_per_s: Pairs
    sent_per_s: Pairs
    ok_per_s: Pairs
    """By when they ended."""
    failed_per_s: Pairs
    """By when they were due."""
    in_flight: Pairs
    """The most at once in each bin."""
    ttft_ms_p50: Pairs
    """By when they were due, counted from there; None where no request that was due then brought a token."""
    ttft_ms_p99: Pairs
    """The slowest, where there are fewer than P99_COUNT_MIN."""
    tokens_per_s: Pairs


def ended_s(record: RunRecord) -> float:
    """When the last thing of the run happened."""
    times = [time for each in record.requests for time in (each.due_s, each.ended_s) if time is not None]
    return max([*times, *(sample.at_s for sample in record.samples)], default=0.0)


def per_bin(record: RunRecord) -> Series:
    """All requests, those of the warm-up among them."""
    until_s = ended_s(record)
    least_s = 0.0 if until_s < _SHORT_S else 1.0
    widths = (width for width in _BIN_WIDTHS_S if width >= least_s and until_s / width <= BINS_MAX)
    width_s = next(widths, 7200.0)
    count = max(math.ceil(until_s / width_s), 1)
    place = _Places(width_s, count)
    requests = record.requests
    # The last bin is seldom a whole one: a rate in it is of the time that was.
    last_s = max(until_s - (count - 1) * width_s, width_s / 10)

    def rate(counts: Sequence[float]) -> Pairs:
        shares = [value / width_s for value in counts[:-1]] + [counts[-1] / last_s]
        return place.pairs(shares)

    ttfts: list[list[float]] = [[] for _ in range(count)]
    for each in requests:
        if each.first_token_s is not None:
            ttfts[place.of(each.due_s)].append(1000 * (each.first_token_s - each.due_s))
    tokens = [0.0] * count
    for each in requests:
        for at_s, amount in zip(each.chunk_s, each.chunk_tokens, strict=False):
            tokens[place.of(at_s)] += amount
    return Series(
        width_s=width_s,
        due_per_s=rate(place.counts(each.due_s for each in requests)),
        sent_per_s=rate(place.counts(each.sent_s for each in requests)),
        ok_per_s=rate(place.counts(each.ended_s for each in requests if each.verdict is Verdict.OK)),
        failed_per_s=rate(place.counts(each.due_s for each in requests if each.failed)),
        in_flight=place.pairs(_most_in_flight(requests, place)),
        ttft_ms_p50=place.pairs([Sample(values).percentile(0.5) for values in ttfts]),
        ttft_ms_p99=place.pairs([p99(Sample(values)) for values in ttfts]),
        tokens_per_s=rate(tokens),
    )


class _Places(Struct, frozen=True):
    width_s: float
    count: int

    def of(self, at_s: float) -> int:
        return min(max(int(at_s / self.width_s), 0), self.count - 1)

    def counts(self, times: Iterable[float | None]) -> list[float]:
        counts = [0.0] * self.count
        for at_s in times:
            if at_s is not None:
                counts[self.of(at_s)] += 1
        return counts

    def pairs(self, values: Sequence[float | None]) -> Pairs:
        return tuple(((number + 0.5) * self.width_s, value) for number, value in enumerate(values))


def _most_in_flight(requests: Sequence[RequestRecord], place: _Places) -> list[float | None]:
    """From when they were sent until they ended."""
    changes: list[tuple[float, int]] = []
    for each in requests:
        if each.sent_s is not None and each.ended_s is not None:
            changes += [(each.sent_s, 1), (each.ended_s, -1)]
    changes.sort()
    most: list[float | None] = []
    now, position = 0, 0
    for number in range(place.count):
        top = now
        last = number == place.count - 1
        while position < len(changes) and (last or changes[position][0] < (number + 1) * place.width_s):
            now += changes[position][1]
            top = max(top, now)
            position += 1
        most.append(float(top))
    return most


def p99(sample: Sample) -> float | None:
    """The greatest, of fewer than P99_COUNT_MIN."""
    return sample.percentile(0.99 if len(sample) >= P99_COUNT_MIN else 1.0)


# --- distributions ------------------------------------------------------------------------------------


def measured(record: RunRecord) -> list[RequestRecord]:
    """Those that count: neither of the warm-up, nor left by the client on purpose."""
    return [each for each in record.requests if not each.warmup and each.verdict is not Verdict.ABANDONED]


def shares_within(
    requests: Sequence[RequestRecord], latency_ms: Callable[[RequestRecord], float | None]
) -> Pairs:
    """Pairs of milliseconds and the share of all `requests` that took no longer.

    Failures, and requests without the latency, never arrive: with them among `requests`, no share reaches 1.
    """
    found = (latency_ms(each) for each in requests if each.verdict is Verdict.OK)
    sample = Sample(value for value in found if value is not None)
    return _rising(sample, len(sample) / len(requests)) if len(sample) else ()


def token_gaps(requests: Sequence[RequestRecord]) -> tuple[Pairs, int]:
    """Pairs of milliseconds and the share of all gaps between tokens that were no longer, of OK requests.

    A chunk of k tokens after a gap g counts as k gaps of g/k. The second value: every how many-th request was taken.
    """
    good = [each for each in requests if each.verdict is Verdict.OK]
    every = max(math.ceil(sum(len(each.chunk_s) for each in good) / GAPS_MAX), 1)
    gaps = [gap for each in good[::every] for gap in token_gaps_ms(each)]
    return _rising(Sample((gap for gap, _ in gaps), (tokens for _, tokens in gaps)), 1.0), every


def _rising(sample: Sample, arrived: float) -> Pairs:
    """No share that so few values can't tell: of 50, none between 98 % and all."""
    shares = [share for share in _SHARES if share == 1.0 or sample.weight * (1 - share) >= 1]
    values = ((sample.percentile(share), share * arrived) for share in shares)
    return tuple((value, share) for value, share in values if value is not None)


# --- points -------------------------------------------------------------------------------------------


class Thinned(Struct, frozen=True, kw_only=True):
    shown: tuple[RequestRecord, ...]
    every: int
    """Of those outside the tail, every how many-th is shown; 1: all."""


def thinned(requests: Sequence[RequestRecord], latency_ms: Callable[[RequestRecord], float]) -> Thinned:
    """At most about DOTS_MAX of them, in their order; the slowest TAIL_SHARE is always whole."""
    if len(requests) <= DOTS_MAX:
        return Thinned(shown=tuple(requests), every=1)
    slowest = sorted(range(len(requests)), key=lambda number: latency_ms(requests[number]))
    tail = set(slowest[-max(round(TAIL_SHARE * len(requests)), 1) :])
    rest = [number for number in range(len(requests)) if number not in tail]
    every = math.ceil(len(rest) / max(DOTS_MAX - len(tail), DOTS_MAX // 2))
    kept = sorted(tail | set(rest[::every]))
    return Thinned(shown=tuple(requests[number] for number in kept), every=every)
