"""`inferry ledger`: the records behind `inferry usage`: loaded, compared with the engines, corrected, let go."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferry.cli.store_choice import (
    AsJson,
    File,
    load_journals,
    load_journals_if_possible,
    opened_store,
    say_problems,
)
from inferry.core.clock import SystemClock, utc_text
from inferry.core.errors import ConfigError
from inferry.core.home import inferry_home

if TYPE_CHECKING:
    from inferry.ledger.reconcile import Comparison, EngineLife, LedgerShare

app = typer.Typer(no_args_is_help=True, help="Load, compare, correct and prune the records of requests.")

_DAY_S = 86400


@app.command()
def load(file: File = None, as_json: AsJson = False) -> None:
    """Load what gateways on this machine wrote into the store. A running Inferry does that by itself."""
    with opened_store(file) as (database, _):
        report = load_journals(database)
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=2))
    elif report.busy:
        typer.echo("Another process loads these journals at this moment.")
    else:
        typer.echo(f"{report.loaded:,} outcomes loaded, {report.known:,} were known already.")
        if report.recovered:
            typer.echo(f"{report.recovered:,} requests were under way when their gateway was killed.")
    say_problems(report)
    if report.failed:
        raise ConfigError(f"{report.failed} file(s) can't be loaded now. Nothing is lost: try again later.")


@app.command()
def migrate(file: File = None) -> None:
    """Bring the store's tables to this version. Every command does so; this one does nothing else."""
    with opened_store(file) as (database, _):
        typer.echo(f"The store {database.shown} is ready.")


