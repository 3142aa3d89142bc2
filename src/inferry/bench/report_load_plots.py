"""The plots over several loads: latency, goodput and throughput, with the limit and where it is reached."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from msgspec import Struct

from inferry.bench.goodput import Goodput, goodput
from inferry.bench.plan import Slo
from inferry.bench.plot_scales import amount_text, axis_for, linear_axis, share_axis
from inferry.bench.plot_svg import Band, Line, Marks, Plot, Rule, limit_rule
from inferry.bench.records import RequestRecord
from inferry.bench.report import LoadUnit, Report, ReportedRun, load_text
from inferry.bench.report_series import P99_COUNT_MIN, Pairs, measured, p99
from inferry.bench.request_figures import Figures, figures
from inferry.bench.statistics import Sample
from inferry.bench.validity import Judgement

NEAR = 1.05
"""Loads within this factor are one point: a search makes many runs beside its answer, and each of them alone has too
few requests for a 99th percentile."""
_WORSE: tuple[Judgement, ...] = ("valid", "suspect", "invalid")


class AtLoad(Struct, frozen=True, kw_only=True):
    """All runs at one load, or at loads that are hardly different, taken together."""

    load: float
    """Mean of the runs'."""
    least: float
    most: float
    runs: int
    trust: Judgement
    """The worst of the runs'."""
    ttft_ms_p50: float | None
    """From due, failures infinitely late; None: nothing to measure."""
    ttft_ms_p99: float | None
    e2e_ms_p50: float | None
    e2e_ms_p99: float | None
    few: bool
    """Too few requests for a 99th percentile: those here are the slowest."""
    good: Goodput
    ok_per_s: float | None
    """Mean of the runs."""
    tokens_per_s: float | None


def at_loads(report: Report) -> list[AtLoad]:
    """In the order of load; empty if the runs are no sweep."""
    groups: list[list[float]] = []
    for load in report.loads:
        if groups and load <= groups[-1][0] * NEAR:
            groups[-1].append(load)
        else:
            groups.append([load])
    return [_at([run for run in report.runs if run.load in group]) for group in groups]


def _at(runs: Sequence[ReportedRun]) -> AtLoad:
    loads = [run.load for run in runs if run.load is not None]
    requests = [each for run in runs for each in measured(run.record)]
    slo = runs[0].plan.slo
    ttft = _late(requests, lambda each: each.ttft_from_due_ms)
    e2e = _late(requests, lambda each: each.e2e_from_due_ms)
    counted = [each for run in runs for each in run.record.requests if not each.warmup]
    return AtLoad(
        load=sum(loads) / len(loads),
        least=min(loads),
        most=max(loads),
        runs=len(runs),
        trust=max((run.validity.verdict for run in runs), key=_WORSE.index),
        ttft_ms_p50=ttft.percentile(0.5),
        few=len(requests) < P99_COUNT_MIN,
        ttft_ms_p99=p99(ttft),
        e2e_ms_p50=e2e.percentile(0.5),
        e2e_ms_p99=p99(e2e),
        good=goodput(counted, slo, None),
        ok_per_s=_mean([run.summary.requests_per_s.ok for run in runs]),
        tokens_per_s=_mean([run.summary.output_tokens_per_s for run in runs]),
    )


def _late(requests: Sequence[RequestRecord], read: Callable[[Figures], float | None]) -> Sample:
    late = (math.inf if each.failed else read(figures(each)) for each in requests)
    return Sample(value for value in late if value is not None)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


# --- plots --------------------------------------------------------------------------------------------


def load_plots(report: Report) -> list[Plot]:
    """What becomes of latency, goodput and throughput as the load rises; nothing if there is one load only."""
    points = at_loads(report)
    if not points:
        return []
    unit, slo = report.main.load_unit, report.main.plan.slo
    plots = [
        _latency_plot(
            "Time to first token",
            report,
            [(each.load, each.ttft_ms_p50) for each in points],
            [(each.load, each.ttft_ms_p99) for each in points],
            slo.ttft_ms,
        ),
        _goodput_plot(report, points),
        _latency_plot(
            "Time to the answer's end",
            report,
            [(each.load, each.e2e_ms_p50) for each in points],
            [(each.load, each.e2e_ms_p99) for each in points],
            slo.e2e_ms,
        ),
        _throughput_plot(report, points, unit),
    ]
    return [plot for plot in plots if plot is not None]


