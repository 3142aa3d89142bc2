"""Keys, and the counter of their changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001_keys"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("prefix", sa.String(40), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("former_prefix", sa.String(40)),
        sa.Column("former_digest", sa.LargeBinary(32)),
        sa.Column("former_until_wall_s", sa.Double),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("deployments", sa.JSON(none_as_null=True)),
        sa.Column("limits", sa.JSON, nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("created_wall_s", sa.Double, nullable=False),
        sa.Column("expires_wall_s", sa.Double),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.UniqueConstraint("prefix", name="uq_keys_prefix"),
        sa.UniqueConstraint("tenant", "name", name="uq_keys_tenant_name"),
    )
    op.create_index("ix_keys_tenant", "keys", ["tenant"])
    changes = op.create_table(
        "key_changes",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_key_changes"),
    )
    op.bulk_insert(changes, [{"id": 1, "version": 0}])
