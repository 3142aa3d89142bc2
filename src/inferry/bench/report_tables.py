"""The report's tables. Whatever comes from a plan or a server is escaped here, cell by cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from msgspec import Struct

from inferry.bench.plot_scales import Unit, amount_text, plain
from inferry.bench.records import Calibration, ClientAudit, RunRecord, Verdict
from inferry.bench.report import LoadUnit, Report, ReportedRun, load_text
from inferry.bench.report_load_plots import AtLoad
from inferry.bench.report_words import cost_lines, energy_lines, money_text
from inferry.bench.resilience import Resilience
from inferry.bench.summary import Distribution, Summary

COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")
REASONS_MAX = 3
"""Examples for each verdict."""
REASON_CHARACTERS_MAX = 240
FEW = "†"
FEW_NOTE = f'<p class="note">{FEW} so few values that this is the largest, and no more.</p>'

VERDICTS: dict[Verdict, str] = {
    Verdict.OK: "answered whole, and ended as it should",
    Verdict.ABANDONED: "left by the client, as planned: no failure, and in no latency",
    Verdict.CONNECT: "no connection, or it was lost before the answer began",
    Verdict.HTTP_ERROR: "a status other than 200",
    Verdict.STREAM_ERROR: "an error inside the stream, whatever came after it",
    Verdict.TRUNCATED: "the connection ended before the answer did",
    Verdict.NO_FINISH: "the stream ended properly, and nobody said why the answer ends",
    Verdict.EMPTY: "ended well, and said nothing",
    Verdict.WRONG_LENGTH: "not as many tokens as asked for",
    Verdict.MALFORMED: "not HTTP, not JSON, or not the API's form",
    Verdict.TIMEOUT: "took longer than the client waits",
    Verdict.UNSENT: "was due, and the client did not get to it",
}


STRUCK = {"kill": "killed", "stop": "stopped"}


class Row(Struct, frozen=True):
    cells: tuple[str, ...]
    second: bool = False
    """Belongs to the row before."""


def table(caption: str, heads: Sequence[str], rows: Sequence[Row], text_columns: Sequence[int] = ()) -> str:
    """HTML; nothing if there are no rows. `text_columns` wrap, and begin at the left."""

    def cell(kind: str, number: int, value: str) -> str:
        word = ' class="text"' if number in text_columns else ""
        return f"<{kind}{word}>{escape(value)}</{kind}>"

    def row(each: Row) -> str:
        first, *rest = each.cells
        cells = "".join(cell("td", number, value) for number, value in enumerate(rest, 1))
        word = ' class="second"' if each.second else ""
        return f'<tr{word}><th scope="row">{escape(first)}</th>{cells}</tr>'

    if not rows:
        return ""
    return (
        f'<div class="wide" tabindex="0"><table><caption>{escape(caption)}</caption><thead><tr>'
        + "".join(cell("th", number, head) for number, head in enumerate(heads))
        + f"</tr></thead><tbody>{''.join(map(row, rows))}</tbody></table></div>\n"
    )


# --- latencies ----------------------------------------------------------------------------------------


def latencies(summary: Summary) -> str:
    """From due, from sent, and with failures as infinitely late, one below the other."""
    failures = summary.with_failures
    listed = [
        ("Time to first token, from due", summary.ttft_from_due_ms, False),
        ("from sent", summary.ttft_ms, True),
        ("from due, failures infinitely late", failures.ttft_from_due_ms, True),
        ("Time to the answer's end, from due", summary.e2e_from_due_ms, False),
        ("from sent", summary.e2e_ms, True),
        ("from due, failures infinitely late", failures.e2e_from_due_ms, True),
        ("Time between tokens", summary.itl_ms, False),
        ("between chunks", summary.icl_ms, True),
        ("per request (TPOT)", summary.tpot_ms, True),
        ("longest silence of each stream", summary.stall_ms, True),
        ("Sent later than due", summary.slip_ms, False),
        ("New connection", summary.connect_ms, False),
    ]
    if summary.tokens.reasoning:
        listed.insert(3, ("to the first token after reasoning, from sent", summary.ttft_answer_ms, True))
    shown = [
        (name, one, second)
        for name, one, second in listed
        if one.count and (summary.requests.failed or "failures" not in name)
    ]
    rows = [Row((name, f"{one.count:,}", *_figures(one)), second) for name, one, second in shown]
    note = FEW_NOTE if any(one.few for _, one, _ in shown) else ""
    return table("Latencies of requests after the warm-up", ("", "values", *COLUMNS), rows) + note


def _figures(one: Distribution) -> list[str]:
    return [amount_text(one.at(name), "ms") + (FEW if name in one.few else "") for name in COLUMNS]


# --- good and bad -------------------------------------------------------------------------------------


def goodput_table(run: ReportedRun) -> str:
    good, slo = run.summary.goodput, run.plan.slo
    limits: list[tuple[str, str, float | None]] = [
        ("ttft", "Time to first token, from due", slo.ttft_ms),
        ("itl", "Mean time between a request's tokens", slo.itl_ms),
        ("e2e", "Time to the answer's end, from due", slo.e2e_ms),
    ]
    rows = [
        Row((name, amount_text(limit, "ms"), *_of(good.missed.get(key, 0), good.of)))
        for key, name, limit in limits
        if limit is not None
    ]
    rows.insert(0, Row(("Answered whole", "yes", *_of(good.missed.get("failed", 0), good.of))))
    return table("What a good request keeps", ("", "limit", "missed by", "share"), rows)


def _of(count: int, of: int) -> tuple[str, str]:
    return f"{count:,}", amount_text(count / of if of else None, "share")


def verdicts(record: RunRecord) -> str:
    """How many requests ended how, with what was said about it."""
    requests = [each for each in record.requests if not each.warmup]
    rows: list[Row] = []
    for verdict, meaning in VERDICTS.items():
        some = [each for each in requests if each.verdict is verdict]
        if not some:
            continue
        reasons = Counter(each.reason[:REASON_CHARACTERS_MAX] for each in some if each.reason)
        most = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        examples = " · ".join(f"{reason} ({count:,})" for reason, count in most[:REASONS_MAX])
        if len(most) > REASONS_MAX:
            examples += f" · and {len(most) - REASONS_MAX:,} others"
        rows.append(Row((verdict.value, *_of(len(some), len(requests)), meaning, examples)))
    return table(
        "How requests ended, after the warm-up",
        ("verdict", "requests", "share", "means", "examples"),
        rows,
        text_columns=(3, 4),
    )


# --- loads, cache, client -----------------------------------------------------------------------------


def loads_table(report: Report, points: Sequence[AtLoad]) -> str:
    limited = any(getattr(report.main.plan.slo, name) is not None for name in ("ttft_ms", "itl_ms", "e2e_ms"))
    rows = [
        Row(
            (
                _load_range(each, report.main.load_unit),
                each.trust.upper(),
                f"{each.runs}",
                f"{each.good.of:,}",
                amount_text(each.good.share, "share"),
                "{} to {}".format(*(amount_text(end, "share") for end in each.good.between)),
                amount_text(each.ttft_ms_p50, "ms"),
                amount_text(each.ttft_ms_p99, "ms") + FEW * each.few,
                amount_text(each.e2e_ms_p50, "ms"),
                amount_text(each.e2e_ms_p99, "ms") + FEW * each.few,
                amount_text(each.ok_per_s, "per_s"),
                amount_text(each.tokens_per_s, "per_s"),
            )
        )
        for each in points
    ]
    note = FEW_NOTE if any(each.few for each in points) else ""
    shown = table(
        f"All loads; latencies from due, failures infinitely late. Good: answered whole{', within the limits' if limited else ''}.",
        (
            "load", "verdict", "runs", "requests", "good", "surely between",
            "TTFT p50", "p99", "end p50", "p99", "answered", "tokens",
        ),
        rows,
    )  # fmt: skip
    return shown + note


def _load_range(at: AtLoad, unit: LoadUnit) -> str:
    """`8 requests/s`, or `7.72 to 7.9 requests/s`."""
    low, high = plain(at.least), load_text(at.most, unit)
    return high if low == plain(at.most) else f"{low} to {high}"


def cache_table(summary: Summary) -> str:
    """Nothing if the server does not say what it had in its cache."""
    if summary.cache is None:
        return ""
    cache = summary.cache
    rows = [
        Row(("Expected from the workload", f"{cache.expected_tokens:,}", amount_text(cache.expected_share, "share"))),
        Row(("Seen, as the server says", f"{cache.seen_tokens:,}", amount_text(cache.seen_share, "share"))),
    ]  # fmt: skip
    caption = f"Prompt tokens that a cache had, of {cache.input_tokens:,} in {cache.requests:,} requests"
    return table(caption, ("", "tokens", "share"), rows)


def runs_table(runs: Sequence[ReportedRun]) -> str:
    """Runs that differ by something else than their load, side by side."""
    lines: list[tuple[str, Unit, list[float | None]]] = [
        ("Requests", "number", [each.summary.requests.due for each in runs]),
        ("Failed", "number", [each.summary.requests.failed for each in runs]),
        ("Good", "share", [each.summary.goodput.share for each in runs]),
        ("TTFT from due, p50", "ms", [each.summary.ttft_from_due_ms.p50 for each in runs]),
        ("TTFT from due, p99", "ms", [each.summary.ttft_from_due_ms.p99 for each in runs]),
        ("Time between tokens, p50", "ms", [each.summary.itl_ms.p50 for each in runs]),
        ("Time between tokens, p99", "ms", [each.summary.itl_ms.p99 for each in runs]),
        ("To the answer's end from due, p50", "ms", [each.summary.e2e_from_due_ms.p50 for each in runs]),
        ("To the answer's end from due, p99", "ms", [each.summary.e2e_from_due_ms.p99 for each in runs]),
        ("Output tokens", "per_s", [each.summary.output_tokens_per_s for each in runs]),
    ]
    rows = [Row((name, *(amount_text(value, unit) for value in values))) for name, unit, values in lines]
    return table("The runs side by side", ("", *(each.title for each in runs)), rows)


def client_table(audits: Sequence[ClientAudit]) -> str:
    rows = [
        Row(
            (
                f"{each.process}",
                amount_text(each.cpu_s / each.wall_s if each.wall_s else None, "share"),
                *(amount_text(value, "ms") for value in (each.lag_ms_p50, each.lag_ms_p99, each.lag_ms_max)),
                *(
                    amount_text(value, "ms")
                    for value in (each.slip_ms_p50, each.slip_ms_p99, each.slip_ms_max)
                ),
                f"{each.connections:,}",
                f"{each.unsent:,}",
            )
        )
        for each in audits
    ]
    heads = (
        "process",
        "CPU",
        "loop late p50",
        "p99",
        "max",
        "sent late p50",
        "p99",
        "max",
        "connections",
        "not sent",
    )
    return table("The client's own processes, during the run", heads, rows)


def cost_table(run: ReportedRun) -> str:
    """Nothing where no price is known."""
    cost = run.summary.cost
    if cost is None:
        return ""
    rows = [Row((f"A million {name}", amount)) for name, amount in cost_lines(cost, run.plan.slo)]
    price = money_text(cost.per_hour, cost.currency)
    return table(f"Cost at this run's rates, where all that serves costs {price} an hour", ("", "cost"), rows)


def energy_table(summary: Summary) -> str:
    """Nothing where nobody named a GPU."""
    if summary.energy is None:
        return ""
    rows = [Row(line) for line in energy_lines(summary.energy)]
    return table("Power of the GPUs in the steady window, each counted once", ("", "figure"), rows)


def resilience_table(found: Resilience | None) -> str:
    """What users saw of a replica that was killed or stopped during the run."""
    if found is None:
        return ""
    none = "not within the run, or nobody can say"
    times = [
        ("Longest pause of a stream that came to its end", found.resume_gap_s),
        ("Until requests were as before", found.recovery_s),
        ("Until the replica was back", found.replica_back_s),
    ]
    rows = [
        Row(("Requests under way then", f"{found.under_way:,}, of which {found.under_way_failed:,} failed")),
        Row(("Requests due from then on", f"{found.after:,}, of which {found.after_failed:,} failed")),
        Row(("Failed of all these", amount_text(found.error_share, "share"))),
        *(Row((name, none if time_s is None else amount_text(time_s, "s"))) for name, time_s in times),
    ]
    return table(
        f"{found.replica}, {STRUCK[found.kind]} at {amount_text(found.at_s, 's')}", ("", ""), rows, (1,)
    )


def calibration_table(found: Calibration | None) -> str:
    """What the client adds by itself."""
    if found is None:
        return ""
    rows = [
        Row(("To the first bytes, median", amount_text(found.overhead_ms_p50, "ms"))),
        Row(("To the first bytes, 99th percentile", amount_text(found.overhead_ms_p99, "ms"))),
        Row(("measured at", amount_text(found.requests_per_s, "per_s")), second=True),
        Row(("Most requests, client and server on this machine", amount_text(found.requests_per_s_max, "per_s"))),
        Row(("Most tokens, client and server on this machine", amount_text(found.tokens_per_s_max, "per_s"))),
    ]  # fmt: skip
    caption = f"The client against a server that answers at once, {found.output_tokens} tokens per answer, {found.processes} process(es)"
    return table(caption, ("", "figure"), rows)
