"""What was used and what it cost: sums by day, tenant, key, deployment and model, and what budgets begin with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import ColumnElement, Connection, Select, case, func, literal, select

from inferry.core.leases import Kind, period_start_s
from inferry.core.outcome import Ending, UsageFrom
from inferry.ledger.database import Database
from inferry.ledger.outcome_rows import DAY_S, day_of
from inferry.ledger.outcome_tables import SUMS, daily_usage, outcomes
from inferry.ledger.retention import kept_since_wall_s

Dimension = Literal["day", "tenant", "key", "deployment", "model"]
BUDGETED = ("tenant", "key", "deployment")
_TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "cost_nano")


@dataclass(frozen=True, slots=True)
class UsageQuestion:
    """Which requests, and how to group them. None: all; '' asks for those that have none."""

    by: tuple[Dimension, ...] = ()
    since_wall_s: float | None = None
    """Received then or later."""
    until_wall_s: float | None = None
    """Received before."""
    tenant: str | None = None
    key: str | None = None
    deployment: str | None = None
    model: str | None = None


@dataclass(slots=True)
class UsageSums:
    completed: int = 0
    rejected: int = 0
    failed: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    """All of them, the cached ones too."""
    cached_tokens: int = 0
    completion_tokens: int = 0
    """All of them, the reasoning ones and the counted ones too."""
    reasoning_tokens: int = 0
    counted_tokens: int = 0
    """Those that no engine's usage stands behind: relayed before a disconnect or a crash."""
    cost_nano: int = 0

    @property
    def requests(self) -> int:
        return self.completed + self.rejected + self.failed + self.cancelled

    def add(self, values: Sequence[int | None]) -> None:
        """In the order of the table's columns."""
        for name, value in zip(SUMS, values, strict=True):
            setattr(self, name, getattr(self, name) + int(value or 0))


@dataclass(frozen=True, slots=True)
class UsageRow:
    group: tuple[str, ...]
    """One for each of the question's `by`."""
    sums: UsageSums


@dataclass(frozen=True, slots=True)
class UsageAnswer:
    rows: list[UsageRow]
    """In the order of their groups."""
    total: UsageSums = field(default_factory=UsageSums)
    since_wall_s: float | None = None
    """As asked; the begin of that day where its single outcomes are not kept any more."""
    until_wall_s: float | None = None
    """As asked; the end of that day where its single outcomes are not kept any more."""


@dataclass(frozen=True, slots=True)
class Spans:
    """A range of time as whole days, which the daily sums have, and the pieces of days around them."""

    days: tuple[float, float] | None
    pieces: tuple[tuple[float, float], ...]
    since_wall_s: float
    until_wall_s: float


def spans_of(since_wall_s: float, until_wall_s: float, kept_wall_s: float) -> Spans:
    """Split a range (infinite ends are fine). A piece of a day whose outcomes may be gone becomes the whole day."""
    if since_wall_s < kept_wall_s and math.isfinite(since_wall_s):
        since_wall_s = since_wall_s // DAY_S * DAY_S
    if until_wall_s // DAY_S * DAY_S < kept_wall_s and math.isfinite(until_wall_s):
        until_wall_s = math.ceil(until_wall_s / DAY_S) * DAY_S
    first = math.ceil(since_wall_s / DAY_S) * DAY_S if math.isfinite(since_wall_s) else since_wall_s
    last = until_wall_s // DAY_S * DAY_S if math.isfinite(until_wall_s) else until_wall_s
    if first > last:
        return Spans(None, ((since_wall_s, until_wall_s),), since_wall_s, until_wall_s)
    pieces = tuple(
        (begin, end) for begin, end in ((since_wall_s, first), (last, until_wall_s)) if begin < end
    )
    return Spans((first, last) if first < last else None, pieces, since_wall_s, until_wall_s)


def usage(database: Database, question: UsageQuestion) -> UsageAnswer:
    """Sums for each group. Whole days come from the daily sums, pieces of days from the single outcomes.

    Corrections belong to a day as a whole and are in no piece of it. Raises LedgerError.
    """
    since_wall_s = -math.inf if question.since_wall_s is None else question.since_wall_s
    until_wall_s = math.inf if question.until_wall_s is None else question.until_wall_s
    groups: dict[tuple[str, ...], UsageSums] = {}
    with database.read() as connection:
        spans = spans_of(since_wall_s, max(since_wall_s, until_wall_s), kept_since_wall_s(connection))
        if spans.days is not None:
            _add_days(connection, question, spans.days, groups)
        for begin, end in spans.pieces:
            _add_piece(connection, question, begin, end, groups)
    total = UsageSums()
    for sums in groups.values():
        total.add([getattr(sums, name) for name in SUMS])
    return UsageAnswer(
        [UsageRow(group, groups[group]) for group in sorted(groups)],
        total,
        None if question.since_wall_s is None else spans.since_wall_s,
        None if question.until_wall_s is None else spans.until_wall_s,
    )


