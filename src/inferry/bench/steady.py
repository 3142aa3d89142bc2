"""When a run was in its steady state, and whether its latencies hold still.

The steady window is from when about as many requests are under way as in most of the run to when that is so for the
last time: it leaves out the filling and what ebbs away, and no bad time between. Rates are taken over it. Latencies
that go on rising or falling within it say how long the test was, not how fast the server is; then the run is not
stationary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise
from statistics import median

from msgspec import Struct

from inferry.bench.plan import Closed, Ramp, RunPlan, Steps
from inferry.bench.records import RequestRecord, Verdict
from inferry.bench.request_figures import answer_end_s
from inferry.bench.statistics import Sample

BINS = 40
"""That the run is cut into, to look at how many requests are under way."""
NEAR_SHARE = 0.25
NEAR_DEVIATIONS = 3.0
"""A bin is at the plateau within a quarter of it; with an open loop also within three deviations. Requests that come
independently of each other and are all served at once are under way in numbers of a Poisson distribution, whose
deviation is the root of its mean: with 4 under way, up to 10 are near. Source: the queue M/G/infinity."""
STEADY_SHARE = 0.5
"""Of the run's bins, that must be at the plateau."""
BATCHES = 20
BATCH_LEAST = 5
BATCHES_LEAST = 8
"""The test for a trend looks at medians of batches: neighbours share a queue, so single requests would be counted as
more evidence than they are. With fewer than 8 batches of 5 nothing is said."""
TREND_Z = 2.807
"""Two-sided chance of 0.5 %, for each of the two latencies that are looked at: 1 % for both. Of 40 simulated runs
with 600 requests at eight servers (M/M/8), busy 80 % none was called moving, 90 % four, 130 % all of them."""
TREND_SHARE = 0.2
TREND_LEAST_MS = 1.0
"""A trend matters that moves the latency, over the run, by a fifth of its median and a millisecond."""


class Trend(Struct, frozen=True, kw_only=True):
    """How one latency went over the run."""

    z: float
    """Mann and Kendall's: above 0 it rose; beyond 2.8 either way hardly by chance."""
    change_ms: float | None
    """From the run's beginning to its end (Theil and Sen's slope). None: into failures."""
    matters: bool


class Steadiness(Struct, frozen=True, kw_only=True):
    """Seconds of the run's clock."""

    from_s: float
    to_s: float
    """The window: the steady one, or all of the measured part."""
    steady: bool
    """Whether there is a steady one."""
    in_flight_mean: float
    """In the window."""
    in_flight_max: int
    """In all of the run."""
    stationary: bool | None
    """None: too few requests to say, or a load that changes by plan."""
    ttft_trend: Trend | None = None
    e2e_trend: Trend | None = None
    reason: str = ""
    """Why it is not stationary, or why nobody can say."""


def look(plan: RunPlan | None, requests: Sequence[RequestRecord]) -> Steadiness:
    """At a run's requests, the warm-up's among them. Needs at least one that is not the warm-up's."""
    measured = [record for record in requests if not record.warmup]
    first = min(record.due_s for record in measured)
    last = max(record.due_s for record in measured)
    spans = [span for record in requests if (span := _under_way(record))]
    top = _in_flight_max(spans)
    stationary, trends, reason = _judge(plan, measured)
    window = _window(spans, first, last, open_loop=not (plan and isinstance(plan.arrivals, Closed)))
    # Of a queue that grows all the time, the middle is no better than its ends.
    steady = window is not None and stationary is not False
    if window is None or not steady:
        # Not to the end of those that failed: one that hangs until its timeout is no part of the work.
        ends = [record.ended_s for record in requests if record.ended_s is not None and not record.failed]
        window = first, max(ends, default=last)
    from_s, to_s = window
    mean = sum(_overlap(span, from_s, to_s) for span in spans) / (to_s - from_s) if to_s > from_s else 0.0
    return Steadiness(
        from_s=from_s,
        to_s=to_s,
        steady=steady,
        in_flight_mean=mean,
        in_flight_max=top,
        stationary=stationary,
        ttft_trend=trends[0],
        e2e_trend=trends[1],
        reason=reason,
    )


# --- how many are under way ---------------------------------------------------------------------------


def _under_way(record: RequestRecord) -> tuple[float, float] | None:
    if record.sent_s is None or record.ended_s is None or record.ended_s <= record.sent_s:
        return None
    return record.sent_s, record.ended_s


def _overlap(span: tuple[float, float], from_s: float, to_s: float) -> float:
    return max(0.0, min(span[1], to_s) - max(span[0], from_s))


