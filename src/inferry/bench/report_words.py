"""The report's sentences: the answer in one of them, the plan, and what each quantity means."""

from __future__ import annotations

from inferry.bench.cost import Cost
from inferry.bench.energy import Energy
from inferry.bench.plan import (
    Arrivals,
    Closed,
    Constant,
    FromFile,
    FromTrace,
    Gamma,
    Lengths,
    Poisson,
    Ramp,
    RunPlan,
    Sessions,
    Slo,
    Steps,
    Synthetic,
    TraceTimes,
    Workload,
)
from inferry.bench.plot_scales import amount_text, plain
from inferry.bench.report import GOAL_SHARE, Capacity, Report, ReportedRun, load_text
from inferry.bench.report_load_plots import at_loads
from inferry.bench.report_series import P99_COUNT_MIN, measured, p99
from inferry.bench.request_figures import figures
from inferry.bench.statistics import Sample
from inferry.bench.summary import Distribution
from inferry.core.shown_url import shown_url


def answer(report: Report) -> tuple[str, str]:
    """How much it carries; and at which latency."""
    detail = f"At {_load_words(report.main)}: {_latency_words(report.main)}"
    if report.capacity is not None:
        return _capacity_answer(report, report.capacity), detail
    if report.loads:
        return _sweep_answer(report), detail
    if len(report.runs) > 1:
        names = list(dict.fromkeys(run.title for run in report.runs))
        each = (f"{name}: {_pooled_words(report, name)}" for name in names)
        return " ".join(
            each
        ), f"{len(report.runs)} runs in turns, each of them at {_load_words(report.main)}."
    return detail, ""


def _capacity_answer(report: Report, capacity: Capacity) -> str:
    found, unit = capacity.found, report.main.load_unit
    wanted = f"{amount_text(capacity.goal.share, 'share')} of requests {slo_text(report.main.plan.slo)}"
    if not found.rate:
        return f"No load was found at which {wanted}: {found.why}."
    if found.high is None:
        carried = f"Carries at least {load_text(found.low, unit)}"
    else:
        about = "" if found.sure else "about "
        carried = f"Carries {about}{load_text(found.rate, unit)} (between {plain(found.low)} and {plain(found.high)})"
    doubt = "" if found.sure else f" This is not sure: {found.why}."
    return f"{carried} with {wanted}.{doubt}"


def _sweep_answer(report: Report) -> str:
    unit, slo = report.main.load_unit, report.main.plan.slo
    wanted = f"{amount_text(GOAL_SHARE, 'share')} of requests {slo_text(slo)}"
    held = [
        each for each in at_loads(report) if each.good.share is not None and each.good.share >= GOAL_SHARE
    ]
    if not held:
        return f"At none of the loads that were tried, {wanted}."
    best = max(held, key=lambda each: each.load)
    return f"Of the loads that were tried, {load_text(best.load, unit)} is the highest with {wanted}."


def _load_words(run: ReportedRun) -> str:
    rates = run.summary.requests_per_s
    words = arrivals_text(run.plan.arrivals) if run.load is None else load_text(run.load, run.load_unit)
    if rates.asked is not None and rates.sent is not None:
        words += f" ({amount_text(rates.sent, 'per_s')} sent)"
    return words


def _pooled_words(report: Report, name: str) -> str:
    """Of all runs of one name."""
    requests = [each for run in report.runs if run.title == name for each in measured(run.record)]
    ttft = [found for each in requests if (found := figures(each).ttft_from_due_ms) is not None]
    e2e = [found for each in requests if (found := figures(each).e2e_from_due_ms) is not None]
    what, values = ("the first token comes", ttft) if ttft else ("the end comes", e2e)
    failed = sum(each.failed for each in requests)
    sample = Sample(values)
    middle, late = amount_text(sample.percentile(0.5), "ms"), amount_text(p99(sample), "ms")
    which = "99th percentile" if len(sample) >= P99_COUNT_MIN else "slowest"
    trouble = f", {failed:,} of {len(requests):,} failed" if failed else ""
    return f"{what} after {middle} ({which} {late}){trouble}."


