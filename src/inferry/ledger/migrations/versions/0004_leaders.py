"""Which control process decides for a fleet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004_leaders"
down_revision = "0003_retention"


def upgrade() -> None:
    op.create_table(
        "leaders",
        sa.Column("fleet", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("fleet", name="pk_leaders"),
    )