@app.command()
def prune(
    keep_days: Annotated[
        int | None,
        typer.Option("--keep-days", min=1, max=36500, help="Left out: ledger.keep_days.", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    file: File = None,
) -> None:
    """Delete single outcomes that are older. Daily sums stay. A running Inferry does that by itself."""
    from inferry.ledger.retention import horizon_wall_s
    from inferry.ledger.retention import prune as delete_older

    with opened_store(file) as (database, settings):
        before_wall_s = horizon_wall_s(SystemClock().wall_s(), keep_days or settings.keep_days)
        if not yes:
            typer.confirm(f"Delete outcomes from before {utc_text(before_wall_s)}?", abort=True, err=True)
        deleted = delete_older(database, before_wall_s)
    typer.echo(f"{deleted:,} outcomes from before {utc_text(before_wall_s)} are deleted; daily sums stay.")


@app.command()
def adjust(
    reason: Annotated[str, typer.Option(metavar="TEXT", help="For whoever reads the books.")],
    tenant: Annotated[str, typer.Option(metavar="NAME")] = "",
    key: Annotated[str, typer.Option(metavar="ID")] = "",
    deployment: Annotated[str, typer.Option(metavar="NAME")] = "",
    model: Annotated[str, typer.Option(metavar="NAME")] = "",
    day: Annotated[
        str | None, typer.Option(metavar="DAY", help="UTC: 2026-01-31. Left out: today.", show_default=False)
    ] = None,
    cost: Annotated[str, typer.Option(metavar="AMOUNT", help="In ledger.currency; -1.25 is a refund.")] = "0",
    prompt_tokens: Annotated[int, typer.Option(min=-(10**12), max=10**12)] = 0,
    completion_tokens: Annotated[int, typer.Option(min=-(10**12), max=10**12)] = 0,
    file: File = None,
) -> None:
    """Correct a day's sums, for instance with a refund. Outcomes stay as they are; the correction is kept beside them."""
    from inferry.ledger.adjustments import Adjustment
    from inferry.ledger.adjustments import adjust as add_to_sums
    from inferry.ledger.outcome_rows import day_begin_wall_s, day_of

    now_wall_s = SystemClock().wall_s()
    day = day or day_of(now_wall_s)
    try:
        day_begin_wall_s(day)
    except ValueError as error:
        raise ConfigError(f"--day: '{day}' is no day; write it as 2026-01-31") from error
    if not prompt_tokens and not completion_tokens and not _nano(cost):
        raise ConfigError(
            "Nothing to correct: say by how much, with --cost, --prompt-tokens or --completion-tokens."
        )
    change = Adjustment(
        day, reason, tenant, key, deployment, model, prompt_tokens, completion_tokens, _nano(cost)
    )
    with opened_store(file) as (database, _):
        id = add_to_sums(database, change, now_wall_s)
    typer.echo(f"{id}: the sums of {day} are corrected.")


@app.command()
def reconcile(
    days: Annotated[
        int, typer.Option("--days", min=1, max=36500, help="Engines seen since so long ago.")
    ] = 1,
    file: File = None,
    as_json: AsJson = False,
) -> None:
    """Compare the ledger with the engines' own token counters, and explain each difference.

    Exits with 1 if a difference has no explanation.
    """
    from inferry.ledger.engine_counters import known_lives, ledger_share
    from inferry.ledger.reconcile import reconcile as compare

    with opened_store(file) as (database, _):
        load_journals_if_possible(database)
        lives = known_lives(database, SystemClock().wall_s() - days * _DAY_S)
        running = _running_now()
        latest = {(life.source, life.replica_id): life for life in lives}
        found = []
        for life in lives:
            share = ledger_share(database, life)
            is_latest = latest[life.source, life.replica_id] is life
            found.append(
                (
                    life,
                    share,
                    compare(life, share, running=running.get(life.replica_id) if is_latest else None),
                )
            )
    if as_json:
        typer.echo(json.dumps([_as_json(*each) for each in found], indent=2))
    elif not found:
        typer.echo("No engine with token counters was seen in that time.")
    else:
        typer.echo("\n".join(line for each in found for line in _lines(*each)))
    left = sum(each.verdict == "unexplained" for _, _, both in found for each in both)
    if left:
        raise ConfigError(
            f"{left} difference(s) have no explanation: requests that went past this gateway, or a fault in the "
            "accounting."
        )


def _running_now() -> dict[str, int]:
    """Requests in flight by replica, of all instances that run here and answer."""
    from inferry.admin.client import ControlClient
    from inferry.admin.run_record import running

    found: dict[str, int] = {}
    for record in running(inferry_home(os.environ)):
        try:
            status = ControlClient(record).status()
        except ConfigError:
            continue
        for deployment in status.deployments:
            for replica in deployment.replicas:
                found[replica.id] = found.get(replica.id, 0) + replica.in_flight
    return found


def _as_json(life: EngineLife, share: LedgerShare, both: tuple[Comparison, Comparison]) -> dict[str, Any]:
    return {
        "replica": life.replica_id,
        "deployment": life.deployment,
        "engine": life.engine,
        "started": utc_text(life.started_wall_s),
        "seen": utc_text(life.last.wall_s),
        "requests": share.requests,
        "in_doubt": list(share.crashed),
        "comparisons": [asdict(each) | {"difference": each.difference} for each in both],
    }


def _lines(life: EngineLife, share: LedgerShare, both: tuple[Comparison, Comparison]) -> list[str]:
    from inferry.ledger.reconcile import in_doubt

    lines = [
        f"{life.replica_id} ({life.engine}), {utc_text(life.started_wall_s)} to {utc_text(life.last.wall_s)}"
    ]
    for each in both:
        engine = "none" if each.engine_tokens is None else f"{each.engine_tokens:,}"
        difference = "" if each.difference is None else f"  difference {each.difference:+,}"
        lines.append(
            f"  {each.counter:<17}  engine {engine}  ledger {each.ledger_tokens:,}{difference}  {each.verdict}"
        )
        if each.verdict == "exact":
            continue
        for cause in each.causes:
            most = "unknown" if cause.at_most is None else f"{cause.at_most:,}"
            lines.append(f"    {cause.what}: {cause.requests:,}, {cause.at_least:,} to {most} tokens")
        if each.unexplained_tokens:
            lines.append(f"    without explanation: {each.unexplained_tokens:+,} tokens")
    if share.crashed:
        lines.append(f"  in doubt: {in_doubt(share)}")
    return lines


def _nano(text: str) -> int:
    """Billionths of an amount; exact."""
    from decimal import Decimal, InvalidOperation

    from inferry.ledger.prices import COST_NANO_MAX, NANO

    try:
        nano = Decimal(text) * NANO
    except InvalidOperation:
        nano = Decimal("NaN")
    if not nano.is_finite() or nano != int(nano) or abs(nano) > COST_NANO_MAX:
        raise ConfigError(
            f"--cost: '{text}' is no amount; write -1.25, with nine digits behind the point at most"
        )
    return int(nano)
