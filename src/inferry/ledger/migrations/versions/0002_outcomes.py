"""Outcomes, their daily sums, corrections, and how far journals and engines' counters were read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_outcomes"
down_revision = "0001_keys"


def upgrade() -> None:
    op.create_table(
        "outcomes",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("ending", sa.String(16), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("received_wall_s", sa.Double, nullable=False),
        sa.Column("duration_s", sa.Double, nullable=False),
        sa.Column("deployment", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("engine", sa.Text),
        sa.Column("replica_id", sa.Text),
        sa.Column("key_id", sa.Text),
        sa.Column("tenant", sa.Text),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("queue_s", sa.Double, nullable=False),
        sa.Column("ttft_s", sa.Double),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("resumes", sa.Integer, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger),
        sa.Column("cached_tokens", sa.BigInteger),
        sa.Column("completion_tokens", sa.BigInteger),
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column("usage_from", sa.String(16), nullable=False),
        sa.Column("cost_nano", sa.BigInteger, nullable=False),
        sa.Column("finish_reason", sa.Text),
        sa.Column("error_code", sa.Text),
        sa.Column("filtered_by", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_outcomes"),
    )
    op.create_index("ix_outcomes_received_wall_s", "outcomes", ["received_wall_s"])
    op.create_index("ix_outcomes_replica_id", "outcomes", ["replica_id", "received_wall_s"])
    op.create_table(
        "daily_usage",
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("deployment", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("completed", sa.BigInteger, nullable=False),
        sa.Column("rejected", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("cancelled", sa.BigInteger, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
        sa.Column("counted_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_nano", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("day", "tenant", "key_id", "deployment", "model", name="pk_daily_usage"),
    )
    op.create_table(
        "adjustments",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("made_wall_s", sa.Double, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("deployment", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_nano", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_adjustments"),
    )
    op.create_index("ix_adjustments_day", "adjustments", ["day"])
    op.create_table(
        "journal_offsets",
        sa.Column("file_id", sa.String(32), nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("offset_bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("file_id", name="pk_journal_offsets"),
    )
    op.create_index("ix_journal_offsets_source", "journal_offsets", ["source"])
    op.create_table(
        "engine_lives",
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("replica_id", sa.Text, nullable=False),
        sa.Column("started_wall_s", sa.Double, nullable=False),
        sa.Column("deployment", sa.Text, nullable=False),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("first_wall_s", sa.Double, nullable=False),
        sa.Column("first_prompt_tokens", sa.BigInteger),
        sa.Column("first_completion_tokens", sa.BigInteger),
        sa.Column("last_wall_s", sa.Double, nullable=False),
        sa.Column("last_prompt_tokens", sa.BigInteger),
        sa.Column("last_completion_tokens", sa.BigInteger),
        sa.PrimaryKeyConstraint("source", "replica_id", "started_wall_s", name="pk_engine_lives"),
    )
