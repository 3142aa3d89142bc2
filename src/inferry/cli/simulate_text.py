"""What the terminal shows of a simulation."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from inferry.cli.simulate_bars import timeline_text
from inferry.cli.simulate_run import Simulated
from inferry.cli.simulate_words import (
    amount,
    clock,
    counts,
    decision_text,
    limits,
    rejected_by_code,
    rejected_count,
    replicas_text,
    share,
)
from inferry.simulate.result import Percentiles

LABEL = 11
DECISIONS_MAX = 15
"""Of the first ones; --json and --html have all."""


def simulated_text(found: Simulated, load: str, seed: int, columns: int) -> str:
    """The whole answer about one variant."""
    parts = [
        "\n".join(_head(found, load, seed, columns)),
        "\n".join(_figures(found, columns)),
        latencies_text(found),
        timeline_text(found.result, found.interval_s, columns),
        "\n".join(_decisions(found, columns)),
    ]
    return "\n\n".join(part for part in parts if part)


def head_line(found: Simulated) -> str:
    result = found.result
    return (
        f"SIMULATED: no engine ran. {found.deployment} ({found.engine}, {found.model}): {result.requests:,} requests in "
        f"{clock(result.duration_s)}"
    )


def timing_lines(found: Simulated) -> list[str]:
    """What the figures rest on."""
    start = f"a replica serves {amount(found.timing.timing.start_s)} s after its start"
    return [f"{found.timing.says}; {start}", *found.timing.doubts]


def _head(found: Simulated, load: str, seed: int, columns: int) -> Iterator[str]:
    yield from textwrap.wrap(head_line(found), columns, break_on_hyphens=False)
    yield from row("load", f"{load}; seed {seed}", columns)
    for number, line in enumerate(timing_lines(found)):
        yield from row("timing" if not number else "", line if not number else f"- {line}", columns)


def row(label: str, text: str, columns: int) -> list[str]:
    """Under a label, as many lines as it takes."""
    first, later = f"{label:<{LABEL}}", " " * (LABEL + (2 if text.startswith("- ") else 0))
    return textwrap.wrap(
        text, max(columns, 40), initial_indent=first, subsequent_indent=later, break_on_hyphens=False
    ) or [first]


def _figures(found: Simulated, columns: int) -> Iterator[str]:
    result = found.result
    rejected = rejected_by_code(found)
    told = [f"{result.requests:,} came, {result.completed:,} answered"]
    if result.failed:
        told.append(f"{sum(result.failed.values()):,} failed ({counts(result.failed)})")
    if rejected:
        told.append(f"{rejected_count(found):,} rejected ({counts(rejected)})")
    if result.under_way:
        told.append(f"{result.under_way:,} under way at the end")
    yield from row("requests", ", ".join(told), columns)
    tenants = {name: sum(codes.values()) for name, codes in result.rejected.items() if name}
    if tenants:
        yield from row("", f"rejected by tenant: {counts(tenants)}", columns)
    goodput = amount(result.goodput_per_s)
    yield from row(
        "SLO",
        f"{share(result.attainment)} of them kept it: {limits(found.slo)} ({found.slo_from}); goodput {goodput} requests/s",
        columns,
    )
    seconds = max(result.duration_s, 1e-9)
    hits = "" if result.hit_ratio is None else f"; {share(result.hit_ratio)} of prompt tokens were cached"
    yield from row(
        "tokens",
        f"{amount(result.prompt_tokens / seconds)}/s in, {amount(result.answer_tokens / seconds)}/s out{hits}; "
        f"{result.preemptions:,} preemptions",
        columns,
    )
    yield from row("replicas", replicas_text(found), columns)
    troubles = {
        "crash": result.crashes,
        "retry": result.retries,
        "answer resumed elsewhere": result.resumes,
        "time a replica was set aside": result.set_aside,
        "failure that hit no serving replica or came too late": result.failures_missed,
    }
    if any(troubles.values()):
        yield from row(
            "failures", ", ".join(f"{n:,} {_several(name, n)}" for name, n in troubles.items() if n), columns
        )


_SEVERAL = {"crash": "crashes", "retry": "retries"}


def _several(name: str, count: int) -> str:
    first, space, rest = name.partition(" ")
    return name if count == 1 else f"{_SEVERAL.get(first, first + 's')}{space}{rest}"


def latencies_text(found: Simulated) -> str:
    """A table in ms."""
    lines = [f"{'ms':<{LABEL}}" + "".join(f"{name:>10}" for name in ("mean", "p50", "p90", "p95", "p99"))]
    of: list[tuple[str, Percentiles]] = [
        ("TTFT", found.result.ttft),
        ("ITL", found.result.itl),
        ("E2E", found.result.e2e),
        ("queue", found.result.queue),
    ]
    for name, each in of:
        values = (each.mean_ms, each.p50_ms, each.p90_ms, each.p95_ms, each.p99_ms)
        lines.append(f"{name:<{LABEL}}" + "".join(f"{amount(value):>10}" for value in values))
    return "\n".join(lines)


def _decisions(found: Simulated, columns: int) -> Iterator[str]:
    decisions = found.result.decisions
    changes = sum(each.to != each.was for each in decisions)
    if not decisions:
        return
    per_hour = found.result.direction_changes_per_hour
    yield from row(
        "scaling",
        f"{changes} change{'s' * (changes != 1)}, {amount(per_hour)} changes of direction per hour",
        columns,
    )
    for each in decisions[:DECISIONS_MAX]:
        what = f"{each.was} -> {each.to}" if each.to != each.was else "alert"
        yield from textwrap.wrap(
            f"{clock(each.at_s):>9}  {what:<8} {decision_text(each)}",
            columns,
            subsequent_indent=" " * (LABEL + 9),
        )
    if len(decisions) > DECISIONS_MAX:
        yield f"{'':>{LABEL}}and {len(decisions) - DECISIONS_MAX} more: see --html or --json"
