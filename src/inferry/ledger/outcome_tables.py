"""The store's tables for outcomes, daily sums, and how far journals and engines' counters were read."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import postgresql, sqlite

from inferry.ledger.database import Database
from inferry.ledger.tables import metadata

outcomes = Table(
    "outcomes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("source", String(32), nullable=False),  # the journal folder that it came from: tells hosts apart
    Column("request_id", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("ending", String(16), nullable=False),
    Column("status", Integer, nullable=False),
    Column("received_wall_s", Double, nullable=False, index=True),
    Column("duration_s", Double, nullable=False),
    Column("deployment", Text),
    Column("model", Text),
    Column("engine", Text),
    Column("replica_id", Text),
    Column("key_id", Text),
    Column("tenant", Text),
    Column("stream", Boolean, nullable=False),
    Column("queue_s", Double, nullable=False),
    Column("ttft_s", Double),
    Column("attempts", Integer, nullable=False),
    Column("resumes", Integer, nullable=False),
    Column("prompt_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("usage_from", String(16), nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    Column("finish_reason", Text),
    Column("error_code", Text),
    Column("filtered_by", Text),
    Index("ix_outcomes_replica_id", "replica_id", "received_wall_s"),
)

DIMENSIONS = ("day", "tenant", "key_id", "deployment", "model")
SUMS = (
    "completed",
    "rejected",
    "failed",
    "cancelled",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "counted_tokens",
    "cost_nano",
)
daily_usage = Table(
    "daily_usage",
    metadata,
    # The UTC day in which requests were received, as 2026-01-31. None is '' here: NULLs would never be equal.
    Column("day", String(10), primary_key=True),
    *(Column(name, Text, primary_key=True) for name in DIMENSIONS[1:]),
    # The first four count requests by how they ended; counted_tokens are the completion tokens that no engine's
    # usage stands behind.
    *(Column(name, BigInteger, nullable=False) for name in SUMS),
)

adjustments = Table(
    "adjustments",
    metadata,
    # Corrections by people. They are part of the daily sums from the moment that they are made.
    Column("id", String(40), primary_key=True),
    Column("made_wall_s", Double, nullable=False),
    Column("reason", Text, nullable=False),
    Column("day", String(10), nullable=False, index=True),
    *(Column(name, Text, nullable=False) for name in DIMENSIONS[1:]),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
)

journal_offsets = Table(
    "journal_offsets",
    metadata,
    Column("file_id", String(32), primary_key=True),
    Column("source", String(32), nullable=False, index=True),
    Column("offset_bytes", BigInteger, nullable=False),
)

engine_lives = Table(
    "engine_lives",
    metadata,
    # One row per engine process: its counters when it was first and when it was last looked at.
    Column("source", String(32), primary_key=True),
    Column("replica_id", Text, primary_key=True),
    Column("started_wall_s", Double, primary_key=True),
    Column("deployment", Text, nullable=False),
    Column("engine", Text, nullable=False),
    Column("first_wall_s", Double, nullable=False),
    Column("first_prompt_tokens", BigInteger),
    Column("first_completion_tokens", BigInteger),
    Column("last_wall_s", Double, nullable=False),
    Column("last_prompt_tokens", BigInteger),
    Column("last_completion_tokens", BigInteger),
)

retention = Table(
    "retention",
    metadata,
    # One row: all outcomes that were received from then on are still here.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("kept_since_wall_s", Double, nullable=False),
)


def upsert_into(database: Database, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that knows ON CONFLICT, which each database has in its own dialect and the same words."""
    return postgresql.insert(table) if database.kind == "postgresql" else sqlite.insert(table)


def added(statement: postgresql.Insert | sqlite.Insert, table: Table, names: tuple[str, ...]) -> Any:
    """The statement, adding `names` to the row that is there if its primary key is taken."""
    return statement.on_conflict_do_update(
        index_elements=[column.name for column in table.primary_key],
        set_={name: table.c[name] + statement.excluded[name] for name in names},
    )