def _add_days(
    connection: Connection,
    question: UsageQuestion,
    days: tuple[float, float],
    groups: dict[tuple[str, ...], UsageSums],
) -> None:
    table = daily_usage.c
    columns: dict[str, ColumnElement[str]] = {
        "day": table.day, "tenant": table.tenant, "key": table.key_id, "deployment": table.deployment,
        "model": table.model,
    }  # fmt: skip
    begin, end = days
    within = []
    if math.isfinite(begin):
        within.append(table.day >= day_of(begin))
    if math.isfinite(end):
        within.append(table.day < day_of(end))
    sums = [func.sum(table[name]) for name in SUMS]
    _add(connection, select().where(*within), columns, sums, question, groups)


def _add_piece(
    connection: Connection,
    question: UsageQuestion,
    begin_wall_s: float,
    end_wall_s: float,
    groups: dict[tuple[str, ...], UsageSums],
) -> None:
    table = outcomes.c
    none = literal("")
    columns: dict[str, ColumnElement[str]] = {
        "day": literal(day_of(begin_wall_s)),
        "tenant": func.coalesce(table.tenant, none),
        "key": func.coalesce(table.key_id, none),
        "deployment": func.coalesce(table.deployment, none),
        # As in the daily sums: what clients make up is no model.
        "model": case((table.deployment.is_(None), none), else_=func.coalesce(table.model, none)),
    }
    counted = table.usage_from == UsageFrom.COUNTED.value
    sums: list[ColumnElement[int]] = [
        func.sum(case((table.ending == ending.value, 1), else_=0))
        for ending in (Ending.COMPLETED, Ending.REJECTED, Ending.FAILED, Ending.CANCELLED)
    ]
    sums += [func.sum(table[name]) for name in _TOKENS]
    sums.insert(SUMS.index("counted_tokens"), func.sum(case((counted, table.completion_tokens), else_=0)))
    within = select().where(table.received_wall_s >= begin_wall_s, table.received_wall_s < end_wall_s)
    _add(connection, within, columns, sums, question, groups)


def _add(
    connection: Connection,
    within: Select[tuple[()]],
    columns: dict[str, ColumnElement[str]],
    sums: Sequence[ColumnElement[int]],
    question: UsageQuestion,
    groups: dict[tuple[str, ...], UsageSums],
) -> None:
    wanted = [
        columns[name] == value
        for name in ("tenant", "key", "deployment", "model")
        if (value := getattr(question, name)) is not None
    ]
    by = [columns[name].label(f"by_{name}") for name in question.by]
    # The day of a piece is a constant, which can't be grouped by.
    grouping = [
        columns[name]
        for name in question.by
        if not (name == "day" and columns["day"] is not daily_usage.c.day)
    ]
    statement = within.add_columns(*by, func.count(), *sums).where(*wanted).group_by(*grouping)
    for row in connection.execute(statement):
        if row[len(by)]:  # without groups, there is one row also for nothing
            groups.setdefault(tuple(row[: len(by)]), UsageSums()).add(row[len(by) + 1 :])


@dataclass(slots=True)
class Spent:
    """What one key, tenant or deployment has spent in a UTC day or month."""

    tokens: int = 0
    """Prompt and completion tokens."""
    cost_nano: int = 0


def spent_in(database: Database, kind: Kind, period: int) -> dict[tuple[str, str], Spent]:
    """By ("key", "tenant" or "deployment", id): what budgets of that calendar period begin with.

    `kind` is DAY or MONTH, `period` as in core.leases.period_of: no clock is asked, as whoever counts the limits may
    be a moment ahead of this host. Load the journals first. Raises LedgerError or ConfigError.

    Requests count for the day and month in which they were received; corrections are in it.
    """
    table = daily_usage.c
    owners = (table.tenant, table.key_id, table.deployment)
    statement = (
        select(*owners, func.sum(table.prompt_tokens + table.completion_tokens), func.sum(table.cost_nano))
        .where(
            table.day >= day_of(period_start_s(kind, period)),
            table.day < day_of(period_start_s(kind, period + 1)),
        )
        .group_by(*owners)
    )
    spent: dict[tuple[str, str], Spent] = {}
    with database.read() as connection:
        for *ids, tokens, cost_nano in connection.execute(statement):
            for scope, id in zip(BUDGETED, ids, strict=True):
                if id:
                    each = spent.setdefault((scope, id), Spent())
                    each.tokens += int(tokens)
                    each.cost_nano += int(cost_nano)
    return spent
