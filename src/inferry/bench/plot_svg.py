"""Draws one plot as an inline SVG with its legend: no script, no font and no picture from elsewhere.

Colours are the page's variables, so that one drawing serves light and dark; each line has a dash pattern and each
mark a shape of its own, so that nothing is told by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from typing import Literal

import msgspec
from msgspec import Struct

from inferry.bench.plot_scales import Axis, Unit, amount_text

WIDTH, HEIGHT = 460.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 12.0, 10.0, 42.0
STRIP = 26.0
"""Above the plot, for marks that have no value on its axis."""
STYLES = 5
"""Pairs of colour and dash pattern that the page's style has."""
Shape = Literal["dot", "ring", "cross"]

Point = tuple[float, float | None]
"""A y of None is a gap."""


class Line(Struct, frozen=True, kw_only=True):
    name: str
    points: tuple[Point, ...]
    style: int
    markers: bool = False
    stepped: bool = False
    """A value holds until the next one."""


class Marks(Struct, frozen=True, kw_only=True):
    name: str
    points: tuple[Point, ...]
    """A y of None: in the strip above the plot."""
    shape: Shape
    labels: tuple[str, ...] = ()
    """One for each point, for who points at it; or none at all."""


class Rule(Struct, frozen=True, kw_only=True):
    """A limit: a line across the whole plot."""

    name: str
    at: float
    upright: bool


FAR = 3.0
"""A limit that many times beyond all values is said and not drawn: it would press them into a corner."""


def limit_rule(
    limit: float | None, unit: Unit, values: Iterable[float | None], *, upright: bool
) -> tuple[tuple[Rule, ...], str]:
    """The rule of a limit that may not be set, and a note instead of it if it is far from all `values`."""
    if limit is None:
        return (), ""
    text = amount_text(limit, unit)
    known = [value for value in values if value is not None and math.isfinite(value)]
    if known and limit > FAR * max(known):
        return (), f"The limit of {text} is far {'to the right of' if upright else 'above'} all of this."
    return (Rule(name=f"limit {text}", at=limit, upright=upright),), ""


class Band(Struct, frozen=True, kw_only=True):
    """A stretch of the x axis that is shaded."""

    name: str
    low: float
    high: float


class Plot(Struct, frozen=True, kw_only=True):
    title: str
    meaning: str
    """One sentence: how it is to be read."""
    x_name: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...] = ()
    marks: tuple[Marks, ...] = ()
    rules: tuple[Rule, ...] = ()
    bands: tuple[Band, ...] = ()
    strip_name: str = ""
    note: str = ""


def drawn(plot: Plot) -> str:
    """The HTML of one `<figure>`."""
    axes = f'data-x="{_axis_data(plot.x)}" data-y="{_axis_data(plot.y)}"'
    parts = [
        "<figure>",
        f"<figcaption><h3>{escape(plot.title)}</h3><p>{escape(plot.meaning)}</p>{_legend(plot)}</figcaption>",
        f'<svg class="plot" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" {axes}'
        f' aria-label="{escape(plot.title)}. {escape(_in_words(plot))}">',
        *_bands(plot),
        *_grid(plot),
        *_rules(plot),
        *(_line(plot, line) for line in plot.lines),
        *(_marks(plot, marks) for marks in plot.marks),
        "</svg>",
        f'<p class="note">{escape(plot.note)}</p>' if plot.note else "",
        "</figure>\n",
    ]
    return "".join(parts)


def _axis_data(axis: Axis) -> str:
    return f"{'log' if axis.log else 'linear'} {axis.low!r} {axis.high!r} {axis.unit}"


# --- places -------------------------------------------------------------------------------------------


def _x(plot: Plot, value: float) -> float:
    return LEFT + plot.x.place(value) * (WIDTH - LEFT - RIGHT)


def _top(plot: Plot) -> float:
    return TOP + (STRIP if plot.strip_name else 0.0)


def _y(plot: Plot, value: float | None) -> float:
    if value is None:
        return TOP + 5
    return HEIGHT - BOTTOM - plot.y.place(value) * (HEIGHT - BOTTOM - _top(plot))


def _short(place: float) -> str:
    return f"{place:.1f}".removesuffix(".0")


# --- parts --------------------------------------------------------------------------------------------


def _grid(plot: Plot) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts: list[str] = []
    for tick in plot.y.ticks:
        y = _short(_y(plot, tick))
        parts.append(f'<path class="grid" d="M{LEFT:g} {y}H{right:g}"/>')
        text = escape(amount_text(tick, plot.y.unit))
        parts.append(f'<text class="tick end" x="{LEFT - 6:g}" y="{y}" dy=".35em">{text}</text>')
    for tick in plot.x.ticks:
        x = _x(plot, tick)
        text = escape(amount_text(tick, plot.x.unit))
        # The last label of an axis would hang over the picture's edge.
        place = "end" if x > right - 14 else "middle"
        parts.append(f'<path class="grid" d="M{_short(x)} {bottom:g}v4"/>')
        parts.append(
            f'<text class="tick {place}" x="{_short(min(x, right))}" y="{bottom + 16:g}">{text}</text>'
        )
    middle = (LEFT + right) / 2
    parts.append(
        f'<text class="name middle" x="{middle:g}" y="{HEIGHT - 7:g}">{escape(plot.x_name)}</text>'
        f'<path class="axis" d="M{LEFT:g} {_short(_top(plot))}V{bottom:g}H{right:g}"/>'
    )
    if plot.strip_name:
        parts.append(
            f'<text class="tick end" x="{LEFT - 6:g}" y="{_short(_y(plot, None))}" dy=".35em">'
            f"{escape(plot.strip_name)}</text>"
        )
    return parts


