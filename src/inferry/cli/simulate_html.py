"""A simulation as one page that needs no network: figures, plots over time, decisions. The bench's own drawing and style."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape

from inferry.bench.plot_scales import Unit, axis_for, share_axis, time_axis
from inferry.bench.plot_svg import STYLES, Line, Plot, Point, drawn, limit_rule
from inferry.bench.report_style import SCRIPT, STYLE
from inferry.cli.simulate_compare import difference_text, judged, sentence, shown, value_text
from inferry.cli.simulate_run import Simulated
from inferry.cli.simulate_text import head_line, timing_lines
from inferry.cli.simulate_words import (
    NONE,
    amount,
    clock,
    counts,
    decision_text,
    hours_text,
    limits,
    rejected_by_code,
    rejected_count,
    replicas_text,
    share,
)
from inferry.simulate.result import Interval, Percentiles

DECISIONS_MAX = 2000
X_NAME = "simulated time since the begin"


def page(found: Sequence[Simulated], load: str, seed: int) -> str:
    """The whole file."""
    first = found[0]
    title = f"{first.deployment}, simulated"
    body = [
        f"<h1>{escape(title)}</h1>\n",
        f'<p class="soft">{escape(load)}; seed {seed}; {first.result.requests:,} requests in {clock(first.result.duration_s)}</p>\n',
        _trust(found),
        _comparison(found) if len(found) > 1 else _tiles(first),
        _section("Over time", _plots(found)),
        *(_section(_titled("Latencies", each, found), _latencies(each)) for each in found),
        *(_section(_titled("Requests", each, found), _requests(each)) for each in found),
        *(_section(_titled("Scaling", each, found), _decisions(each)) for each in found),
        _section("What was simulated", "".join(_rests_on(each) for each in found)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"{''.join(body)}<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _titled(title: str, each: Simulated, found: Sequence[Simulated]) -> str:
    return title if len(found) == 1 else f"{title}: {each.variant.name}"


def _section(title: str, inside: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{inside}</section>\n" if inside else ""


def _trust(found: Sequence[Simulated]) -> str:
    """Before any figure: nothing here was measured."""
    says: dict[str, None] = {}
    for each in found:
        says.update(dict.fromkeys(timing_lines(each)))
    lines = "".join(f"<li>{escape(line)}</li>" for line in says)
    return (
        '<div class="verdict suspect"><strong>SIMULATED</strong> no engine ran. Routing, queues, limits and scaling were '
        f"decided by the code that decides in production; how fast engines are, rests on:<ul>{lines}</ul></div>\n"
    )


def _tiles(found: Simulated) -> str:
    result = found.result
    tiles = [
        (share(result.attainment), f"kept the SLO: {limits(found.slo)} ({found.slo_from})"),
        (f"{amount(result.goodput_per_s)}/s", "goodput: requests that kept it"),
        (f"{amount(result.ttft.p90_ms)} ms", "first token, for 90%"),
        (f"{amount(result.itl.p90_ms)} ms", "between tokens, for 90%"),
        (amount(result.mean_replicas), f"replicas on average: {hours_text(found)}"),
        (
            NONE if found.price_per_hour is None else f"{amount(result.cost)} {found.currency}",
            "no price is known" if found.price_per_hour is None else f"cost: {found.price_says}",
        ),
        (f"{sum(result.failed.values()):,}", "requests failed"),
        (f"{rejected_count(found):,}", "requests rejected"),
    ]
    return (
        '<ul class="tiles">'
        + "".join(f"<li><b>{escape(value)}</b><span>{escape(words)}</span></li>" for value, words in tiles)
        + "</ul>\n"
    )


def _comparison(found: Sequence[Simulated]) -> str:
    heads = "".join(f"<th>{escape(each.variant.name)}</th>" for each in found)
    rows = []
    for figure in shown(found):
        values = [figure.of(each) for each in found]
        cells = [f"<td>{escape(value_text(figure, values[0]))}</td>"]
        for value in values[1:]:
            word = judged(figure, values[0], value)
            style = {"better": "good", "worse": "bad"}.get(word, "soft")
            change = f"{difference_text(figure, values[0], value)} {word}".strip()
            cells.append(
                f'<td>{escape(value_text(figure, value))} <span class="{style}">{escape(change)}</span></td>'
            )
        rows.append(f"<tr><th>{escape(figure.name)}</th>{''.join(cells)}</tr>")
    words = "".join(f'<p class="answer">{escape(sentence(found[0], each))}</p>' for each in found[1:])
    return (
        f'{words}<p class="soft">One run each, with the same requests: small differences may be chance.</p>'
        f'<div class="wide"><table><thead><tr><th></th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>\n'
    )


# --- plots --------------------------------------------------------------------------------------------


def _plots(found: Sequence[Simulated]) -> str:
    plots = [
        _plot(found, "Requests per second", "What comes, in the mean of each stretch of time.", "per_s", _per_s, same=True),
        _plot(found, "Replicas", "That serve, at the end of each stretch of time.", "number", _serving, stepped=True),
        _plot(found, "Replicas on their way", "Started, and not serving yet.", "number", _coming, stepped=True),
        _plot(found, "Requests waiting", "At gateways, for their turn or for a replica.", "number", _waiting),
        _plot(found, "Requests in flight", "At replicas.", "number", _in_flight),
        _plot(found, "Time to first token, p90", "Of the requests that ended in each stretch of time.", "ms", _ttft),
        _attainment(found),
        _plot(found, "Failed and rejected per second", "Requests that got no whole answer.", "per_s", _lost),
    ]  # fmt: skip
    inside = "".join(drawn(plot) for plot in plots if plot is not None)
    return f'<div class="plots">\n{inside}</div>\n' if inside else ""


Of = Callable[[Interval, Simulated], float | None]


def _plot(
    found: Sequence[Simulated],
    title: str,
    meaning: str,
    unit: Unit,
    of: Of,
    *,
    stepped: bool = False,
    same: bool = False,
) -> Plot | None:
    """None where it is 0 all the time. `same`: for all variants."""
    lines = _lines(found[:1] if same else found, of, stepped=stepped)
    values = [value for line in lines for _, value in line.points if value is not None]
    if not any(values):
        return None
    limit = found[0].slo.ttft_ms if unit == "ms" else None
    rules, note = limit_rule(limit, "ms", values, upright=False)
    return Plot(
        title=title,
        meaning=meaning,
        x_name=X_NAME,
        x=time_axis(_end_s(found)),
        y=axis_for([*values, *(rule.at for rule in rules)], unit, log=None if unit == "ms" else False),
        lines=lines,
        rules=rules,
        note=note,
    )


def _attainment(found: Sequence[Simulated]) -> Plot | None:
    lines = _lines(found, lambda each, _: each.attainment)
    values = [value for line in lines for _, value in line.points if value is not None]
    if not values:
        return None
    return Plot(
        title="Kept the SLO",
        meaning=f"Of the requests that came in each stretch of time: {limits(found[0].slo)}.",
        x_name=X_NAME,
        x=time_axis(_end_s(found)),
        y=share_axis(min(values)),
        lines=lines,
    )


def _lines(found: Iterable[Simulated], of: Of, *, stepped: bool = False) -> tuple[Line, ...]:
    lines = []
    for number, each in enumerate(found):
        points: tuple[Point, ...] = tuple((line.begin_s, of(line, each)) for line in each.result.timeline)
        name = each.variant.name
        lines.append(Line(name=name, points=points, style=number % STYLES, stepped=stepped))
    return tuple(lines)


def _end_s(found: Sequence[Simulated]) -> float:
    return max((len(each.result.timeline) * each.interval_s for each in found), default=1.0)


def _per_s(line: Interval, each: Simulated) -> float:
    return line.arrivals / each.interval_s


def _serving(line: Interval, each: Simulated) -> float:
    return float(line.serving)


def _coming(line: Interval, each: Simulated) -> float:
    return float(line.coming)


def _waiting(line: Interval, each: Simulated) -> float:
    return float(line.waiting)


def _in_flight(line: Interval, each: Simulated) -> float:
    return float(line.in_flight)


def _ttft(line: Interval, each: Simulated) -> float | None:
    return line.ttft_p90_ms


def _lost(line: Interval, each: Simulated) -> float:
    return (line.failed + line.rejected) / each.interval_s


# --- tables -------------------------------------------------------------------------------------------


def _latencies(found: Simulated) -> str:
    of: list[tuple[str, Percentiles]] = [
        ("first token (TTFT)", found.result.ttft),
        ("between tokens (ITL)", found.result.itl),
        ("whole answer (E2E)", found.result.e2e),
        ("wait at a gateway", found.result.queue),
    ]
    rows = "".join(
        f"<tr><th>{name}</th>"
        + "".join(
            f"<td>{amount(value)}</td>"
            for value in (each.mean_ms, each.p50_ms, each.p90_ms, each.p95_ms, each.p99_ms)
        )
        + "</tr>"
        for name, each in of
    )
    return (
        '<div class="wide"><table><caption>ms, each to within 0.5%</caption><thead><tr><th></th><th>mean</th><th>p50</th><th>p90</th>'
        f"<th>p95</th><th>p99</th></tr></thead><tbody>{rows}</tbody></table></div>\n"
    )


def _requests(found: Simulated) -> str:
    result = found.result
    rows = [
        ("came", f"{result.requests:,}"),
        ("answered", f"{result.completed:,}"),
        ("failed", counts(result.failed) or "0"),
        ("rejected", counts(rejected_by_code(found)) or "0"),
        *(
            (f"rejected of tenant {tenant}", counts(codes))
            for tenant, codes in sorted(result.rejected.items())
            if tenant
        ),
        ("under way at the end", f"{result.under_way:,}"),
        ("prompt tokens", f"{result.prompt_tokens:,}"),
        ("of them cached", share(result.hit_ratio)),
        ("answer tokens", f"{result.answer_tokens:,}"),
        ("preemptions", f"{result.preemptions:,}"),
        ("replicas", replicas_text(found)),
        ("crashes, retries, resumed, set aside", f"{result.crashes}, {result.retries}, {result.resumes}, {result.set_aside}"),
        ("planned failures that hit nobody", f"{result.failures_missed}"),
    ]  # fmt: skip
    cells = "".join(
        f'<tr><th>{escape(name)}</th><td class="text">{escape(value)}</td></tr>' for name, value in rows
    )
    return f'<div class="wide"><table><tbody>{cells}</tbody></table></div>\n'


def _decisions(found: Simulated) -> str:
    decisions = found.result.decisions
    if not decisions:
        return ""
    rows = "".join(
        f"<tr><th>{clock(each.at_s)}</th><td>{each.was} → {each.to}</td>"
        f'<td class="text">{escape(decision_text(each))}</td></tr>'
        for each in decisions[:DECISIONS_MAX]
    )
    more = len(decisions) - DECISIONS_MAX
    note = f'<p class="note">and {more:,} more: see --json</p>' if more > 0 else ""
    summary = f"{len(decisions)} decisions, {amount(found.result.direction_changes_per_hour)} changes of direction per hour"
    return (
        f"<details{' open' if len(decisions) <= 40 else ''}><summary>{escape(summary)}</summary>"
        '<div class="wide"><table><thead><tr><th>at</th><th>replicas</th><th class="text">because</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{note}</details>\n"
    )


def _rests_on(found: Simulated) -> str:
    figures = found.timing.timing
    set_ = ", ".join(map(str, found.variant.settings)) or "nothing"
    timing = ", ".join(f"{name} {getattr(figures, name):.6g}" for name in figures.__dataclass_fields__)
    pairs = [
        ("file", f"{found.variant.path}; set besides: {set_}"),
        ("deployment", head_line(found).partition(". ")[2]),
        ("timing", timing),
        ("gateways", f"{found.gateways}"),
    ]
    terms = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f"<h3>{escape(found.variant.name)}</h3><dl>{terms}</dl>\n"