def _latency_words(run: ReportedRun) -> str:
    summary = run.summary
    parts = []
    if summary.goodput.share is not None:
        part = f"{amount_text(summary.goodput.share, 'share')} of {summary.goodput.of:,} requests are good"
        parts.append(part)
    if summary.ttft_from_due_ms.count:
        ttft = summary.ttft_from_due_ms
        parts.append(f"the first token comes after {amount_text(ttft.p50, 'ms')} ({_late_words(ttft)})")
    elif summary.e2e_from_due_ms.count:
        e2e = summary.e2e_from_due_ms
        parts.append(f"answers take {amount_text(e2e.p50, 'ms')} ({_late_words(e2e)})")
    if summary.window is not None:
        parts.append(f"about {plain(round(summary.window.in_flight_mean, 1))} requests are under way at once")
    return f"{', '.join(parts)}." if parts else "no request was due."


def _late_words(one: Distribution) -> str:
    return f"{'slowest' if 'p99' in one.few else '99th percentile'} {amount_text(one.p99, 'ms')}"


def slo_text(slo: Slo) -> str:
    """What the limits ask of a request, after 'requests'."""
    limits = [
        f"{name} {amount_text(limit, 'ms')}"
        for name, limit in (
            ("first token within", slo.ttft_ms),
            ("tokens on average within", slo.itl_ms),
            ("end within", slo.e2e_ms),
        )
        if limit is not None
    ]
    return f"answered whole{''.join(f', {limit}' for limit in limits)}"


# --- the plan -----------------------------------------------------------------------------------------


def plan_lines(plan: RunPlan) -> list[tuple[str, str]]:
    """Names and values, for people. The address is without password and query."""
    target = plan.target
    lines = [
        ("Target", f"{shown_url(target.base_url)}, {target.api}{'' if target.stream else ', not streamed'}"),
        ("Model", target.model),
        ("Arrivals", arrivals_text(plan.arrivals)),
        ("Requests", workload_text(plan.workload)),
        ("Duration", f"{amount_text(plan.duration_s, 's')}, warm-up {amount_text(plan.warmup_s, 's')} of it"),
        ("Limits", slo_text(plan.slo)),
        ("Time-out", amount_text(plan.timeout_s, "s")),
        ("Seed", str(plan.seed)),
        ("Processes", str(plan.processes)),
    ]
    if plan.requests_max is not None:
        lines.append(("At most", f"{plan.requests_max:,} requests"))
    if plan.abandon_share:
        share, after = amount_text(plan.abandon_share, "share"), amount_text(plan.abandon_after_s, "s")
        lines.append(("Clients that leave", f"{share}, after {after} on average"))
    return lines


def arrivals_text(arrivals: Arrivals) -> str:
    match arrivals:
        case Constant(rate):
            return f"{plain(rate)} requests per second, evenly spaced"
        case Poisson(rate):
            return f"{plain(rate)} requests per second, independent of each other (Poisson)"
        case Gamma(rate, burstiness):
            return f"{plain(rate)} requests per second, gamma with burstiness {plain(burstiness)}"
        case Closed(concurrency):
            return (
                f"closed loop of {load_text(concurrency, 'number')}: each asks again when answered, so a slow server"
                " is asked less"
            )
        case Ramp(low, high):
            return f"from {plain(low)} to {plain(high)} requests per second (Poisson)"
        case Steps(steps):
            listed = ", ".join(f"{plain(rate)}/s for {amount_text(length, 's')}" for rate, length in steps)
            return f"in steps: {listed} (Poisson)"
        case TraceTimes(speed):
            return f"as the trace has them, {plain(speed)} times as fast"


def workload_text(workload: Workload) -> str:
    match workload:
        case Synthetic():
            shared = ""
            if workload.prefix_tokens:
                groups = f"{workload.prefix_groups:,} group{'' if workload.prefix_groups == 1 else 's'}"
                shared = f", the first {workload.prefix_tokens:,} shared ({groups})"
            return (
                f"made up: {lengths_text(workload.input_tokens)} tokens in{shared}, "
                f"{lengths_text(workload.output_tokens)} out{'' if workload.unique else ', the same in every run'}"
            )
        case FromFile():
            return f"prompts of {workload.path}"
        case FromTrace():
            return f"trace {workload.path}, text made up"
        case Sessions():
            return (
                f"conversations of {lengths_text(workload.turns)} turns, {lengths_text(workload.first_tokens)} tokens"
                f" first, {lengths_text(workload.turn_tokens)} in each later turn, "
                f"{lengths_text(workload.output_tokens)} out, {amount_text(workload.think_s, 's')} between turns"
            )


