"""The engines' own counters as they were seen, kept in the store, and the ledger's share of the same time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, case, func, insert, or_, select, true, update

from inferry.core.outcome import Ending, UsageFrom
from inferry.ledger.database import Database
from inferry.ledger.inflight_book import CRASHED
from inferry.ledger.outcome_tables import engine_lives, outcomes
from inferry.ledger.reconcile import Counters, EngineLife, LedgerShare

_SAME_LIFE_S = 0.001
"""Times go through doubles and JSON; two starts of one replica are further apart."""

_LOOK_S = 1.0
"""A look takes a moment: what came and ended meanwhile may be counted, too."""
_ANSWERED = 400
"""Below this status, an engine's whole answer went to the client."""


def note_lives(database: Database, lives: Iterable[EngineLife]) -> None:
    """Keep what engines say now: a life's `first` stays as it was first given, `last` moves on. Raises LedgerError."""
    with database.write() as connection:
        for life in lives:
            last = {
                "last_wall_s": life.last.wall_s,
                "last_prompt_tokens": life.last.prompt_tokens,
                "last_completion_tokens": life.last.completion_tokens,
            }
            table = engine_lives.c
            same = and_(
                table.source == life.source,
                table.replica_id == life.replica_id,
                func.abs(table.started_wall_s - life.started_wall_s) < _SAME_LIFE_S,
            )
            if connection.execute(update(engine_lives).where(same).values(last)).rowcount:
                continue
            connection.execute(
                insert(engine_lives).values(
                    source=life.source,
                    replica_id=life.replica_id,
                    started_wall_s=life.started_wall_s,
                    deployment=life.deployment,
                    engine=life.engine,
                    first_wall_s=life.first.wall_s,
                    first_prompt_tokens=life.first.prompt_tokens,
                    first_completion_tokens=life.first.completion_tokens,
                    **last,
                )
            )


def known_lives(database: Database, since_wall_s: float = 0.0) -> list[EngineLife]:
    """Engine processes that were looked at since then, by replica and start. Raises LedgerError."""
    table = engine_lives.c
    wanted = (
        select(engine_lives)
        .where(table.last_wall_s >= since_wall_s)
        .order_by(table.source, table.replica_id, table.started_wall_s)
    )
    with database.read() as connection:
        return [_life_of(row) for row in connection.execute(wanted)]


def ledger_share(database: Database, life: EngineLife) -> LedgerShare:
    """The requests that ended at this engine process between the first and the last look at it. Raises LedgerError."""
    table = outcomes.c
    ended_wall_s = table.received_wall_s + table.duration_s
    lives = engine_lives.alias().c
    next_start = (
        select(func.min(lives.started_wall_s))
        .where(
            lives.source == life.source,
            lives.replica_id == life.replica_id,
            lives.started_wall_s > life.started_wall_s + _SAME_LIFE_S,
        )
        .scalar_subquery()
    )
    here = and_(
        table.source == life.source,
        table.replica_id == life.replica_id,
        ended_wall_s > life.first.wall_s,
    )
    crash = func.coalesce(table.error_code, "") == CRASHED
    # Nobody saw the end of those that a crash cut off: they belong to the life in which they began.
    begun_here = or_(next_start.is_(None), table.received_wall_s <= next_start)
    seen = and_(here, or_(and_(crash, begun_here), ended_wall_s <= life.last.wall_s))
    none = and_(
        table.usage_from == UsageFrom.NONE.value,
        table.ending != Ending.REJECTED.value,
        ~crash,
    )
    exact = table.usage_from == UsageFrom.ENGINE.value
    counted = table.usage_from == UsageFrom.COUNTED.value
    resumed = table.resumes > 0
    seen_sums = {
        "requests": _count(exact),
        "prompt_tokens": _sum(exact, table.prompt_tokens),
        "completion_tokens": _sum(exact, table.completion_tokens),
        "cut": _count(and_(counted, ~crash)),
        "cut_unseen": _count(and_(none, table.status >= _ANSWERED)),
        "crashed_calls": _count(and_(crash, ~table.stream)),
        "crashed_tokens": _sum(crash, table.completion_tokens),
        "counted_tokens": _sum(counted, table.completion_tokens),
        "counted_prompt_tokens": _sum(counted, table.prompt_tokens),
        "without_usage": _count(and_(none, table.status < _ANSWERED)),
        "resumed": _count(resumed),
        "resumed_tokens": _sum(resumed, table.completion_tokens),
    }
    late_sums = {
        "late": _count(true()),
        "late_prompt_tokens": _sum(true(), table.prompt_tokens),
        "late_tokens": _sum(true(), table.completion_tokens),
    }
    elsewhere = and_(
        table.source == life.source,
        table.deployment == life.deployment,
        table.replica_id != life.replica_id,
        ended_wall_s > life.first.wall_s,
        table.received_wall_s <= life.last.wall_s,
        or_(table.attempts > 1, resumed),
    )
    crashed = select(table.id).where(seen, crash).order_by(table.id)
    late = and_(
        here, ~crash, ended_wall_s > life.last.wall_s, table.received_wall_s <= life.last.wall_s + _LOOK_S
    )
    with database.read() as connection:
        return LedgerShare(
            **_one_row(connection, seen_sums, seen),
            **_one_row(connection, late_sums, late),
            **_one_row(connection, {"moved_away": _count(true())}, elsewhere),
            crashed=tuple(connection.execute(crashed).scalars()),
        )


def _one_row(
    connection: Connection, sums: dict[str, ColumnElement[int]], where: ColumnElement[bool]
) -> dict[str, Any]:
    statement = select(*(column.label(name) for name, column in sums.items())).where(where)
    return {name: int(value) for name, value in connection.execute(statement).one()._mapping.items()}


def _count(which: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((which, 1), else_=0)), 0)


def _sum(which: ColumnElement[bool], column: ColumnElement[Any]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((which, column), else_=0)), 0)


def _life_of(row: Row[Any]) -> EngineLife:
    return EngineLife(
        row.source,
        row.replica_id,
        row.deployment,
        row.engine,
        row.started_wall_s,
        Counters(row.first_wall_s, row.first_prompt_tokens, row.first_completion_tokens),
        Counters(row.last_wall_s, row.last_prompt_tokens, row.last_completion_tokens),
    )
