"""The part of an exchange that has a replica answer it: which one, which one next, and which one goes on.

A replica fails, hangs, or must go, and the client has
    nothing          the next replica is asked the same
    part of a stream another one goes on with it (next_leg.py); the client sees one stream
    part of a body   it is cut
Where no other replica takes requests, but one will (it is being started again), the request waits for it.
"""

from __future__ import annotations

from abc import abstractmethod

import structlog

from inferry.core.errors import (
    EngineAborted,
    EngineBroke,
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    InferryError,
)
from inferry.core.outcome import Ending
from inferry.core.request import Route
from inferry.gateway.attempts import another, has_ready_besides, spent
from inferry.gateway.edge import Arrival
from inferry.gateway.errors import of_replica
from inferry.gateway.host import Host
from inferry.gateway.reservation import reserve
from inferry.gateway.response_head import is_event_stream
from inferry.gateway.resuming import Resuming
from inferry.gateway.token_ids import TokenIds
from inferry.gateway.upstream import Dialing, Headers, UpstreamConnection
from inferry.policy.retry import GiveUp, Retry
from inferry.policy.routing import NoReplica
from inferry.policy.stall import stall_limit_s

log = structlog.get_logger()

_MAY_HAVE_DIED = (EngineUnreachable, EngineBroke, EngineAborted)
_FULL = frozenset({429, 503})
_REFUSED = frozenset({400, 422})


