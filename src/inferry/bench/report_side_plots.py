"""The plots of runs that differ by something else than their load, such as gateway and direct: one over the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from inferry.bench.plot_scales import axis_for, share_axis
from inferry.bench.plot_svg import STYLES, Line, Plot
from inferry.bench.records import RequestRecord
from inferry.bench.report import ReportedRun
from inferry.bench.report_series import Pairs, measured, shares_within, token_gaps
from inferry.bench.request_figures import figures


def side_plots(runs: Sequence[ReportedRun]) -> list[Plot]:
    """Distributions, one line for each name; runs of one name are taken together."""
    names = list(dict.fromkeys(run.title for run in runs))
    of_name = {
        name: [each for run in runs if run.title == name for each in measured(run.record)]
        for name in names[:STYLES]
    }
    note = f"The first {STYLES} of {len(names)}." if len(names) > STYLES else ""

    def plot(title: str, x_name: str, read: Callable[[Sequence[RequestRecord]], Pairs]) -> Plot | None:
        named = [(name, pairs) for name, requests in of_name.items() if (pairs := read(requests))]
        if not named:
            return None
        return Plot(
            title=title,
            meaning="Share of all that were served within the time. What lies further left is faster.",
            x_name=x_name,
            x=axis_for((x for _, pairs in named for x, _ in pairs if x > 0), "ms"),
            y=share_axis(),
            lines=tuple(
                Line(name=name, points=pairs, style=style) for style, (name, pairs) in enumerate(named)
            ),
            note=note,
        )

    shown = [
        plot(
            "Time to first token",
            "time from due",
            lambda some: shares_within(some, lambda each: figures(each).ttft_from_due_ms),
        ),
        plot("Time between tokens", "gap", lambda some: token_gaps(some)[0]),
        plot(
            "Time to the answer's end",
            "time from due",
            lambda some: shares_within(some, lambda each: figures(each).e2e_from_due_ms),
        ),
    ]
    return [each for each in shown if each is not None]
