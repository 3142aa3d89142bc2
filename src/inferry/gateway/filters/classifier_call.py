"""Asks classifiers and guard models: the calls that `Check` describes, over the room's own connections.

Callbacks, as in the rest of the room: no task per question, and nothing is awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from inferry.core.errors import EngineError
from inferry.core.name_lookup import NameLookup
from inferry.core.replica import Endpoint
from inferry.core.request import CHAT
from inferry.gateway.filters.external_check import Check, joined
from inferry.gateway.filters.verdict import Passed, Verdict
from inferry.gateway.upstream import Headers, UpstreamConnection, UpstreamPool

ANSWER_BYTES_MAX = 1024 * 1024
CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class BorrowedReplica:
    """A replica of a guard's deployment, reserved for one question."""

    pool: UpstreamPool
    model: str
    """The guard's name at its engine."""
    give_back: Callable[[], None]
    """Called once, when the question is answered or dropped."""


class Guards(Protocol):
    """What a call needs of the gateway."""

    def borrow(self, deployment: str) -> BorrowedReplica | None:
        """Choose and reserve a replica; None: there is none that takes requests."""


class ClassifierPools:
    """Connections to classifiers, shared by all requests of a gateway process."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._names = NameLookup(loop)
        self._pools: dict[Endpoint, UpstreamPool] = {}

    def pool(self, endpoint: Endpoint) -> UpstreamPool:
        if endpoint not in self._pools:
            self._pools[endpoint] = UpstreamPool(endpoint, self.loop, CONNECT_TIMEOUT_S, self._names)
        return self._pools[endpoint]

    def close_idle(self) -> None:
        """Called now and then, as for the other pools."""
        for pool in self._pools.values():
            pool.close_idle()

    async def close(self) -> None:
        """At shutdown."""
        for pool in self._pools.values():
            pool.close()
            await pool.wait_closed()


class CheckCalls:
    """Asks `checks` one after the other, until one blocks or all have passed; then calls `on_verdict`, once."""

    def __init__(
        self,
        checks: Sequence[Check],
        pools: ClassifierPools,
        guards: Guards,
        on_verdict: Callable[[Verdict], None],
    ) -> None:
        self._left = list(checks)
        self._pools = pools
        self._guards = guards
        self._on_verdict = on_verdict
        self._verdicts: list[Verdict] = []
        self._call: _Call | None = None

    def start(self) -> None:
        """The verdict may come before this returns."""
        self._next()

    def cancel(self) -> None:
        """Nobody needs the verdict: it will not come."""
        self._left.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _next(self) -> None:
        check = self._left.pop(0)
        endpoint = check.endpoint
        if endpoint is not None:
            borrowed = BorrowedReplica(self._pools.pool(endpoint), "", lambda: None)
        else:
            assert check.guard is not None
            guard = self._guards.borrow(check.guard)
            if guard is None:
                self._on_answer(check.failed())
                return
            borrowed = guard
        self._call = _Call(check, borrowed, self._pools.loop, self._on_answer)
        self._call.start()

    def _on_answer(self, verdict: Verdict) -> None:
        self._call = None
        self._verdicts.append(verdict)
        if isinstance(verdict, Passed) and self._left:
            self._next()
        else:
            self._on_verdict(joined(self._verdicts))


class _Call:
    """One question; a Receiver."""

    def __init__(
        self,
        check: Check,
        borrowed: BorrowedReplica,
        loop: asyncio.AbstractEventLoop,
        on_answer: Callable[[Verdict], None],
    ) -> None:
        self._check = check
        self._borrowed = borrowed
        self._on_answer = on_answer
        self._connection: UpstreamConnection | None = None
        self._status = 0
        self._answer = bytearray()
        self._over = False
        self._retried = False
        self._timer = loop.call_later(check.timeout_s, self._end, None)

    def start(self) -> None:
        connection = None if self._retried else self._borrowed.pool.take_idle()
        if connection is None:
            self._borrowed.pool.dial(self)
        else:
            self._send(connection)

    def cancel(self) -> None:
        if not self._over:
            self._close()

    # --- Receiver -------------------------------------------------------------------------------------

    def on_connected(self, connection: UpstreamConnection) -> None:
        if self._over:
            connection.pool.put_back(connection)
        else:
            self._send(connection)

    def on_upstream_head(self, status: int, headers: Headers, length: int | None) -> None:
        self._status = status

    def on_upstream_data(self, data: bytes, complete: bool) -> None:
        if self._over:
            return
        self._answer += data
        if complete:
            self._connection = None
            self._end(self._check.verdict(self._status, bytes(self._answer)))
        elif len(self._answer) > ANSWER_BYTES_MAX:
            self._end(None)

    def on_upstream_failed(self, error: EngineError, stale: bool) -> None:
        if self._over:
            return
        self._connection = None
        if stale and not self._retried:
            self._retried = True
            self.start()
        else:
            self._end(None)

    # --------------------------------------------------------------------------------------------------

    def _send(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        body = self._check.request(self._borrowed.model)
        head = b"%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (
            connection.pool.heads["" if self._check.guard is None else CHAT.path], len(body),
        )  # fmt: skip
        connection.send(self, head, body)

    def _end(self, verdict: Verdict | None) -> None:
        """None: no answer in time, or none at all."""
        if self._over:
            return
        self._close()
        self._on_answer(self._check.failed() if verdict is None else verdict)

    def _close(self) -> None:
        self._over = True
        self._timer.cancel()
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None
        self._borrowed.give_back()
