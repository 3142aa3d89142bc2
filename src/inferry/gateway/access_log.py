"""The access log: one JSON line per ended request. Never bodies, never credentials, no words of the client's
but its `x-request-id`.

The lines look as structlog's do and go to the same file, but are made by hand and written many at a time: a
line through structlog and logging costs several times what the rest of the gateway's bookkeeping does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from inferry.core.clock import utc_text
from inferry.core.outcome import Outcome

_BUFFER_BYTES_MAX = 64 * 1024
_logger = logging.getLogger("inferry.access")


class AccessLine(msgspec.Struct, omit_defaults=True):
    """One line. Its fields' names are what people's log searches rely on: add fields, never rename them.

    Times are seconds. What did not happen or is not known is left out.
    """

    event: str
    level: str
    timestamp: str
    """When the request ended, UTC."""
    request_id: str
    id: str
    client: str
    route: str
    ending: str
    status: int
    duration_s: float
    tenant: str | None = None
    key_id: str | None = None
    deployment: str | None = None
    replica_id: str | None = None
    stream: bool = False
    queue_s: float = 0.0
    ttft_s: float | None = None
    attempts: int = 0
    resumes: int = 0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_nano: int = 0
    finish_reason: str | None = None
    error_code: str | None = None
    filtered_by: str | None = None


def _to_log(lines: str) -> None:
    _logger.info(lines)


class AccessLog:
    """Collects lines and writes them in blocks: when 64 KiB are there, and whenever `flush` is called."""

    def __init__(self, write: Callable[[str], None] = _to_log) -> None:
        """`write` gets whole lines, joined by line breaks, without the last one."""
        self._write = write
        self._lines: list[bytes] = []
        self._bytes = 0
        self._encode = msgspec.json.Encoder().encode
        self._second = -1
        self._second_text = ""

    def record(self, outcome: Outcome, client: str) -> None:
        """Add one line; `client` is the client's address."""
        line = self._encode(
            AccessLine(
                "request",
                "info",
                self._timestamp(outcome.received_wall_s + outcome.duration_s),
                outcome.request_id,
                outcome.id,
                client,
                outcome.route,
                outcome.ending.value,
                outcome.status,
                round(outcome.duration_s, 6),
                outcome.tenant,
                outcome.key_id,
                outcome.deployment,
                outcome.replica_id,
                outcome.stream,
                round(outcome.queue_s, 6),
                None if outcome.ttft_s is None else round(outcome.ttft_s, 6),
                outcome.attempts,
                outcome.resumes,
                outcome.prompt_tokens,
                outcome.cached_tokens,
                outcome.completion_tokens,
                outcome.reasoning_tokens,
                outcome.cost_nano,
                outcome.finish_reason,
                outcome.error_code,
                outcome.filtered_by,
            )
        )
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes >= _BUFFER_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        """Write what is there; called once a second and at the end."""
        if not self._lines:
            return
        block = b"\n".join(self._lines).decode()
        self._lines.clear()
        self._bytes = 0
        self._write(block)

    def _timestamp(self, wall_s: float) -> str:
        second = int(wall_s)
        if second != self._second:
            self._second = second
            self._second_text = utc_text(second)[:-1].replace(" ", "T")
        return f"{self._second_text}.{int((wall_s - second) * 1e6):06d}Z"
