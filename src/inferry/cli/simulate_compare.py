"""Variants of a simulation side by side: the same requests for all, differences from the first, and who is better at what."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inferry.cli.simulate_run import Simulated
from inferry.cli.simulate_text import row
from inferry.cli.simulate_words import NONE, amount, limits, rejected_count, share

SAME_LATENCY = 0.02
"""Percentiles are told to within 0.5 %; what is nearer than that and chance is the same."""
SAME = 0.01


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `better`: 1 where more is better, -1 where less is, 0 where that is nobody's aim."""

    name: str
    of: Callable[[Simulated], float | None]
    better: int
    is_share: bool = False
    same: float = SAME


FIGURES: tuple[Figure, ...] = (
    Figure("kept the SLO", lambda each: each.result.attainment, 1, is_share=True, same=0.001),
    Figure("goodput, requests/s", lambda each: each.result.goodput_per_s, 1),
    Figure("TTFT p50, ms", lambda each: each.result.ttft.p50_ms, -1, same=SAME_LATENCY),
    Figure("TTFT p90, ms", lambda each: each.result.ttft.p90_ms, -1, same=SAME_LATENCY),
    Figure("TTFT p99, ms", lambda each: each.result.ttft.p99_ms, -1, same=SAME_LATENCY),
    Figure("ITL p50, ms", lambda each: each.result.itl.p50_ms, -1, same=SAME_LATENCY),
    Figure("ITL p99, ms", lambda each: each.result.itl.p99_ms, -1, same=SAME_LATENCY),
    Figure("E2E p90, ms", lambda each: each.result.e2e.p90_ms, -1, same=SAME_LATENCY),
    Figure("failed", lambda each: float(sum(each.result.failed.values())), -1),
    Figure("rejected", lambda each: float(rejected_count(each)), -1),
    Figure("cached", lambda each: each.result.hit_ratio, 1, is_share=True, same=0.005),
    Figure("preemptions", lambda each: float(each.result.preemptions), -1, same=0.1),
    Figure("mean replicas", lambda each: each.result.mean_replicas, 0),
    Figure("GPU-hours", lambda each: each.result.gpu_hours or None, -1),
    Figure("replica-hours", lambda each: None if each.result.gpu_hours else each.result.replica_hours, -1),
    Figure("cost", lambda each: None if each.price_per_hour is None else each.result.cost, -1),
    Figure("scaling changes", lambda each: float(sum(one.to != one.was for one in each.result.decisions)), 0),
    Figure("direction changes/h", lambda each: each.result.direction_changes_per_hour, -1),
)  # fmt: skip


def compare_text(found: Sequence[Simulated], load: str, seed: int, columns: int) -> str:
    """The table, and a sentence for each variant beside the first."""
    first = found[0]
    lines = textwrap.wrap(
        f"SIMULATED: no engine ran. {first.deployment}: the same {first.result.requests:,} requests for all",
        columns,
    )
    lines += row("load", f"{load}; seed {seed}", columns)
    for each in _unlike(found, lambda one: one.timing.says):
        lines += row("timing", _whose(each, found) + each.timing.says, columns)
        for doubt in each.timing.doubts:
            lines += row("", f"- {doubt}", columns)
    for each in _unlike(found, lambda one: (one.slo, one.slo_from)):
        lines += row("SLO", f"{_whose(each, found)}{limits(each.slo)} ({each.slo_from})", columns)
    lines += ["", *_table(found), ""]
    for other in found[1:]:
        lines += textwrap.wrap(sentence(first, other), columns, break_on_hyphens=False)
    lines += textwrap.wrap(
        f"One run each, with seed {seed}: small differences may be chance. Other seeds (--seed) tell.",
        columns,
    )
    return "\n".join(lines)


def sentence(one: Simulated, other: Simulated) -> str:
    """Which of two is better at what."""
    better: list[str] = []
    worse: list[str] = []
    for figure in shown([one, other]):
        word = judged(figure, figure.of(one), figure.of(other))
        if word:
            (better if word == "better" else worse).append(figure.name.partition(",")[0])
    name, base = other.variant.name, one.variant.name
    if not better and not worse:
        return f"'{name}' does not differ from '{base}' in anything that matters."
    said = [f"is better at: {', '.join(better)}"] if better else []
    said += [f"is worse at: {', '.join(worse)}"] if worse else []
    return f"Beside '{base}', '{name}' {'; it '.join(said)}."


def shown(found: Sequence[Simulated]) -> list[Figure]:
    """Those that say something: somebody has them, and not 0 for all."""
    return [figure for figure in FIGURES if any(figure.of(each) for each in found)]


def judged(figure: Figure, base: float | None, value: float | None) -> str:
    """`better`, `worse` or nothing."""
    if base is None or value is None or not figure.better:
        return ""
    difference = value - base
    size = abs(difference) if figure.is_share else abs(difference) / max(abs(base), abs(value), 1e-12)
    if size <= figure.same:
        return ""
    return "better" if (difference > 0) == (figure.better > 0) else "worse"


def difference_text(figure: Figure, base: float | None, value: float | None) -> str:
    """`+12%`, of shares `+1.2 points`, of counts from 0 `+12`."""
    if base is None or value is None:
        return ""
    if figure.is_share:
        return f"{100 * (value - base):+.2g} points" if value != base else "same"
    if value == base:
        return "same"
    return f"{value / base - 1:+.0%}" if base and abs(value / base - 1) < 10 else f"{value - base:+,.4g}"


def value_text(figure: Figure, value: float | None) -> str:
    if value is None:
        return NONE
    return share(value) if figure.is_share else amount(value)


def _table(found: Sequence[Simulated]) -> list[str]:
    names = [each.variant.name for each in found]
    heads = ["", names[0]]
    for name in names[1:]:
        heads += [name, ""]
    rows = [heads]
    for figure in shown(found):
        values = [figure.of(each) for each in found]
        cells = [figure.name, value_text(figure, values[0])]
        for value in values[1:]:
            word = judged(figure, values[0], value)
            cells += [
                value_text(figure, value),
                f"{difference_text(figure, values[0], value)} {word}".strip(),
            ]
        rows.append(cells)
    widths = [max(len(cells[place]) for cells in rows) for place in range(len(heads))]
    lines = []
    for cells in rows:
        line = f"{cells[0]:<{widths[0]}}  {cells[1]:>{widths[1]}}"
        for place in range(2, len(cells), 2):
            line += f"  {cells[place]:>{widths[place]}}  {cells[place + 1]:<{widths[place + 1]}}"
        lines.append(line.rstrip())
    return lines


def _unlike(found: Sequence[Simulated], key: Callable[[Simulated], object]) -> list[Simulated]:
    """One for each that differs."""
    seen: dict[object, Simulated] = {}
    for each in found:
        seen.setdefault(key(each), each)
    return list(seen.values())


def _whose(each: Simulated, found: Sequence[Simulated]) -> str:
    same = all(one.timing.says == each.timing.says for one in found)
    return "" if same else f"'{each.variant.name}': "
