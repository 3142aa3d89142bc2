"""The capacity curve of a plan as one SVG file: TTFT and ITL over the load, with their ranges, the SLO and the plan.

Two plots of the bench's own drawing (bench/plot_svg.py) in one picture that needs nothing from elsewhere.
"""

from __future__ import annotations

import math
import re
from html import escape

from inferry.bench.plot_scales import amount_text, axis_for, linear_axis
from inferry.bench.plot_svg import HEIGHT, WIDTH, Line, Marks, Plot, Point, drawn, limit_rule
from inferry.bench.report_style import STYLE
from inferry.cli.plan_text import TITLES, degrees
from inferry.planner.answers import Interval, Performance
from inferry.planner.architecture import Architecture
from inferry.planner.capacity import ttft_quantile
from inferry.planner.recommend import Option
from inferry.planner.sizing import Physics
from inferry.planner.wish import Wish

POINTS = 24
BEYOND = 1.25
"""So much of the capacity is drawn: what comes after it is a queue that only grows."""
GAP, TITLE, LEGEND = 24.0, 58.0, 26.0


def curve_svg(arch: Architecture, option: Option, wish: Wish, physics: Physics) -> str:
    """The text of an SVG file. The load is of all replicas together."""
    sized = option.sized
    curve = _curve(arch, option, wish, physics)
    planned = (sized.load.requests_per_s or sized.load.concurrency or 0) * sized.replicas
    unit = "requests at once" if sized.load.requests_per_s is None else "requests per second"
    x_name = f"{unit}, all replicas together"
    share = wish.slo.percentile
    plots = (
        _plot(
            f"First token (TTFT), {share:.0%} have it by",
            [(load, ttft_quantile(found, share)) for load, found in curve],
            wish.slo.ttft_ms,
            (planned, ttft_quantile(sized.at_load, share)),
            x_name,
        ),
        _plot(
            "Each further token (ITL)",
            [(load, found.itl_ms) for load, found in curve],
            wish.slo.itl_ms,
            (planned, sized.at_load.itl_ms),
            x_name,
        ),
    )
    title = (
        f"{arch.name} on {sized.devices} x {sized.candidate.hardware.device.name}: {TITLES[sized.setup.engine]}, "
        f"{degrees(sized.setup)}, {sized.setup.weights}, {sized.replicas} replica{'s' if sized.replicas > 1 else ''}"
    )
    return _page(
        title,
        f"{wish.input_tokens} tokens in, {wish.output_tokens} out; predicted, ranges of "
        f"{sized.at_load.ttft_ms.coverage:.0%}",
        plots,
    )


def _curve(
    arch: Architecture, option: Option, wish: Wish, physics: Physics
) -> list[tuple[float, Performance]]:
    """(load of all replicas, one replica's figures), up to where its queue would grow."""
    sized = option.sized
    device = sized.candidate.hardware.device
    if sized.load.requests_per_s is not None:
        top = max(BEYOND * sized.capacity.requests_per_s, sized.load.requests_per_s)
        rates = (top * number / POINTS for number in range(1, POINTS + 1))
        found = [
            (rate * sized.replicas, physics.speed(arch, device, sized.setup, wish.at_rate(rate)))
            for rate in rates
        ]
        served = [each for each in found if math.isfinite(each[1].ttft_ms.value)]
        return served or [(0.0, physics.speed(arch, device, sized.setup, wish.at_once(1)))]
    most = max(BEYOND * sized.capacity.concurrency, sized.load.concurrency or 0, sized.at_load.running, 8)
    steps = sorted({max(round(most * number / POINTS), 1) for number in range(1, POINTS + 1)} | {1})
    return [
        (each * sized.replicas, physics.speed(arch, device, sized.setup, wish.at_once(each)))
        for each in steps
    ]


def _plot(
    title: str,
    curve: list[tuple[float, Interval]],
    limit_ms: float | None,
    plan: tuple[float, Interval],
    x_name: str,
) -> Plot:
    def line(name: str, points: list[Point], style: int) -> Line:
        return Line(name=name, points=tuple(points), style=style)

    values = [interval.high for _, interval in curve]
    rules, note = limit_rule(limit_ms, "ms", values, upright=False)
    drawn_values = [*values, *([limit_ms] if limit_ms is not None and rules else [])]
    return Plot(
        title=title,
        meaning="",
        x_name=x_name,
        x=linear_axis(max(curve[-1][0], plan[0]), "number"),
        y=axis_for(drawn_values, "ms", log=False),
        lines=(
            line("predicted", [(load, interval.value) for load, interval in curve], 0),
            line("upper end of its range", [(load, interval.high) for load, interval in curve], 2),
            line("lower end", [(load, interval.low) for load, interval in curve], 2),
        ),
        marks=_mark(plan),
        rules=rules,
        note=note,
    )


def _mark(plan: tuple[float, Interval]) -> tuple[Marks, ...]:
    """Where the plan is; nowhere, where its queue grows."""
    load, interval = plan
    if not math.isfinite(interval.value):
        return ()
    name = f"this plan, {amount_text(interval.value, 'ms')}"
    return (Marks(name=name, points=((load, interval.value),), shape="ring"),)


def _page(title: str, subtitle: str, plots: tuple[Plot, ...]) -> str:
    width = len(plots) * WIDTH + (len(plots) - 1) * GAP + 2 * GAP
    height = TITLE + LEGEND * 2 + HEIGHT + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{escape(title)}">',
        f"<style>{_style()}</style>",
        f'<rect class="ground" width="{width:g}" height="{height:g}"/>',
        f'<text class="title" x="{GAP:g}" y="28">{escape(title)}</text>',
        f'<text class="name" x="{GAP:g}" y="48">{escape(subtitle)}</text>',
    ]
    for number, plot in enumerate(plots):
        left = GAP + number * (WIDTH + GAP)
        parts.append(f'<g transform="translate({left:g} {TITLE:g})">{_key(plot)}')
        parts.append(f'<g transform="translate(0 {LEGEND * 2:g})">{_inside(plot)}</g></g>')
    return "".join([*parts, "</svg>\n"])


def _inside(plot: Plot) -> str:
    """The drawing without the page around it."""
    found = re.search(r'<svg class="plot"[^>]*>(.*?)</svg>(?=<p|</figure>)', drawn(plot), re.S)
    assert found is not None
    return found[1]


def _key(plot: Plot) -> str:
    """The legend in one row, as SVG: files are looked at without a page around them."""
    items = [(f'<path class="line s{line.style}" d="M0 -4H22"/>', line.name) for line in plot.lines[:2]]
    items += [('<path class="rule" d="M0 -4H22"/>', rule.name) for rule in plot.rules]
    items += [
        ('<path class="mark ring" d="M8.5 -4a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0 -5 0"/>', marks.name)
        for marks in plot.marks
    ]
    shown, left = [f'<text class="head" x="0" y="14">{escape(plot.title)}</text>'], 0.0
    for swatch, name in items:
        name = "its range" if name == "upper end of its range" else name
        shown.append(
            f'<g transform="translate({left:g} 36)">{swatch}<text class="tick" x="27">{escape(name)}</text></g>'
        )
        left += 46 + 6.2 * len(name)
    return "".join(shown)


def _style() -> str:
    """The report's own, with what only this picture has."""
    own = (
        "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif}.ground{fill:var(--back)}"
        ".title{font-size:17px;font-weight:600;fill:var(--ink)}.head{font-size:14px;font-weight:600;fill:var(--ink)}"
        ".mark.ring{stroke-width:2.2}"
    )
    return f"{STYLE}{own}"