class Trying(Resuming):
    """One replica after the other, until one has answered or there is no hope."""

    __slots__ = ("_head", "_longest_pause_s", "_stale_retried", "_whole_body")

    def __init__(self, gateway: Host, route: Route, arrival: Arrival) -> None:
        super().__init__(gateway, route, arrival)
        self._stale_retried = False
        self._head: tuple[int, bytes, int | None] | None = None
        self._longest_pause_s = 0.0
        self._whole_body: list[bytes] = []
        """Of a short answer that is no stream: sent when it is whole, and until then another replica can give it."""

    # --- the rest of the exchange ---------------------------------------------------------------------

    @abstractmethod
    def on_upstream_head(self, status: int, headers: Headers, length: int | None) -> None: ...

    @abstractmethod
    def on_upstream_data(self, data: bytes, complete: bool) -> None: ...

    @abstractmethod
    def _fail(self, error: InferryError, ending: Ending) -> None: ...

    @abstractmethod
    def _give_up(self, error: InferryError, last: bytes = b"", told: bool = False) -> None: ...

    @abstractmethod
    def _give_up_with(self, error: InferryError, last: bytes) -> None: ...

    # --- trying ---------------------------------------------------------------------------------------

    def _try_next(self) -> None:
        deployment, gateway = self.deployment, self._gateway
        assert deployment is not None
        choice = reserve(self, spent(self._tried, gateway), gateway.now_s(), self._elsewhere)
        if isinstance(choice, NoReplica):
            if not self.attempts and self.entry is not None and self.entry.park_again():
                return  # its model was unloaded between its turn and now
            error = gateway.no_replica(deployment, choice.because)
            if self._elsewhere is None and self._may_wait():
                self._wait()
            elif self.relaying:
                self._give_up(error)
            else:
                self._fail(error, Ending.FAILED)
            return
        if self._waits_since_s is not None:
            self._stop_waiting()
        self.reservation = choice
        self.slot = choice.slot
        self.replica_id = choice.slot.id
        self.attempts += 1
        self.activity_s = gateway.now_s()
        if self.attempts == 1:
            deployment.retry_budget.begin(self.activity_s)
        self.book_slot = gateway.on_sent(self, self.replica_id, self.attempts)
        if self._splice is not None:
            assert self.answer is not None
            self.answer.next_leg(self.book_slot)
            self._leg_reads, self._leg_tokens = self.answer.reads, self.answer.tokens_so_far
        pool = self._pool = gateway.pools[self.replica_id]
        # After one stale connection, no second one: the engine may have closed them all.
        connection = None if self._stale_retried else pool.take_idle()
        if connection is None:
            self._dialing = Dialing(self)
            pool.dial(self._dialing)
        else:
            self._send(connection)

    def on_connected(self, connection: UpstreamConnection) -> None:
        self._dialing = None
        self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        head = b"%b%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (
            connection.pool.heads[self._path], self.arrival.forward, len(self._body),
        )  # fmt: skip
        if self._paused or self._held:
            connection.transport.pause_reading()
        self.sent_s = self._gateway.now_s()
        connection.send(self, head, self._body)

    def on_upstream_failed(self, error: EngineError, stale: bool) -> None:
        if self._ended:
            return
        self._connection = self._dialing = None
        if stale and not self._stale_retried:
            # The engine closed an idle connection just as we used it: the replica may be as well as ever.
            self._stale_retried = True
            self.attempts -= 1
            self._start_over()
            return
        self._on_failure(error)

    def _on_failure(self, error: EngineError, last: bytes = b"", reads: int | None = None) -> None:
        """Of one attempt. With `reads`: an answer of so many reads was ended, by `last`, and is none."""
        assert self.replica_id is not None
        self._gateway.on_replica_failure(self.replica_id, error.message)
        if self.whole:  # only its connection did not end as it should
            self._pass_on(b"", True)
            return
        self._lost_replica = isinstance(error, _MAY_HAVE_DIED)
        decision = self._go_on(error, reads) if self.relaying else self._decide_retry()
        if isinstance(decision, GiveUp):
            told = of_replica(error, self.replica_id, decision.because, self.relaying)
            self._count_given_up(error)
            if reads is None:
                self._give_up(told)
            else:
                self._give_up_with(told, last)
        elif not self.relaying:
            self._start_over()

    def _on_next_head(self, status: int, headers: Headers) -> None:
        """Of a replica that was asked to go on with a stream."""
        if status == 200 and is_event_stream(headers):
            return
        self._leave()
        error = EngineBroke(f"it does not go on with the answer (status {status})")
        if status in _FULL:  # it is well, and takes no more now: the same to the next one
            assert self.replica_id is not None
            assert self._pool is not None
            self._tried[self.replica_id] = self._pool
            self._full.add(self.replica_id)
            self._lost_replica = True
            self._release_slot(failed=False)
            self._try_next()
            return
        if status not in _REFUSED or self._refuses_text:
            self._on_failure(error)
            return
        # It is well, and takes no partial answers: a template may insist on the user's turn.
        self._refuses_text = True
        decision = self._go_on(error, None, again=True)
        if isinstance(decision, GiveUp):
            assert self.replica_id is not None
            self._count_given_up(error)
            self._give_up(of_replica(error, self.replica_id, decision.because, answer_begun=True))

    def _start_over(self) -> None:
        """Nothing of this attempt may reach the client any more; the next replica, please."""
        self._release_slot()
        if self._splice is None:
            self._release_out()
            self.answer = None
            self._whole_body.clear()
            if self._ids is not None:  # what it told, nobody got
                self._ids = TokenIds()
        self._try_next()

    def _decide_retry(self) -> Retry | GiveUp:
        """Whether another replica shall take what this one did not answer."""
        assert self.replica_id is not None
        assert self._pool is not None
        self._tried[self.replica_id] = self._pool
        self._head = None
        decision = another(self, self._tried, self._gateway, may_wait=self._may_wait())
        if isinstance(decision, Retry) and not self._may_try_more():
            return GiveUp("too much fails now to try another one (failover.load_factor_max)")
        return decision

    # --- going on at another replica ------------------------------------------------------------------

    def hand_over(self, replica_id: str, because: str) -> None:
        """Go on at another replica, if it is at this one and if that can be; where there is none, at the fallback."""
        is_there = self._connection is not None or self._dialing is not None
        is_here = not self._ended and self.replica_id == replica_id and is_there
        if not is_here or self.whole or self._stays:
            return
        assert self.deployment is not None
        left = [*spent(self._tried, self._gateway), replica_id]
        fallback = self.course.upcoming if self.course is not None and not self.relaying else None
        # It may only be a pause: whoever can't answer now is no better than a replica that may go on.
        can_fall_back = fallback is not None and has_ready_besides(fallback, ())
        if can_fall_back and not has_ready_besides(self.deployment, left):
            self._give_up(EngineBroke(because))
        else:
            self._move_on(EngineBroke(because))

    def _look_for_stall(self, now_s: float) -> None:
        """Once a second, of a stream that flows."""
        assert self.deployment is not None
        assert self.replica_id is not None
        failover = self.deployment.failover
        if (
            self._connection is None
            or self._stays
            or self.activity_s <= self.sent_s
            or self._paused
            or self._held
            or self.whole
        ):
            return
        limit_s = stall_limit_s(self._longest_pause_s, failover.stall_after_s, failover.stall_factor)
        if now_s - self.activity_s > limit_s:
            # No failure of the replica's: it may be busy with one long prompt. That is for health to judge.
            self._move_on(EngineTimeout(f"it has sent nothing for {limit_s:.0f} s"))

    def _move_on(self, error: EngineError) -> None:
        """Leave a replica that has not failed, if there is another one that can go on."""
        assert self.replica_id is not None
        assert self.deployment is not None
        left = [*spent(self._tried, self._gateway), self.replica_id]
        if not has_ready_besides(self.deployment, left) and self._who_else() is None:
            return
        self._lost_replica = False
        if not self.relaying:
            head = self._head
            if isinstance(self._decide_retry(), Retry):
                self._leave()
                self._start_over()
            else:
                self._head = head  # it stays, and may have been answered in part
            return
        self._go_on(error, None)
