"""From when on single outcomes are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003_retention"
down_revision = "0002_outcomes"


def upgrade() -> None:
    retention = op.create_table(
        "retention",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("kept_since_wall_s", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_retention"),
    )
    op.bulk_insert(retention, [{"id": 1, "kept_since_wall_s": 0.0}])