def _x_name(unit: LoadUnit) -> str:
    return "requests asked for per second" if unit == "per_s" else "users at once"


def _where_it_ends(report: Report) -> tuple[tuple[Rule, ...], tuple[Band, ...]]:
    """The capacity, if it was searched and found, and how far off it may be."""
    if report.capacity is None or not report.capacity.found.rate:
        return (), ()
    found, top = report.capacity.found, max(report.loads)
    unit = report.main.load_unit
    about = "" if found.sure else "about "
    rule = Rule(name=f"carries {about}{load_text(found.rate, unit)}", at=found.rate, upright=True)
    if found.low == found.high:
        return (rule,), ()
    high = found.high if found.high is not None else top
    return (rule,), (Band(name="how sure that is", low=found.low, high=max(high, found.low)),)


def _latency_plot(
    title: str,
    report: Report,
    p50: Sequence[tuple[float, float | None]],
    late: Sequence[tuple[float, float | None]],
    limit_ms: float | None,
) -> Plot | None:
    values = [y for _, y in (*p50, *late) if y is not None]
    if not any(map(math.isfinite, values)):
        return None
    limit, far = limit_rule(limit_ms, "ms", values, upright=False)
    rules, bands = _where_it_ends(report)
    never = tuple((x, None) for x, y in late if y is not None and math.isinf(y))
    unit = report.main.load_unit
    return Plot(
        title=f"{title} against load",
        meaning="From due, over all requests: a failure is infinitely late.",
        x_name=_x_name(unit),
        x=linear_axis(max(report.loads), unit),
        y=axis_for([*values, *(rule.at for rule in limit)], "ms"),
        lines=(
            Line(name="99th percentile, or slowest", points=_finite(late), style=1, markers=True),
            Line(name="median", points=_finite(p50), style=0, markers=True),
        ),
        marks=(
            Marks(
                name="the 99th percentile failed",
                points=never,
                shape="cross",
                labels=tuple("more than 1 % of the requests failed" for _ in never),
            ),
        )
        if never
        else (),
        rules=(*limit, *rules),
        bands=bands,
        note=far,
        strip_name="failed" if never else "",
    )


def _finite(points: Sequence[tuple[float, float | None]]) -> Pairs:
    return tuple((x, y if y is not None and math.isfinite(y) else None) for x, y in points)


def _goodput_plot(report: Report, points: Sequence[AtLoad]) -> Plot:
    rules, bands = _where_it_ends(report)
    if report.capacity is not None:
        goal = report.capacity.goal.share
        rules = (Rule(name=f"goal {amount_text(goal, 'share')}", at=goal, upright=False), *rules)
    unit = report.main.load_unit
    limited = report.main.plan.slo != Slo()
    return Plot(
        title="Goodput against load",
        meaning=f"Share of all requests that were answered whole{' and within every limit' if limited else ''}.",
        x_name=_x_name(unit),
        x=linear_axis(max(report.loads), unit),
        y=share_axis(min((each.good.share or 0.0) for each in points)),
        lines=(
            Line(
                name="good",
                points=tuple((each.load, each.good.share) for each in points),
                style=0,
                markers=True,
            ),
        ),
        rules=rules,
        bands=bands,
    )


def _throughput_plot(report: Report, points: Sequence[AtLoad], unit: LoadUnit) -> Plot | None:
    answered = tuple((each.load, each.ok_per_s) for each in points)
    values = [y for _, y in answered if y is not None]
    if not values:
        return None
    rules, bands = _where_it_ends(report)
    lines = [Line(name="answered well", points=answered, style=0, markers=True)]
    if unit == "per_s":
        values.append(max(report.loads))
        lines.append(
            Line(name="asked for", points=tuple((load, load) for load in (0.0, *report.loads)), style=2)
        )
    return Plot(
        title="Throughput against load",
        meaning="Requests answered whole per second, in the steady part of each run.",
        x_name=_x_name(unit),
        x=linear_axis(max(report.loads), unit),
        y=axis_for(values, "per_s", log=False),
        lines=tuple(lines),
        rules=rules,
        bands=bands,
    )