def lengths_text(lengths: Lengths) -> str:
    if lengths.spread == "fixed":
        return plain(lengths.mean)
    return f"{plain(lengths.mean)} ± {plain(lengths.deviation)} ({lengths.spread})"


# --- cost and energy ----------------------------------------------------------------------------------


def money_text(amount: float | None, currency: str) -> str:
    """`0.694 EUR`, or the number alone."""
    shown = amount_text(amount, "number")
    return shown if amount is None or not currency else f"{shown} {currency}"


def cost_lines(cost: Cost, slo: Slo) -> list[tuple[str, str]]:
    """What is paid for by the million, and its price."""
    found = [
        ("output tokens", cost.per_million_output_tokens),
        ("input and output tokens together", cost.per_million_tokens),
    ]
    if slo != Slo():
        found.append(("output tokens of good answers", cost.per_million_good_output_tokens))
    return [(name, money_text(amount, cost.currency)) for name, amount in found]


def energy_lines(energy: Energy) -> list[tuple[str, str]]:
    """Power and energy; or why they are not known."""
    if energy.why_not:
        return [("Power", f"not known: {energy.why_not}")]
    gpus = "1 GPU" if energy.gpus == 1 else f"{energy.gpus} GPUs"
    found = [(f"Power of {gpus}, on average", amount_text(energy.power_w, "W"))]
    if energy.j_per_output_token is not None:
        found.append(("Energy per output token", f"{plain(energy.j_per_output_token)} J"))
    return found


# --- definitions --------------------------------------------------------------------------------------

DEFINITIONS: tuple[tuple[str, str], ...] = (
    (
        "From due, from sent",
        "A request is due when the plan says so, however busy server and client are. It is sent when it is written to"
        " an open connection. Users wait from due; what lies between the two is the client's and the connection's part."
        " In a closed loop, a request is due when its user is free.",
    ),
    (
        "TTFT, time to first token",
        "Until the first piece of the answer with text, reasoning or a tool call. A piece with only a role, or an empty"
        " one, does not count.",
    ),
    (
        "Time between tokens (ITL)",
        "The gaps between tokens of all whole answers. A chunk that brings k tokens after a gap g counts as k gaps of"
        " g/k. Within the first chunk there are no gaps: nobody saw when its tokens were made.",
    ),
    ("Between chunks", "The gaps as they come over the wire, however many tokens a chunk has."),
    (
        "Per request (TPOT)",
        "For each request, the time from its first to its last token, by the number of its tokens but one.",
    ),
    ("Time to the answer's end", "Until the last byte, the answer's closing words included."),
    (
        "Failures infinitely late",
        "A request that failed was never answered. In these rows it counts as a latency of infinity: ∞ at p99 means"
        " that more than 1 % failed.",
    ),
    (
        "Good, goodput",
        "A request is good if it was answered whole and kept every limit, counted from due. Goodput is the share of"
        " all requests that were due, also of those that failed or could not be sent.",
    ),
    (
        "Requests under way, in flight",
        "Sent, and not ended yet. By Little's law, on average the rate times the time to the answer's end.",
    ),
    (
        "VALID, SUSPECT, INVALID",
        "Whether the figures are the server's. INVALID: the client was the limit, and nothing here should be used."
        " SUSPECT: something may have touched the figures; the reasons say what.",
    ),
    (
        "Sent late, loop late",
        "By how much requests were sent after they were due, without connecting; and by how much a timer of the"
        " client's own event loop was late.",
    ),
    (
        "Percentiles",
        "Linear between the two nearest values. The 99th of fewer than 100 values is just the largest; it is marked.",
    ),
)
