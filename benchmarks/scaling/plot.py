"""SLO attainment against GPU-hours, as an SVG that needs nothing to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import log10

WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 250, 40, 55
COSTS = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
MISSES = (0.5, 0.1, 0.05, 0.01, 0.005, 0.001, 0.0001)
COST_MIN, COST_MAX = 0.95, 4.4
MISSED_MIN, MISSED_MAX = 0.00005, 0.6
COLOURS = ("#0b6e4f", "#c0392b", "#2c6fbb", "#8e44ad", "#d68910", "#5d6d7e", "#117a8b", "#7d6608")


@dataclass(frozen=True, slots=True)
class Point:
    family: str
    label: str
    cost: float
    """GPU-hours over the oracle's."""
    attainment: float
    documented: bool


def plot(title: str, points: Sequence[Point], curve: Sequence[tuple[float, float]]) -> str:
    """`curve`: our policy at other objectives, as cost and attainment."""
    families = list(dict.fromkeys(point.family for point in points))
    colours = {family: COLOURS[number % len(COLOURS)] for number, family in enumerate(families)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
        *_axes(),
    ]
    line = " ".join(f"{_x(cost):.1f},{_y(share):.1f}" for cost, share in sorted(curve))
    parts.append(
        f'<polyline points="{line}" fill="none" stroke="{colours[families[0]]}" stroke-width="1.5"/>'
    )
    for number, point in enumerate(points):
        x, y, colour = _x(point.cost), _y(point.attainment), colours[point.family]
        fill = colour if point.documented else "white"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{fill}" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(f'<text x="{x + 9:.1f}" y="{y + 4:.1f}" font-size="11">{number + 1}</text>')
        row = TOP + 14 + number * 22
        parts.append(
            f'<circle cx="{WIDTH - RIGHT + 22}" cy="{row - 4}" r="5" fill="{fill}" stroke="{colour}" '
            'stroke-width="2"/>'
        )
        parts.append(
            f'<text x="{WIDTH - RIGHT + 34}" y="{row}" font-size="11">{number + 1} {escape(point.label)}</text>'
        )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _axes() -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for cost in COSTS:
        x = _x(cost)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{cost:g}</text>')
    for missed in MISSES:
        y = _y(1 - missed)
        stroke = "#666" if missed == 0.01 else "#ddd"
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{stroke}"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * (1 - missed):g} %</text>'
        )
    middle = (LEFT + right) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">GPU-hours over the oracle\'s '
        "(less is better)</text>"
    )
    return parts


def _x(cost: float) -> float:
    share = log10(min(max(cost, COST_MIN), COST_MAX) / COST_MIN) / log10(COST_MAX / COST_MIN)
    return LEFT + share * (WIDTH - RIGHT - LEFT)


def _y(attainment: float) -> float:
    missed = min(max(1 - attainment, MISSED_MIN), MISSED_MAX)
    share = log10(missed / MISSED_MIN) / log10(MISSED_MAX / MISSED_MIN)
    return TOP + share * (HEIGHT - BOTTOM - TOP)
