"""The summary that a person reads in the terminal, after the run: the verdict last, where the eye is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from inferry.bench.plan import Closed
from inferry.bench.plot_scales import amount_text
from inferry.bench.records import EngineSample, Verdict
from inferry.bench.report import Report, ReportedRun, load_text
from inferry.bench.report_words import (
    answer,
    arrivals_text,
    cost_lines,
    energy_lines,
    money_text,
    slo_text,
    workload_text,
)
from inferry.bench.summary import Distribution, Summary
from inferry.core.shown_url import shown_url

_LABEL = 12
_CELL = 9
_NAMES = ("mean", "p50", "p90", "p95", "p99", "max")
_REASONS_MAX = 3
"""Of failures that are shown: the rest is in the files."""


def text(report: Report) -> str:
    """Lines for a terminal of 80 columns and more."""
    return "\n".join([*_several(report), *_of_run(report.main, report)])


# --- several runs -------------------------------------------------------------------------------------


def _several(report: Report) -> Iterator[str]:
    if len(report.runs) < 2:
        return
    titles = [run.title for run in report.runs]
    wide = max(len(title) for title in titles) + 2
    heads = ("good", "ok", "TTFT p50", "TTFT p99", "ITL p99", "E2E p99", "out tok/s")
    yield " " * wide + "".join(f"{head:>10}" for head in heads) + "  client"
    runs = report.runs if not report.loads else sorted(report.runs, key=lambda run: run.load or 0.0)
    for run in runs:
        summary = run.summary
        cells = (
            amount_text(summary.goodput.share, "share"),
            f"{summary.requests.ok}/{summary.requests.due}",
            _ms(summary.ttft_from_due_ms, "p50"),
            _ms(summary.ttft_from_due_ms, "p99"),
            _ms(summary.itl_ms, "p99"),
            _ms(summary.e2e_from_due_ms, "p99"),
            _number(summary.output_tokens_per_s),
        )
        yield f"{run.title:<{wide}}" + "".join(f"{cell:>10}" for cell in cells) + f"  {run.validity.verdict}"
    yield ""
    if report.capacity is not None or report.loads:
        yield answer(report)[0]
        yield ""


# --- one run ------------------------------------------------------------------------------------------


def _of_run(run: ReportedRun, report: Report) -> Iterator[str]:
    summary, plan = run.summary, run.plan
    yield f"{plan.target.api} at {shown_url(plan.target.base_url)}, model {plan.target.model}"
    yield f"{arrivals_text(plan.arrivals)} for {plan.duration_s:g} s; {workload_text(plan.workload)}"
    yield ""
    yield _line("requests", _requests(run))
    yield from _failures(run)
    if summary.requests.ok:
        yield ""
        yield f"{'ms':<{_LABEL + 4}}" + "".join(f"{name:>{_CELL}}" for name in _NAMES)
        yield from _table(summary)
        yield ""
    yield from _rates(run)
    yield from _lines_if_known(run)
    yield from _client(run, report)
    yield ""
    yield from _verdict(run)


def _requests(run: ReportedRun) -> str:
    requests = run.summary.requests
    parts = [f"{requests.due} due", f"{requests.sent} sent", f"{requests.ok} ok", f"{requests.failed} failed"]
    if requests.abandoned:
        why = "or cut off when the run was stopped" if run.record.stopped_early else "as planned"
        parts.append(f"{requests.abandoned} left by their client {why}")
    if requests.warmup:
        parts.append(f"and {requests.warmup} of the warm-up, in no figure")
    return ", ".join(parts)


def _failures(run: ReportedRun) -> Iterator[str]:
    """How many of each kind, with the words of the first."""
    failures = {
        kind: count
        for kind, count in run.summary.requests.by_verdict.items()
        if kind not in (Verdict.OK, Verdict.ABANDONED)
    }
    for kind, count in sorted(failures.items(), key=lambda pair: -pair[1])[:_REASONS_MAX]:
        first = next((each for each in run.record.requests if each.verdict == kind and not each.warmup), None)
        words = f": {first.reason}" if first is not None and first.reason else ""
        # What a server says could move the cursor, or worse.
        yield _line("", "".join(c if c.isprintable() else " " for c in f"{count} {kind}{words}"[:300]))


def _table(summary: Summary) -> Iterator[str]:
    both = [
        ("TTFT", summary.ttft_ms, summary.ttft_from_due_ms, summary.with_failures.ttft_from_due_ms),
        ("E2E", summary.e2e_ms, summary.e2e_from_due_ms, summary.with_failures.e2e_from_due_ms),
    ]
    rows: list[tuple[str, Distribution]] = []
    for name, sent, due, failures in both:
        rows += [(f"{name} from sent", sent), ("     from due", due)]
        if failures.infinite:
            rows.append(("     +failures", failures))
        if name == "TTFT":
            if summary.ttft_answer_ms.count and summary.tokens.reasoning:
                rows.append(("     to answer", summary.ttft_answer_ms))
            rows += [("ITL", summary.itl_ms), ("TPOT", summary.tpot_ms)]
    shown = [(name, distribution) for name, distribution in rows if distribution.count]
    for name, distribution in shown:
        yield f"{name:<{_LABEL + 4}}" + "".join(f"{_ms(distribution, each):>{_CELL}}" for each in _NAMES)
    if any("p99" in distribution.few for _, distribution in shown):
        yield "* of too few values: the largest, rather than a percentile"


def _ms(distribution: Distribution, name: str) -> str:
    value = distribution.at(name) if distribution.count else None
    if value is None:
        return "-"
    if math.isinf(value):
        return "failed"
    digits = 0 if value >= 1000 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}" + ("*" if name in distribution.few else "")


def _rates(run: ReportedRun) -> Iterator[str]:
    summary = run.summary
    rates = summary.requests_per_s
    if rates.sent is not None:
        asked = f" of {_number(rates.asked)} asked for" if rates.asked is not None else ""
        yield _line("rate", f"{_number(rates.sent)} sent/s{asked}, {_number(rates.ok)} answered/s")
    tokens = summary.tokens
    if summary.output_tokens_per_s is not None and tokens.output:
        per = (
            f"{_number(summary.output_tokens_per_s)} output/s, {_number(summary.input_tokens_per_s)} input/s"
        )
        asked = (
            f"; {tokens.output:,} came of {tokens.output_asked:,} asked for" if tokens.output_asked else ""
        )
        sources = ", ".join(sorted(tokens.sources))
        yield _line("tokens", f"{per}{asked} (known by: {sources.replace('_', ' ')})")
    good = summary.goodput
    if good.of:
        low, high = good.between
        missed = ", ".join(f"{name} {count}" for name, count in good.missed.items())
        yield _line(
            "goodput",
            f"{good.share or 0:.2%} of {good.of} ({low:.1%} to {high:.1%}) {slo_text(run.plan.slo)}"
            + (f"; missed: {missed}" if missed else ""),
        )


def _lines_if_known(run: ReportedRun) -> Iterator[str]:
    summary = run.summary
    if summary.window is not None:
        window = summary.window
        yield _line("in flight", f"{window.in_flight_mean:.1f} on average, {window.in_flight_max} at most")
    cache = summary.cache
    if cache is not None and cache.input_tokens:
        yield _line(
            "cache",
            f"{cache.seen_share or 0:.1%} of prompt tokens were cached, {cache.expected_share or 0:.1%} could be",
        )
    if run.record.samples:
        yield _line("engine", _engine(run.record.samples))
    if summary.cost is not None:
        cost = summary.cost
        each = ", ".join(f"{name} {amount}" for name, amount in cost_lines(cost, run.plan.slo))
        yield _line("cost", f"a million {each}; at {money_text(cost.per_hour, cost.currency)} an hour")
    if summary.energy is not None:
        words = (f"{name[0].lower()}{name[1:]} {amount}" for name, amount in energy_lines(summary.energy))
        yield _line("energy", ", ".join(words))
    for note in run.record.notes:
        yield _line("note", note)


def _engine(samples: Sequence[EngineSample]) -> str:
    parts = []
    for name, values in (
        ("running", [each.running for each in samples if each.running is not None]),
        ("waiting", [each.waiting for each in samples if each.waiting is not None]),
    ):
        if values:
            parts.append(f"up to {max(values)} {name}")
    uses = [each.kv_cache_use for each in samples if each.kv_cache_use is not None]
    if uses:
        parts.append(f"KV cache up to {max(uses):.0%}")
    preempted = sum(
        _risen([each.preemptions for each in samples if each.replica == name]) for name in _names(samples)
    )
    if any(each.preemptions is not None for each in samples):
        parts.append(f"{preempted} preemptions")
    engines = len(_names(samples))
    return ", ".join(parts) + (f" (each of {engines})" if engines > 1 else "")


def _names(samples: Sequence[EngineSample]) -> list[str]:
    return sorted({each.replica for each in samples})


def _risen(counter: Sequence[int | None]) -> int:
    known = [value for value in counter if value is not None]
    return max(0, known[-1] - known[0]) if known else 0


def _client(run: ReportedRun, report: Report) -> Iterator[str]:
    audits = run.record.audits
    if not audits:
        return
    busy = max(each.cpu_s / each.wall_s for each in audits if each.wall_s > 0)
    lag = max(each.lag_ms_p99 for each in audits)
    words = f"{len(audits)} process{'es' if len(audits) > 1 else ''}, {busy:.0%} of a core, {lag:.2g} ms behind (p99)"
    if not isinstance(run.plan.arrivals, Closed):
        words += f", sent {max(each.slip_ms_p99 for each in audits):.2g} ms late (p99)"
    yield _line("client", words)
    if report.calibration is not None:
        own = report.calibration
        yield _line(
            "",
            f"alone it takes {own.overhead_ms_p50:.2g} ms and can do {_number(own.requests_per_s_max)} requests/s",
        )


def _verdict(run: ReportedRun) -> Iterator[str]:
    words = {
        "valid": "VALID: the client kept up",
        "suspect": "SUSPECT: look at the reasons before you use a figure",
        "invalid": "INVALID: these figures are not the server's",
    }
    name = f" ({load_text(run.load, run.load_unit)})" if run.load is not None else ""
    yield words[run.validity.verdict] + name
    yield from (f"  - {reason}" for reason in run.validity.reasons)


def _line(label: str, words: str) -> str:
    return f"{label:<{_LABEL}}{words}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