def _in_flight_max(spans: Sequence[tuple[float, float]]) -> int:
    # Ends sort before beginnings at the same time.
    events = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    now = top = 0
    for _, step in events:
        now += step
        top = max(top, now)
    return top


def _window(
    spans: Sequence[tuple[float, float]], first: float, last: float, *, open_loop: bool
) -> tuple[float, float] | None:
    width = (last - first) / BINS
    if width <= 0 or not spans:
        return None
    levels = [0.0] * BINS
    for span in spans:
        begin = max(0, math.floor((span[0] - first) / width))
        end = min(BINS - 1, math.floor((span[1] - first) / width))
        for number in range(begin, end + 1):
            levels[number] += _overlap(span, first + number * width, first + (number + 1) * width) / width
    plateau = median(levels)
    reach = NEAR_SHARE * plateau
    if open_loop:
        reach = max(reach, NEAR_DEVIATIONS * math.sqrt(plateau))
    near = [number for number, level in enumerate(levels) if abs(level - plateau) <= reach]
    if plateau == 0 or len(near) < STEADY_SHARE * BINS:
        return None
    return first + near[0] * width, first + (near[-1] + 1) * width


# --- whether latencies hold still ---------------------------------------------------------------------


def _judge(
    plan: RunPlan | None, measured: Sequence[RequestRecord]
) -> tuple[bool | None, tuple[Trend | None, Trend | None], str]:
    if plan and isinstance(plan.arrivals, Ramp | Steps):
        return None, (None, None), "the load changes by plan"
    ttft = _trend(measured, lambda record: record.first_token_s)
    e2e = _trend(measured, answer_end_s)
    if ttft is None and e2e is None:
        return None, (ttft, e2e), f"fewer than {BATCHES_LEAST * BATCH_LEAST} requests with latencies"
    for trend, name in ((ttft, "time to first token"), (e2e, "end-to-end latency")):
        if trend and trend.matters:
            way = "rose" if trend.z > 0 else "fell"
            by = "into failures" if trend.change_ms is None else f"by about {abs(trend.change_ms):.3g} ms"
            words = f"not stationary: the {name} {way} {by} within the run, so it depends on the length of the test"
            return False, (ttft, e2e), words
    return True, (ttft, e2e), ""


def _trend(
    measured: Sequence[RequestRecord], reached_s: Callable[[RequestRecord], float | None]
) -> Trend | None:
    """Of the time from due to what was reached. None: too few values. Failures are infinitely late."""
    values = []
    for record in sorted(measured, key=lambda record: record.due_s):
        if record.verdict is Verdict.ABANDONED:
            continue
        if record.failed:
            values.append(math.inf)
        elif (at_s := reached_s(record)) is not None:
            values.append((at_s - record.due_s) * 1000)
    count = min(BATCHES, len(values) // BATCH_LEAST)
    if count < BATCHES_LEAST or math.isinf(min(values)):
        return None
    cuts = [len(values) * number // count for number in range(count + 1)]
    medians = [median(values[start:end]) for start, end in pairwise(cuts)]
    z = mann_kendall(medians)
    change = theil_sen(medians) * count
    whole = Sample(values).percentile(0.5) or 0.0
    large = math.isinf(change) or abs(change) > max(TREND_LEAST_MS, TREND_SHARE * whole)
    return Trend(z=z, change_ms=change if math.isfinite(change) else None, matters=abs(z) > TREND_Z and large)


def mann_kendall(values: Sequence[float]) -> float:
    """How many deviations the rises among all pairs exceed the falls; ties are corrected for.

    1 to 10 in order: 3.94. Source: M. G. Kendall, Rank Correlation Methods, 4th ed., chapter 4.
    """
    score = sum(
        (after > before) - (after < before)
        for place, before in enumerate(values)
        for after in values[place + 1 :]
    )
    count = len(values)
    ties = sum(
        size * (size - 1) * (2 * size + 5)
        for size in (len(list(group)) for _, group in groupby(sorted(values)))
    )
    variance = (count * (count - 1) * (2 * count + 5) - ties) / 18
    if score == 0 or variance <= 0:
        return 0.0
    return (score - math.copysign(1, score)) / math.sqrt(variance)


def theil_sen(values: Sequence[float]) -> float:
    """Median of the slopes between all pairs, per step; infinite when most pairs go from a value to none.

    1, 2, 3, 4, 100: 1.0; one value that is off does not bend it. Source: P. K. Sen, Estimates of the regression
    coefficient based on Kendall's tau, JASA 63 (1968).
    """
    slopes = [
        (after - before) / steps
        for place, before in enumerate(values)
        for steps, after in enumerate(values[place + 1 :], 1)
        if not (math.isinf(before) and math.isinf(after))
    ]
    return median(slopes) if slopes else 0.0
