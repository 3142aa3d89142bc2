"""The figures of one run: how many requests became what, how long they took, what the server got done.

Latencies are of requests that were answered whole, after the warm-up; `with_failures` has those of all requests
that count, in which a failure is infinitely late. Each is given from when the request was sent and from when it
was due; the difference is what the client and its connection took. Rates are of the steady window, if there is one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from inferry.bench.cost import Cost, cost
from inferry.bench.energy import Energy, energy
from inferry.bench.goodput import Goodput, counts, goodput, missed
from inferry.bench.plan import Arrivals, Constant, Gamma, Poisson, RunPlan, Sessions, Slo
from inferry.bench.records import RequestRecord, RunRecord, Verdict
from inferry.bench.request_figures import (
    Figures,
    answer_end_s,
    chunk_gaps_ms,
    figures,
    slip_ms,
    token_gaps_ms,
)
from inferry.bench.statistics import Interval, Sample
from inferry.bench.steady import Steadiness, look

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


class Distribution(Struct, frozen=True, kw_only=True):
    """Milliseconds. A figure that is None while `infinite` is above 0 is infinite, else there are no values."""

    count: int
    """Of values; of token gaps, rounded."""
    infinite: int = 0
    """Of them: failures."""
    mean: float | None = None
    min: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None
    few: tuple[str, ...] = ()
    """Percentiles of which too few values lie beyond: less than one of `count` is expected there, as of p99 with
    fewer than 100 values. They are the largest values, and no more."""
    between: dict[str, Interval] = {}
    """In which each percentile lies with 95 % confidence, whatever the distribution; None: no bound on that side.
    Only where values are one per request: gaps of one stream are not independent."""

    def at(self, name: str) -> float | None:
        """`mean`, `p99` and so on, with infinity for what is infinite."""
        value: float | None = getattr(self, name)
        return math.inf if value is None and self.infinite else value


class Requests(Struct, frozen=True, kw_only=True):
    """After the warm-up: due = ok + failed + abandoned, and sent = due - unsent."""

    due: int
    sent: int
    ok: int
    failed: int
    abandoned: int
    unsent: int
    warmup: int
    """Before, in no other figure."""
    by_verdict: dict[str, int]
    resent: int = 0
    """Sent once more, since the server was just closing the idle connection."""


class RequestRates(Struct, frozen=True, kw_only=True):
    """Per second."""

    asked: float | None
    """By the plan; None: it names no rate."""
    due: float | None
    sent: float | None
    """Or tried: a server that takes no connection does not lower it."""
    ok: float | None
    """Ended well, in the window."""


class Tokens(Struct, frozen=True, kw_only=True):
    """Of requests that were answered whole, after the warm-up."""

    input: int
    output: int
    reasoning: int
    """Of the output."""
    output_asked: int | None
    """None: not asked for in all of them."""
    sources: dict[str, int]
    """How the tokens of a chunk are known, and of how many requests."""


class Cache(Struct, frozen=True, kw_only=True):
    """Tokens of prompts that the server can have had, and that it says it had. vLLM says nothing of a request for
    which its cache had nothing: where any request has a number, one without counts as 0."""

    requests: int
    input_tokens: int
    expected_tokens: int
    """Of a cache that forgets nothing, from the workload."""
    seen_tokens: int
    expected_share: float | None
    seen_share: float | None


class WithFailures(Struct, frozen=True, kw_only=True):
    """Of all but the abandoned: failures and what was not sent are infinitely late."""

    ttft_ms: Distribution
    ttft_from_due_ms: Distribution
    e2e_ms: Distribution
    e2e_from_due_ms: Distribution


class Summary(Struct, frozen=True, kw_only=True):
    """Of one run."""

    requests: Requests
    ttft_ms: Distribution
    ttft_from_due_ms: Distribution
    ttft_answer_ms: Distribution
    """To the first token that is no reasoning."""
    itl_ms: Distribution
    """Gaps between tokens: see request_figures.token_gaps_ms."""
    icl_ms: Distribution
    """Gaps between chunks, however many tokens they have."""
    tpot_ms: Distribution
    stall_ms: Distribution
    """The longest gap of each stream."""
    e2e_ms: Distribution
    e2e_from_due_ms: Distribution
    with_failures: WithFailures
    connect_ms: Distribution
    """Of requests for which a connection was opened."""
    slip_ms: Distribution
    requests_per_s: RequestRates
    output_tokens_per_s: float | None
    """That came in the window, of requests that did not fail."""
    input_tokens_per_s: float | None
    """Of prompts whose first token came in the window."""
    tokens: Tokens
    cache: Cache | None
    """None: the server says nothing about its cache."""
    goodput: Goodput
    window: Steadiness | None
    """None: nothing was due after the warm-up."""
    cost: Cost | None = None
    """None: no price is known."""
    energy: Energy | None = None
    """None: nobody named a GPU."""


def summarise(plan: RunPlan | None, record: RunRecord) -> Summary:
    """All figures of a run; `plan` is None for results of other tools."""
    measured = [request for request in record.requests if not request.warmup]
    ok = [request for request in measured if request.verdict is Verdict.OK]
    of_ok = [figures(request) for request in ok]
    failures = sum(request.failed for request in measured)
    window = look(plan, record.requests) if measured else None
    due_per_s = _rate([request.due_s for request in measured])
    gaps = [pair for request in ok for pair in token_gaps_ms(request)]
    output_per_s = _output_rate(record.requests, window)

    def of(value: Callable[[Figures], float | None], infinite: int = 0) -> Distribution:
        known = [found for each in of_ok if (found := value(each)) is not None]
        return distribution(Sample(known + [math.inf] * infinite), independent=True)

    return Summary(
        requests=_requests(record.requests, measured),
        ttft_ms=of(lambda f: f.ttft_ms),
        ttft_from_due_ms=of(lambda f: f.ttft_from_due_ms),
        ttft_answer_ms=of(lambda f: f.ttft_answer_ms),
        itl_ms=distribution(Sample([gap for gap, _ in gaps], [tokens for _, tokens in gaps])),
        icl_ms=distribution(Sample(gap for request in ok for gap in chunk_gaps_ms(request))),
        tpot_ms=of(lambda f: f.tpot_ms),
        stall_ms=of(lambda f: f.stall_ms),
        e2e_ms=of(lambda f: f.e2e_ms),
        e2e_from_due_ms=of(lambda f: f.e2e_from_due_ms),
        with_failures=WithFailures(
            ttft_ms=of(lambda f: f.ttft_ms, failures),
            ttft_from_due_ms=of(lambda f: f.ttft_from_due_ms, failures),
            e2e_ms=of(lambda f: f.e2e_ms, failures),
            e2e_from_due_ms=of(lambda f: f.e2e_from_due_ms, failures),
        ),
        connect_ms=distribution(
            Sample(request.connect_s * 1000 for request in measured if request.connect_s > 0),
            independent=True,
        ),
        slip_ms=distribution(Sample(slip for request in measured if (slip := slip_ms(request)) is not None)),
        requests_per_s=RequestRates(
            # The rate of conversations is of their first turns, not of requests.
            asked=asked_rate(plan.arrivals) if plan and not isinstance(plan.workload, Sessions) else None,
            due=due_per_s,
            sent=_rate([_tried_s(request) for request in measured if request.verdict is not Verdict.UNSENT]),
            ok=_ended_per_s(record.requests, window),
        ),
        output_tokens_per_s=output_per_s,
        input_tokens_per_s=_input_rate(record.requests, window),
        tokens=_tokens(ok),
        cache=_cache(ok),
        goodput=goodput(
            measured, plan.slo if plan else Slo(), len(measured) / due_per_s if due_per_s else None
        ),
        window=window,
        cost=_cost(plan, record.requests, window),
        energy=energy(record.samples, window, output_per_s),
    )


def distribution(sample: Sample, *, independent: bool = False) -> Distribution:
    """`independent`: the values are, so that there are intervals."""
    if not sample.values:
        return Distribution(count=0)
    count = round(sample.weight)
    return Distribution(
        count=count,
        infinite=round(sample.infinite),
        mean=_finite(sample.mean()),
        min=_finite(sample.values[0]),
        max=_finite(sample.values[-1]),
        few=tuple(name for name, share in PERCENTILES.items() if round(count * (1 - share), 6) < 1),
        between={
            name: (_finite(low), _finite(high))
            for name, share in PERCENTILES.items()
            if independent
            for low, high in [sample.interval(share)]
        },
        **{name: _finite(sample.percentile(share)) for name, share in PERCENTILES.items()},
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _requests(every: Sequence[RequestRecord], measured: Sequence[RequestRecord]) -> Requests:
    verdicts = Counter(str(request.verdict) for request in measured)
    return Requests(
        due=len(measured),
        # What could not be connected was sent nothing, but it was tried: it counts as sent, and as failed.
        sent=len(measured) - verdicts[Verdict.UNSENT],
        ok=verdicts[Verdict.OK],
        failed=sum(request.failed for request in measured),
        abandoned=verdicts[Verdict.ABANDONED],
        unsent=verdicts[Verdict.UNSENT],
        warmup=len(every) - len(measured),
        by_verdict={str(verdict): verdicts[verdict] for verdict in Verdict if verdicts[verdict]},
        resent=sum(request.resent for request in measured),
    )


# --- rates --------------------------------------------------------------------------------------------


def asked_rate(arrivals: Arrivals) -> float | None:
    """Requests per second that the plan asks for all the time; None: it names no rate, or several."""
    return arrivals.rate if isinstance(arrivals, Constant | Poisson | Gamma) else None


def _rate(times: Sequence[float]) -> float | None:
    """Of events: n of them have n - 1 gaps."""
    if len(times) < 2:
        return None
    span = max(times) - min(times)
    return (len(times) - 1) / span if span > 0 else None


def _tried_s(request: RequestRecord) -> float:
    """When the client got to it; of one that found no connection, which may take long to fail, when it was due."""
    return request.due_s if request.sent_s is None else request.sent_s - request.connect_s


def _per_s(amount: float, window: Steadiness | None) -> float | None:
    return amount / (window.to_s - window.from_s) if window and window.to_s > window.from_s else None


def _within(time_s: float | None, window: Steadiness | None) -> bool:
    return window is not None and time_s is not None and window.from_s <= time_s <= window.to_s


def _ended_per_s(requests: Iterable[RequestRecord], window: Steadiness | None) -> float | None:
    ended = sum(r.verdict is Verdict.OK and _within(answer_end_s(r), window) for r in requests)
    return _per_s(ended, window)


def _output_rate(requests: Iterable[RequestRecord], window: Steadiness | None) -> float | None:
    came = sum(
        tokens
        for request in requests
        if not request.failed
        for at_s, tokens in zip(request.chunk_s, request.chunk_tokens, strict=True)
        if _within(at_s, window)
    )
    return _per_s(came, window)


def _input_rate(requests: Iterable[RequestRecord], window: Steadiness | None) -> float | None:
    read = sum(
        request.input_tokens or 0
        for request in requests
        if not request.failed
        and _within(
            request.first_token_s if request.first_token_s is not None else answer_end_s(request), window
        )
    )
    return _per_s(read, window)


def _cost(plan: RunPlan | None, requests: Sequence[RequestRecord], window: Steadiness | None) -> Cost | None:
    if plan is None or plan.price is None:
        return None
    is_known = all(r.input_tokens is not None for r in requests if not r.failed)
    good = [r for r in requests if counts(r, plan.slo) and not missed(r, plan.slo)]
    return cost(
        plan.price,
        output_per_s=_output_rate(requests, window),
        input_per_s=_input_rate(requests, window) if is_known else None,
        good_output_per_s=_output_rate(good, window) if plan.slo != Slo() else None,
    )


# --- tokens -------------------------------------------------------------------------------------------


def _tokens(ok: Sequence[RequestRecord]) -> Tokens:
    asked = [request.output_asked for request in ok if request.output_asked is not None]
    return Tokens(
        input=sum(request.input_tokens or 0 for request in ok),
        output=sum(request.output_tokens for request in ok),
        reasoning=sum(request.reasoning_tokens for request in ok),
        output_asked=sum(asked) if len(asked) == len(ok) else None,
        sources=dict(Counter(request.token_source for request in ok)),
    )


def _cache(ok: Sequence[RequestRecord]) -> Cache | None:
    if all(request.cached_tokens is None for request in ok):
        return None
    prompts = sum(request.input_tokens or 0 for request in ok)
    expected = sum(request.shared_tokens for request in ok)
    seen = sum(request.cached_tokens or 0 for request in ok)
    return Cache(
        requests=len(ok),
        input_tokens=prompts,
        expected_tokens=expected,
        seen_tokens=seen,
        expected_share=expected / prompts if prompts else None,
        seen_share=seen / prompts if prompts else None,
    )
