"""A timeline as lines of a terminal: one sign per stretch of time, eight heights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from inferry.cli.simulate_words import amount, clock
from inferry.simulate.result import Interval, ServiceResult

_SIGNS = "▁▂▃▄▅▆▇█"
_NOTHING = " "
CELLS_MAX = 72
_LEFT_OUT_AT_0 = frozenset({"starting", "waiting", "missed SLO", "lost"})


def timeline_text(result: ServiceResult, interval_s: float, columns: int) -> str:
    """Load, replicas, queue, latency and attainment over time. Empty where there was less than two stretches of time."""
    lines = result.timeline
    cells = max(min(columns - 40, CELLS_MAX, len(lines)), 0)
    if cells < 2:
        return ""
    rows: list[tuple[str, list[float | None], Callable[[float], str]]] = [
        ("requests/s", _means(lines, cells, lambda each: each.arrivals / interval_s), lambda v: f"up to {amount(v)}"),
        ("replicas", _most(lines, cells, lambda each: float(each.serving)), lambda v: f"up to {v:.0f} serve"),
        ("starting", _most(lines, cells, lambda each: float(each.coming)), lambda v: f"up to {v:.0f} start"),
        ("waiting", _most(lines, cells, lambda each: float(each.waiting)), lambda v: f"up to {amount(v)} requests"),
        ("TTFT p90", _most(lines, cells, lambda each: each.ttft_p90_ms), lambda v: f"up to {amount(v)} ms"),
        ("missed SLO", _most(lines, cells, _missed), lambda v: f"up to {v:.1%} in {clock(interval_s)}"),
        ("lost", _sums(lines, cells, lambda each: float(each.failed + each.rejected)), lambda v: f"up to {amount(v)} failed or rejected"),
    ]  # fmt: skip
    shown = []
    for name, values, says in rows:
        known = [value for value in values if value is not None]
        if not known or (name in _LEFT_OUT_AT_0 and not max(known)):
            continue
        shown.append(f"{name:<11}{bars(values)}  {says(max(known))}")
    end = clock(len(lines) * interval_s)
    return "\n".join([*shown, f"{'':<11}0{end:>{max(cells - 1, len(end))}}"])


def bars(values: Sequence[float | None]) -> str:
    """The highest has the highest sign; 0 the lowest, nothing none."""
    top = max((value for value in values if value is not None), default=0.0)
    signs = []
    for value in values:
        if value is None:
            signs.append(_NOTHING)
        else:
            signs.append(_SIGNS[round((len(_SIGNS) - 1) * value / top)] if top > 0 else _SIGNS[0])
    return "".join(signs)


def _missed(line: Interval) -> float | None:
    return None if line.attainment is None else 1 - line.attainment


def _parts(lines: Sequence[Interval], cells: int) -> list[Sequence[Interval]]:
    borders = [round(number * len(lines) / cells) for number in range(cells + 1)]
    return [lines[low:high] for low, high in pairwise(borders)]


def _values(
    lines: Sequence[Interval],
    cells: int,
    of: Callable[[Interval], float | None],
    together: Callable[[list[float]], float],
) -> list[float | None]:
    found = ([value for each in part if (value := of(each)) is not None] for part in _parts(lines, cells))
    return [together(values) if values else None for values in found]


def _means(lines: Sequence[Interval], cells: int, of: Callable[[Interval], float]) -> list[float | None]:
    return _values(lines, cells, of, lambda values: sum(values) / len(values))


def _most(
    lines: Sequence[Interval], cells: int, of: Callable[[Interval], float | None]
) -> list[float | None]:
    return _values(lines, cells, of, max)


def _sums(lines: Sequence[Interval], cells: int, of: Callable[[Interval], float]) -> list[float | None]:
    return _values(lines, cells, of, sum)
