"""The plots of one run: distributions, what happened when, and every request."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from inferry.bench.plan import RunPlan
from inferry.bench.plot_scales import Axis, Unit, amount_text, axis_for, share_axis, time_axis
from inferry.bench.plot_svg import Band, Line, Marks, Plot, Rule, limit_rule
from inferry.bench.records import RequestRecord, RunRecord, Verdict
from inferry.bench.report_series import (
    SINCE_START,
    Pairs,
    ended_s,
    measured,
    per_bin,
    shares_within,
    thinned,
    token_gaps,
)
from inferry.bench.request_figures import figures

LABELS_MAX = 500
"""Failures that say what they are when pointed at; a thousand times the same helps nobody."""


CROSSES_MAX = 2_000


def _amounts(unit: Unit, *many: Pairs) -> Axis:
    """From 0: rates and counts are compared by their height."""
    return axis_for((y for pairs in many for _, y in pairs if y is not None), unit, log=False)


Latency = Callable[[RequestRecord], float | None]


# --- distributions ------------------------------------------------------------------------------------


def distributions(plan: RunPlan, record: RunRecord) -> list[Plot]:
    """How many requests had how long a latency: TTFT, gaps between tokens, and all of the answer."""
    requests = measured(record)
    gaps, every = token_gaps(requests)
    return [
        plot
        for plot in (
            _both_clocks(
                "Time to first token",
                requests,
                lambda each: figures(each).ttft_from_due_ms,
                lambda each: figures(each).ttft_ms,
                plan.slo.ttft_ms,
            ),
            _gaps_plot(gaps, every, plan.slo.itl_ms),
            _both_clocks(
                "Time to the answer's end",
                requests,
                lambda each: figures(each).e2e_from_due_ms,
                lambda each: figures(each).e2e_ms,
                plan.slo.e2e_ms,
            ),
        )
        if plot is not None
    ]


def _both_clocks(
    title: str,
    requests: Sequence[RequestRecord],
    from_due: Latency,
    from_sent: Latency,
    limit_ms: float | None,
) -> Plot | None:
    due, sent = shares_within(requests, from_due), shares_within(requests, from_sent)
    if not due or not sent:
        return None
    values = [x for x, _ in (*due, *sent)]
    rules, far = limit_rule(limit_ms, "ms", values, upright=True)
    failed = sum(each.failed for each in requests)
    ends_early = f"{failed:,} of {len(requests):,} failed: the lines end below 100 %."
    return Plot(
        title=title,
        meaning="Share of all requests that were served within the time; failures never are.",
        x_name="time, from when a request was due or sent",
        x=axis_for([*values, *(rule.at for rule in rules)], "ms"),
        y=share_axis(),
        lines=(
            Line(name="from due", points=due, style=0),
            Line(name="from sent", points=sent, style=1),
        ),
        rules=rules,
        note=" ".join([*([ends_early] if failed else []), far]).strip(),
    )


def _gaps_plot(gaps: Pairs, every: int, limit_ms: float | None) -> Plot | None:
    if not gaps:
        return None
    # A gap of nothing (two tokens in one read) has no place on a logarithmic axis.
    positive = [x for x, _ in gaps if x > 0]
    rules, far = limit_rule(limit_ms, "ms", positive, upright=True)
    notes = ["The limit is for the mean of each request's gaps."] if rules else [far] if far else []
    notes += [f"From every {every:,}th request."] if every > 1 else []
    return Plot(
        title="Time between tokens",
        meaning="Share of all gaps between tokens that were no longer; a chunk of k tokens counts as k gaps.",
        x_name="gap",
        x=axis_for([*positive, *(rule.at for rule in rules)], "ms"),
        y=share_axis(),
        lines=(Line(name="gaps of whole answers", points=gaps, style=0),),
        rules=rules,
        note=" ".join(notes),
    )


# --- what happened when -------------------------------------------------------------------------------


def over_time(plan: RunPlan, record: RunRecord, events: tuple[Rule, ...] = ()) -> list[Plot]:
    """Requests, requests in flight, TTFT and tokens, all on one clock. `events`: marked in each of them."""
    if not record.requests:
        return []
    series, x = per_bin(record), time_axis(ended_s(record))
    bands = _warmup(plan)
    width = amount_text(series.width_s, "s")

    def plot(
        title: str,
        meaning: str,
        y: Axis,
        *lines: tuple[str, Pairs],
        rules: tuple[Rule, ...] = (),
        note: str = "",
    ) -> Plot:
        drawn = tuple(
            Line(name=name, points=points, style=style)
            for style, (name, points) in enumerate(lines)
            if any(value is not None for _, value in points)
        )
        return Plot(
            title=title,
            meaning=meaning,
            x_name=SINCE_START,
            x=x,
            y=y,
            lines=drawn,
            bands=bands,
            rules=(*rules, *events),
            note=note,
        )

    shown = [
        plot(
            "Requests per second",
            f"Asked for, sent and answered, in steps of {width}.",
            _amounts("per_s", series.due_per_s, series.sent_per_s, series.ok_per_s),
            ("due", series.due_per_s),
            ("sent", series.sent_per_s),
            ("answered well", series.ok_per_s),
            ("failed", series.failed_per_s if any(y for _, y in series.failed_per_s) else ()),
        ),
        plot(
            "Requests in flight",
            f"The most at once in each {width}. If it only rises, the load is more than the server can take.",
            _amounts("number", series.in_flight),
            ("in flight", series.in_flight),
        ),
    ]
    if ttfts := [y for _, y in (*series.ttft_ms_p50, *series.ttft_ms_p99) if y is not None]:
        rules, far = limit_rule(plan.slo.ttft_ms, "ms", ttfts, upright=False)
        shown.append(
            plot(
                "TTFT over time",
                f"From due, of requests that were due in each {width}. The upper line is the slowest where there"
                " are fewer than 100.",
                axis_for([*ttfts, *(rule.at for rule in rules)], "ms"),
                ("median", series.ttft_ms_p50),
                ("99th percentile, or slowest", series.ttft_ms_p99),
                rules=rules,
                note=far,
            )
        )
    if any(y for _, y in series.tokens_per_s):
        shown.append(
            plot(
                "Tokens per second",
                f"Of all answers together, in steps of {width}.",
                _amounts("per_s", series.tokens_per_s),
                ("output tokens", series.tokens_per_s),
            )
        )
    return shown


def _warmup(plan: RunPlan) -> tuple[Band, ...]:
    return (Band(name="warm-up, left out", low=0.0, high=plan.warmup_s),) if plan.warmup_s > 0 else ()


# --- every request ------------------------------------------------------------------------------------


def every_request(plan: RunPlan, record: RunRecord, events: tuple[Rule, ...] = ()) -> Plot | None:
    """TTFT of each request by when it was due; of answers that have no tokens, the time to their end."""
    if not record.requests:
        return None
    with_tokens = any(each.first_token_s is not None for each in record.requests)

    def latency(each: RequestRecord) -> float | None:
        return figures(each).ttft_from_due_ms if with_tokens else figures(each).e2e_from_due_ms

    def late_ms(each: RequestRecord) -> float:
        return latency(each) or 0.0

    answered = [each for each in record.requests if each.verdict is Verdict.OK and latency(each) is not None]
    left = [
        each
        for each in record.requests
        if each.verdict is Verdict.ABANDONED and latency(each) is not None
    ]  # fmt: skip
    failed = [each for each in record.requests if each.failed]
    some, some_left = thinned(answered, late_ms), thinned(left, late_ms)
    every_failed = max(math.ceil(len(failed) / CROSSES_MAX), 1)
    crosses = failed[::every_failed]
    marks = [
        Marks(name="answered well", points=_dots(some.shown, late_ms), shape="dot"),
        Marks(name="left by the client as planned", points=_dots(some_left.shown, late_ms), shape="ring"),
        Marks(
            name="failed",
            points=tuple((each.due_s, None) for each in crosses),
            shape="cross",
            labels=tuple(_failure_text(each) for each in crosses[:LABELS_MAX]),
        ),
    ]
    limit_ms = plan.slo.ttft_ms if with_tokens else plan.slo.e2e_ms
    values = [late_ms(each) for each in (*answered, *left)]
    rules, far = limit_rule(limit_ms, "ms", values, upright=False)
    notes = [
        far,
        _thinning_note("answers", some.every, len(answered), tail=True),
        _thinning_note("answers that the client left", some_left.every, len(left), tail=True),
        _thinning_note("failures", every_failed, len(failed), tail=False),
    ]
    return Plot(
        title="Every request",
        meaning=f"{'TTFT' if with_tokens else 'Time to the end'} from due, by when it was due.",
        x_name=SINCE_START,
        x=time_axis(ended_s(record)),
        y=axis_for([*values, *(rule.at for rule in rules)], "ms"),
        marks=tuple(each for each in marks if each.points),
        rules=(*rules, *events),
        bands=_warmup(plan),
        strip_name="failed" if failed else "",
        note=" ".join(note for note in notes if note),
    )


def _dots(requests: Sequence[RequestRecord], late_ms: Callable[[RequestRecord], float]) -> Pairs:
    return tuple((each.due_s, late_ms(each)) for each in requests)


def _failure_text(record: RequestRecord) -> str:
    reason = f": {record.reason[:120]}" if record.reason else ""
    return f"request {record.number}, {record.verdict.value}{reason}"


def _thinning_note(what: str, every: int, of: int, *, tail: bool) -> str:
    if every == 1:
        return ""
    return f"Of {of:,} {what}, 1 of {every:,} is shown{', and all of the slowest 1 %' if tail else ''}."
