"""How a request ended. Every request that reached the gateway's logic ends in exactly one Outcome."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Ending(StrEnum):
    COMPLETED = "completed"
    REJECTED = "rejected"
    """The client's or an operator's doing: not admitted, nothing generated."""
    FAILED = "failed"
    """An engine was asked and could not answer."""
    CANCELLED = "cancelled"
    """The client went away first."""


class UsageFrom(StrEnum):
    """Where the token counts of an outcome come from."""

    ENGINE = "engine"
    """The engine's own usage: exact."""
    COUNTED = "counted"
    """The answer did not come to its end: completion tokens are the stream's token events as they were relayed,
    prompt tokens are estimated."""
    NONE = "none"
    """Nothing was generated, or the route has no tokens."""


class Outcome(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line for the journal, the ledger and the metrics. Times are seconds; None: did not happen or is not known.

    Its fields' names are the journal's format: add fields, never rename them.
    """

    id: str
    """The gateway's own, unique: the ledger counts an id once."""
    request_id: str
    """As the client and the engine saw it: the client's `x-request-id` if it sent one."""
    route: str
    ending: Ending
    status: int
    received_wall_s: float
    duration_s: float
    deployment: str | None = None
    model: str | None = None
    """As the client named it."""
    engine: str | None = None
    replica_id: str | None = None
    """Of the last attempt."""
    key_id: str | None = None
    tenant: str | None = None
    stream: bool = False
    queue_s: float = 0.0
    """Waiting for a turn or for a limit's lease."""
    ttft_s: float | None = None
    """Streams only: from the whole request received to the first event sent on."""
    attempts: int = 0
    resumes: int = 0
    prompt_tokens: int | None = None
    """All of them, cached ones included."""
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    """All of them, reasoning ones included."""
    reasoning_tokens: int | None = None
    usage_from: UsageFrom = UsageFrom.NONE
    cost_nano: int = 0
    """Billionths of `ledger.currency`."""
    finish_reason: str | None = None
    error_code: str | None = None
    filtered_by: str | None = None
    """The filter rule that blocked or masked, if one did."""