def _bands(plot: Plot) -> list[str]:
    parts: list[str] = []
    for band in plot.bands:
        low, high = _x(plot, band.low), _x(plot, band.high)
        parts.append(
            f'<rect class="band" x="{_short(low)}" y="{TOP:g}" width="{_short(max(high - low, 1.0))}"'
            f' height="{HEIGHT - BOTTOM - TOP:g}"/>'
        )
    return parts


def _rules(plot: Plot) -> list[str]:
    parts: list[str] = []
    for rule in plot.rules:
        if rule.upright:
            path = f"M{_short(_x(plot, rule.at))} {_short(_top(plot))}V{HEIGHT - BOTTOM:g}"
        else:
            path = f"M{LEFT:g} {_short(_y(plot, rule.at))}H{WIDTH - RIGHT:g}"
        parts.append(f'<path class="rule{" upright" if rule.upright else ""}" d="{path}"/>')
    return parts


def _line(plot: Plot, line: Line) -> str:
    path: list[str] = []
    dots: list[str] = []
    before: str | None = None
    for x_value, y_value in line.points:
        if y_value is None:
            before = None
            continue
        x, y = _short(_x(plot, x_value)), _short(_y(plot, y_value))
        if before is None:
            path.append(f"M{x} {y}")
        elif line.stepped:
            path.append(f"L{x} {before}L{x} {y}")
        else:
            path.append(f"L{x} {y}")
        before = y
        dots.append(f"M{x} {y}h0")
    style = f"s{line.style % STYLES}"
    shown = f'<path class="line {style}" data-name="{escape(line.name)}" d="{"".join(path)}"/>'
    # One lonely point has no stretch that could be seen.
    if line.markers or len(dots) == 1:
        shown += f'<path class="dots {style}" d="{"".join(dots)}"/>'
    return shown


_SHAPES: dict[Shape, str] = {"dot": "h0", "ring": "m-2.5 0a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0", "cross": ""}


def _marks(plot: Plot, marks: Marks) -> str:
    path: list[str] = []
    places: list[str] = []
    for x_value, y_value in marks.points:
        x, y = _x(plot, x_value), _y(plot, y_value)
        if marks.shape == "cross":
            path.append(f"M{_short(x - 3)} {_short(y - 3)}l6 6m0-6l-6 6")
        else:
            path.append(f"M{_short(x)} {_short(y)}{_SHAPES[marks.shape]}")
        places.append(f"{_short(x)} {_short(y)}")
    labels = ""
    if marks.labels:
        listed = msgspec.json.encode(marks.labels).decode()
        labels = f' data-places="{" ".join(places)}" data-labels="{escape(listed)}"'
    return f'<path class="mark {marks.shape}" data-name="{escape(marks.name)}"{labels} d="{"".join(path)}"/>'


def _legend(plot: Plot) -> str:
    """Beside what it names, in HTML: it wraps on a narrow screen and can't lie over the drawing."""
    keys = [(f'<path class="line s{line.style % STYLES}" d="M1 6H25"/>', line.name) for line in plot.lines]
    for marks in plot.marks:
        shape = "M10 3l6 6m0-6l-6 6" if marks.shape == "cross" else f"M13 6{_SHAPES[marks.shape]}"
        keys.append((f'<path class="mark {marks.shape}" d="{shape}"/>', marks.name))
    for rule in plot.rules:
        upright = " upright" if rule.upright else ""
        keys.append((f'<path class="rule{upright}" d="{"M13 0V12" if upright else "M1 6H25"}"/>', rule.name))
    keys += [('<rect class="band" x="1" width="24" height="12"/>', band.name) for band in plot.bands]
    items = "".join(
        f'<li><svg viewBox="0 0 26 12" aria-hidden="true">{swatch}</svg>{escape(name)}</li>'
        for swatch, name in keys
    )
    return f'<ul class="legend">{items}</ul>' if keys else ""


def _in_words(plot: Plot) -> str:
    """For who can't see it: where each line begins and ends, and its highest value."""
    said: list[str] = []
    for line in plot.lines:
        values = [(x, y) for x, y in line.points if y is not None]
        if not values:
            continue
        (first_x, first), (last_x, last), top = values[0], values[-1], max(y for _, y in values)
        unit = plot.y.unit
        said.append(
            f"{line.name}: {amount_text(first, unit)} at {amount_text(first_x, plot.x.unit)}, "
            f"{amount_text(last, unit)} at {amount_text(last_x, plot.x.unit)}, at most {amount_text(top, unit)}."
        )
    said += [f"{marks.name}: {len(marks.points)} points." for marks in plot.marks if marks.points]
    return " ".join(said) or plot.meaning
