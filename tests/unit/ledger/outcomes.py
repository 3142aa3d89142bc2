"""Outcomes for tests: valid, and different where a test says so."""

from __future__ import annotations

from typing import Any

from inferry.core.outcome import Ending, Outcome, UsageFrom

NEW_YEAR_WALL_S = 1_767_225_600.0
"""2026-01-01 00:00:00 UTC."""


def an_outcome(id: str, **changes: Any) -> Outcome:
    fields: dict[str, Any] = {
        "id": id,
        "request_id": f"req-{id}",
        "route": "/v1/chat/completions",
        "ending": Ending.COMPLETED,
        "status": 200,
        "received_wall_s": NEW_YEAR_WALL_S + 3600.0,
        "duration_s": 1.5,
        "deployment": "chat",
        "model": "chat",
        "engine": "simulated",
        "replica_id": "chat-0",
        "key_id": "key_a",
        "tenant": "acme",
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "completion_tokens": 7,
        "usage_from": UsageFrom.ENGINE,
        "cost_nano": 100,
    }
    return Outcome(**(fields | changes))
