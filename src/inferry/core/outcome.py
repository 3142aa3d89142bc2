"""How a request ended. Every request that reached the gateway's logic ends in exactly one Outcome."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Ending(StrEnum):
    COMPLETED = "completed"
    REJECTED = "rejected"
    """The client's or an operator's doing: not admitted, nothing generated."""
    FAILED = "failed"
    """An engine was asked and could not answer."""
    CANCELLED = "cancelled"
    """The client went away first."""


@dataclass(slots=True)
class Outcome:
    """One line for the metrics (and, later, the ledger). Times are seconds; None means: did not happen."""

    request_id: str
    route: str
    deployment: str | None
    replica_id: str | None
    ending: Ending
    status: int
    stream: bool
    received_wall_s: float
    duration_s: float
    ttft_s: float | None
    """Streams only: from the whole request received to the first event sent on."""
    attempts: int
    prompt_tokens: int | None
    completion_tokens: int | None
    error_code: str | None = None
