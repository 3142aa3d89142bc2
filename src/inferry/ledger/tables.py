"""The store's tables for keys, and the `metadata` that all tables of the ledger belong to."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

# Constraints get the same names on every database, so that a later migration can drop them by name.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("prefix", String(40), nullable=False, unique=True),
    Column("digest", LargeBinary(32), nullable=False),
    # The text before the last rotation, while it may still be used.
    Column("former_prefix", String(40)),
    Column("former_digest", LargeBinary(32)),
    Column("former_until_wall_s", Double),
    Column("tenant", String(64), nullable=False, index=True),
    Column("name", String(64), nullable=False),
    Column("scopes", JSON, nullable=False),
    # Without none_as_null, "all deployments" would be stored as the JSON word null.
    Column("deployments", JSON(none_as_null=True)),
    Column("limits", JSON, nullable=False),
    Column("priority", String(16), nullable=False),
    Column("created_wall_s", Double, nullable=False),
    Column("expires_wall_s", Double),
    Column("disabled", Boolean, nullable=False),
    UniqueConstraint("tenant", "name"),
)

key_changes = Table(
    "key_changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
)
"""One row: how often the keys changed. Whoever watches the keys reads only this."""
