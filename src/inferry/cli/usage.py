"""`inferry usage`: who used how much, and what it cost."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from inferry.cli.store_choice import AsJson, File, load_journals_if_possible, opened_store
from inferry.core.clock import SystemClock, utc_text, wall_s_of
from inferry.core.errors import BadKeySetting, ConfigError
from inferry.core.suggest import did_you_mean

if TYPE_CHECKING:
    from inferry.ledger.usage import Dimension, UsageAnswer, UsageSums

_NANO_DIGITS = 9
_FIELDS = (
    "requests", "completed", "rejected", "failed", "cancelled", "prompt_tokens", "cached_tokens",
    "completion_tokens", "reasoning_tokens", "counted_tokens",
)  # fmt: skip
_BY_DEFAULT = "tenant,deployment"
_SHOWN = {
    "requests": "REQUESTS", "failed": "FAILED", "prompt_tokens": "PROMPT", "cached_tokens": "CACHED",
    "completion_tokens": "COMPLETION", "counted_tokens": "COUNTED",
}  # fmt: skip


def usage(
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIST",
            help="Any of day, tenant, key, deployment, model, with commas between. [default: tenant,deployment]",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN", help="12h, 7d, 4w ago, or a UTC date or time. Left out: from the first."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="WHEN", help="In the same way. Left out: to now.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this one.")] = None,
    key: Annotated[str | None, typer.Option(metavar="ID", help="Only of this key: key_...")] = None,
    deployment: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this one.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Only what clients asked for so.")] = None,
    file: File = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="For spreadsheets.")] = False,
) -> None:
    """Show requests, tokens and cost. What gateways on this machine wrote is loaded first."""
    from inferry.ledger.usage import UsageQuestion
    from inferry.ledger.usage import usage as ask

    if as_json and as_csv:
        raise ConfigError("--json and --csv contradict each other; give one of them.")
    now_wall_s = SystemClock().wall_s()
    question = UsageQuestion(
        by=_dimensions(",".join(by or [_BY_DEFAULT])),
        since_wall_s=_moment(since, now_wall_s, "since"),
        until_wall_s=_moment(until, now_wall_s, "until"),
        tenant=tenant,
        key=key,
        deployment=deployment,
        model=model,
    )
    with opened_store(file) as (database, settings):
        load_journals_if_possible(database)
        answer = ask(database, question)
    if as_json:
        typer.echo(json.dumps(_as_json(question.by, answer, settings.currency), indent=2))
    elif as_csv:
        _print_csv(question.by, answer, settings.currency)
    else:
        typer.echo(_table(question.by, answer, settings.currency))
        _note_wider_range(question.since_wall_s, question.until_wall_s, answer)


def money_text(nano: int, digits: int = _NANO_DIGITS) -> str:
    """Billionths as a decimal number, rounded to `digits` behind the point, halves away from zero."""
    step = 10 ** (_NANO_DIGITS - digits)
    units = (abs(nano) + step // 2) // step
    whole, part = divmod(units, 10**digits)
    return f"{'-' if nano < 0 and units else ''}{whole:,}.{part:0{digits}}"


def _dimensions(text: str) -> tuple[Dimension, ...]:
    from inferry.ledger.usage import Dimension

    known = get_args(Dimension)
    chosen = [part.strip() for part in text.split(",") if part.strip()]
    for name in chosen:
        if name not in known:
            raise ConfigError(f"--by: '{name}' can't be grouped by.{did_you_mean(name, known)}")
    return tuple(cast("list[Dimension]", list(dict.fromkeys(chosen))))


def _moment(text: str | None, now_wall_s: float, option: str) -> float | None:
    from inferry.ledger.expiry import duration_s

    if text is None:
        return None
    try:
        return now_wall_s - duration_s(text, option)
    except BadKeySetting:
        pass
    try:
        return wall_s_of(text)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--{option}: '{text}' is no time: write a span (12h, 7d, 4w), a UTC date (2026-01-31) or time "
            "(2026-01-31T12:00:00Z)"
        ) from None


def _numbers(sums: UsageSums) -> dict[str, int]:
    return {name: getattr(sums, name) for name in _FIELDS}


def _as_json(by: tuple[Dimension, ...], answer: UsageAnswer, currency: str) -> dict[str, Any]:
    def values(sums: UsageSums) -> dict[str, Any]:
        # Money as text: a number would become a float in most programs that read it.
        cost = money_text(sums.cost_nano).replace(",", "")
        return {**_numbers(sums), "cost": cost, "cost_nano": sums.cost_nano}

    return {
        "since": None if answer.since_wall_s is None else utc_text(answer.since_wall_s),
        "until": None if answer.until_wall_s is None else utc_text(answer.until_wall_s),
        "currency": currency,
        "rows": [dict(zip(by, row.group, strict=True)) | values(row.sums) for row in answer.rows],
        "total": values(answer.total),
    }


def _print_csv(by: tuple[Dimension, ...], answer: UsageAnswer, currency: str) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*by, *_FIELDS, f"cost_{currency.lower()}"])
    for row in answer.rows:
        cost = money_text(row.sums.cost_nano).replace(",", "")
        writer.writerow([*row.group, *_numbers(row.sums).values(), cost])


def _table(by: tuple[Dimension, ...], answer: UsageAnswer, currency: str) -> str:
    if not answer.rows:
        return "Nothing was used in that time, by anybody that this asks for."

    def cells(group: tuple[str, ...], sums: UsageSums) -> list[str]:
        figures = (f"{getattr(sums, name):,}" for name in _SHOWN)
        return [*group, *figures, money_text(sums.cost_nano, 4)]

    titles = [*(name.upper() for name in by), *_SHOWN.values(), f"COST {currency}"]
    rows = [titles, *(cells(tuple(n or "-" for n in row.group), row.sums) for row in answer.rows)]
    if by:
        rows.append(cells(("total", *("",) * (len(by) - 1)), answer.total))
    widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]

    def line(row: list[str]) -> str:
        names = (cell.ljust(width) for cell, width in zip(row[: len(by)], widths, strict=False))
        figures = (cell.rjust(width) for cell, width in zip(row[len(by) :], widths[len(by) :], strict=True))
        return "  ".join([*names, *figures]).rstrip()

    return "\n".join(line(row) for row in rows)


def _note_wider_range(since_wall_s: float | None, until_wall_s: float | None, answer: UsageAnswer) -> None:
    if (since_wall_s, until_wall_s) == (answer.since_wall_s, answer.until_wall_s):
        return
    begin = "the first" if answer.since_wall_s is None else utc_text(answer.since_wall_s)
    end = "now" if answer.until_wall_s is None else utc_text(answer.until_wall_s)
    typer.echo(
        f"note: of days that long ago only the sums are kept, so this is from {begin} to {end}.", err=True
    )
