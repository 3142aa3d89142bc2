"""The report as one HTML file that needs nothing else: no network, no font, no script from elsewhere.

Sections come in the order of the questions: may I trust it, how much does it carry, how late is it, what went wrong,
was it the client, what was asked. The same report gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import msgspec

from inferry.bench.plot_scales import amount_text, plain
from inferry.bench.plot_svg import Plot, Rule, drawn
from inferry.bench.report import Report, ReportedRun
from inferry.bench.report_engine_plots import engines_view
from inferry.bench.report_load_plots import at_loads, load_plots
from inferry.bench.report_plots import distributions, every_request, over_time
from inferry.bench.report_side_plots import side_plots
from inferry.bench.report_side_words import compared
from inferry.bench.report_style import SCRIPT, STYLE
from inferry.bench.report_tables import (
    STRUCK,
    cache_table,
    calibration_table,
    client_table,
    cost_table,
    energy_table,
    goodput_table,
    latencies,
    loads_table,
    resilience_table,
    runs_table,
    verdicts,
)
from inferry.bench.report_words import DEFINITIONS, answer, arrivals_text, plan_lines
from inferry.core.clock import utc_text
from inferry.core.shown_url import shown_url

_MARKS = {"valid": "✓", "suspect": "?", "invalid": "✗"}


def page(report: Report) -> str:
    """The whole file."""
    main = report.main
    body = [
        _header(report),
        _trust(report),
        _answer(report),
        _tiles(main) if len(report.runs) == 1 or report.loads else "",
        _loads(report),
        _section("Latencies", f"{_of_run(report)}{latencies(main.summary)}{_plots(_latency_plots(main))}"),
        _section("Good and bad", f"{goodput_table(main)}{verdicts(main.record)}"),
        _section("A replica lost on purpose", resilience_table(main.resilience)),
        _section("Over time", _plots(over_time(main.plan, main.record, _events(main)))),
        _section("The engines' view", _plots(engines_view(main.record, _events(main)))),
        _section("Prefix cache", cache_table(main.summary)),
        _section("Cost and energy", f"{cost_table(main)}{energy_table(main.summary)}"),
        _section("The client", f"{client_table(main.record.audits)}{calibration_table(report.calibration)}"),
        _section("The other runs", "".join(_other(run) for run in report.runs if run is not main)),
        _section("What was asked", _plan(report)),
        _definitions(),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(_title(report))}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"{''.join(body)}<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _section(title: str, inside: str) -> str:
    """Nothing, if there is nothing inside."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{inside}</section>\n" if inside else ""


def _plots(plots: Sequence[Plot]) -> str:
    return f'<div class="plots">\n{"".join(map(drawn, plots))}</div>\n' if plots else ""


def _events(run: ReportedRun) -> tuple[Rule, ...]:
    """What was done to the server, and when it was as before."""
    hit = run.resilience
    if hit is None:
        return ()
    blow = Rule(name=f"{hit.replica} {STRUCK[hit.kind]}", at=hit.at_s, upright=True)
    if not hit.recovery_s:
        return (blow,)
    later = f"as before, {amount_text(hit.recovery_s, 's')} later"
    return blow, Rule(name=later, at=hit.at_s + hit.recovery_s, upright=True)


def _latency_plots(run: ReportedRun) -> list[Plot]:
    scatter = every_request(run.plan, run.record, _events(run))
    return [*distributions(run.plan, run.record), *([scatter] if scatter is not None else [])]


# --- the beginning ------------------------------------------------------------------------------------


def _title(report: Report) -> str:
    kind = "capacity" if report.capacity else "sweep" if report.loads else "benchmark"
    return f"{report.main.plan.target.model}: {kind}"


def _header(report: Report) -> str:
    main = report.main
    facts = [
        shown_url(main.plan.target.base_url),
        main.plan.target.api,
        arrivals_text(main.plan.arrivals) if len(report.runs) == 1 else f"{len(report.runs)} runs",
        utc_text(report.runs[0].record.started_wall_s),
    ]
    return (
        f"<header><h1>{escape(_title(report))}</h1>\n"
        f'<p class="soft">{" · ".join(map(escape, facts))}</p></header>\n'
    )


