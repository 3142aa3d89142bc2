"""Corrections by people: a refund, or tokens that were billed wrongly. Outcomes are never changed."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import insert

from inferry.ledger.database import Database
from inferry.ledger.outcome_tables import SUMS, added, adjustments, daily_usage, upsert_into


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What to add to the sums of one day; numbers may be negative. '' is: none."""

    day: str
    """UTC, as 2026-01-31."""
    reason: str
    tenant: str = ""
    key_id: str = ""
    deployment: str = ""
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nano: int = 0


def adjust(database: Database, adjustment: Adjustment, now_wall_s: float) -> str:
    """Note the correction and add it to the day's sums, in one transaction; its id. Raises LedgerError."""
    id = f"adj_{secrets.token_hex(16)}"
    change = adjustment
    names = {
        "day": change.day,
        "tenant": change.tenant,
        "key_id": change.key_id,
        "deployment": change.deployment,
        "model": change.model,
    }
    amounts = {
        "prompt_tokens": change.prompt_tokens,
        "completion_tokens": change.completion_tokens,
        "cost_nano": change.cost_nano,
    }
    with database.write() as connection:
        connection.execute(
            insert(adjustments).values(
                id=id, made_wall_s=now_wall_s, reason=change.reason, **names, **amounts
            )
        )
        sums = added(upsert_into(database, daily_usage), daily_usage, SUMS)
        connection.execute(sums, [names | dict.fromkeys(SUMS, 0) | amounts])
    return id
