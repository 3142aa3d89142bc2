"""Records of requests under way, for tests."""

from __future__ import annotations

from typing import Any

from inferry.ledger.inflight_book import Begun, encode_begun
from inferry.ledger.prices import Rates

from .outcomes import NEW_YEAR_WALL_S


def a_begun(id: str, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "id": id,
        "request_id": f"req-{id}",
        "route": "/v1/chat/completions",
        "received_wall_s": NEW_YEAR_WALL_S + 60.0,
        "deployment": "chat",
        "model": "chat",
        "engine": "simulated",
        "replica_id": "chat-0",
        "key_id": "key_a",
        "tenant": "acme",
        "stream": True,
        "attempts": 1,
        "prompt_tokens": 20,
        "rates": Rates(1_000_000_000, 500_000_000, 2_000_000_000),
    }
    return encode_begun(Begun(**(fields | changes)))