def _trust(report: Report) -> str:
    """The verdict on the run that the page is about, and at which other loads the client was the limit."""
    main = report.main
    verdict = main.validity.verdict
    reasons = list(main.validity.reasons)
    spoilt = [run.title for run in report.runs if run is not main and run.validity.verdict == "invalid"]
    if spoilt:
        which = ", ".join(dict.fromkeys(spoilt))
        reasons.append(f"the client was the limit in {len(spoilt)} of {len(report.runs)} runs: {which}")
    said = {
        "valid": "The client kept up: these figures are the server's.",
        "suspect": "Read these figures with care.",
        "invalid": "The client was the limit, or nothing was measured: these figures are not the server's.",
    }[verdict]
    listed = "".join(f"<li>{escape(reason)}</li>" for reason in dict.fromkeys(reasons))
    return (
        f'<div class="verdict {verdict}" role="status"><strong>{_MARKS[verdict]} {verdict.upper()}</strong> {said}'
        + (f"<ul>{listed}</ul>" if listed else "")
        + "</div>\n"
    )


def _answer(report: Report) -> str:
    claim, detail = answer(report)
    return f'<p class="answer">{escape(claim)}</p>\n' + (f"<p>{escape(detail)}</p>\n" if detail else "")


def _tiles(run: ReportedRun) -> str:
    summary = run.summary
    requests, rates = summary.requests, summary.requests_per_s
    tiles = [
        (f"{requests.ok:,} of {requests.due:,}", "requests answered whole"),
        (amount_text(summary.goodput.share, "share"), "good, of all that were due"),
        (amount_text(summary.ttft_from_due_ms.p50, "ms"), "TTFT, median from due"),
        (
            amount_text(summary.ttft_from_due_ms.p99, "ms"),
            f"TTFT, {'slowest' if 'p99' in summary.ttft_from_due_ms.few else '99th percentile'}",
        ),
        (amount_text(summary.itl_ms.p50, "ms"), "between tokens, median"),
        (amount_text(summary.e2e_from_due_ms.p50, "ms"), "to the end, median"),
        (amount_text(summary.output_tokens_per_s, "per_s"), "output tokens"),
        (amount_text(rates.ok, "per_s"), "requests answered"),
    ]
    if summary.window is not None:
        tiles.append((plain(round(summary.window.in_flight_mean, 1)), "requests under way at once"))
    shown = "".join(f"<li><b>{value}</b><span>{name}</span></li>" for value, name in tiles if value != "–")
    return f'<ul class="tiles">{shown}</ul>\n'


def _loads(report: Report) -> str:
    if points := at_loads(report):
        return _section("How much it carries", _plots(load_plots(report)) + loads_table(report, points))
    if len(report.runs) == 1:
        return ""
    lines = compared(report)
    said = f"<pre>{escape(lines)}</pre>\n" if lines else ""
    return _section("Side by side", said + _plots(side_plots(report.runs)) + runs_table(report.runs))


def _of_run(report: Report) -> str:
    return f'<p class="soft">Of one run: {escape(report.main.title)}.</p>\n' if len(report.runs) > 1 else ""


# --- the end ------------------------------------------------------------------------------------------


def _other(run: ReportedRun) -> str:
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in run.validity.reasons)
    good = amount_text(run.summary.goodput.share, "share")
    return (
        f"<details><summary>{escape(run.title)}: {good} good, {run.validity.verdict.upper()}</summary>\n"
        f"{f'<ul>{reasons}</ul>' if reasons else ''}{latencies(run.summary)}{verdicts(run.record)}"
        f"{_plots([*over_time(run.plan, run.record, _events(run)), *engines_view(run.record, _events(run))])}</details>\n"
    )


def _plan(report: Report) -> str:
    main = report.main
    facts = [*plan_lines(main.plan), *report.environment.items()]
    notes = list(dict.fromkeys(note for run in report.runs for note in run.record.notes))
    shown = main.plan.target
    safe = msgspec.structs.replace(
        main.plan, target=msgspec.structs.replace(shown, base_url=shown_url(shown.base_url))
    )
    raw = msgspec.json.format(msgspec.json.encode(safe, order="deterministic"), indent=2).decode()
    return (
        f"<dl>{_terms(facts)}</dl>\n"
        + (f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>\n" if notes else "")
        + f"<details><summary>The plan as data</summary><pre>{escape(raw)}</pre></details>\n"
    )


def _definitions() -> str:
    return f"<details><summary>What each quantity means</summary><dl>{_terms(DEFINITIONS)}</dl></details>\n"


def _terms(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
