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

from inferry.core.errors import EngineBroke, EngineError, EngineTimeout, EngineUnreachable, InferryError
from inferry.core.outcome import Ending
from inferry.core.request import Route
from inferry.engines.continuation import NOWHERE
from inferry.gateway.attempts import another, has_ready_besides, in_flight, spent
from inferry.gateway.edge import Arrival
from inferry.gateway.errors import of_replica
from inferry.gateway.holding import Holding
from inferry.gateway.host import Host
from inferry.gateway.next_leg import TOKEN_IDS, NotResumed, next_leg
from inferry.gateway.reservation import reserve
from inferry.gateway.response_head import is_event_stream
from inferry.gateway.served import ServedDeployment
from inferry.gateway.sound_part import sound_part
from inferry.gateway.splice import Splice
from inferry.gateway.sse import DONE
from inferry.gateway.token_ids import TokenIds
from inferry.gateway.upstream import Headers, UpstreamConnection, UpstreamPool
from inferry.policy.retry import GiveUp, Retry, decide_resume
from inferry.policy.routing import NoReplica
from inferry.policy.stall import stall_limit_s

log = structlog.get_logger()

_MAY_HAVE_DIED = (EngineUnreachable, EngineBroke)


class Trying(Holding):
    """One replica after the other, until one has answered or there is no hope."""

    __slots__ = (
        "_asked", "_body", "_elsewhere", "_head", "_ids", "_longest_pause_s", "_path", "_pool", "_refuses_text", "_splice",
        "_stale_retried", "_stays", "_tried", "_whole_body",
    )  # fmt: skip

    def __init__(self, gateway: Host, route: Route, arrival: Arrival) -> None:
        super().__init__(gateway, route, arrival)
        self._asked = b""
        """What the first replica was asked."""
        self._body = b""
        """What this one is asked."""
        self._path = route.path
        """Where."""
        self._ids: TokenIds | None = None
        """Of a stream whose engine was asked for them."""
        self._tried: dict[str, UpstreamPool] = {}
        self._pool: UpstreamPool | None = None
        self._stale_retried = False
        self._head: tuple[int, bytes, int | None] | None = None
        self._splice: Splice | None = None
        """Makes what comes now the rest of what was sent before."""
        self._refuses_text = False
        """Replicas of this deployment do not go on with a text."""
        self._elsewhere: ServedDeployment | None = None
        """A deployment that goes on with what another one began, for the client that is one stream of the first."""
        self._stays = False
        """What it asks for can't be gone on with."""
        self._longest_pause_s = 0.0
        self._whole_body: list[bytes] = []
        """Of a short answer that is no stream: sent when it is whole, and until then another replica can give it."""

    # --- the rest of the exchange ---------------------------------------------------------------------

    @abstractmethod
    def on_upstream_head(self, status: int, headers: Headers, length: int | None) -> None: ...

    @abstractmethod
    def on_upstream_data(self, data: bytes, complete: bool) -> None: ...

    @abstractmethod
    def forward(self, data: bytes, complete: bool) -> None: ...

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
        pool = self._pool = gateway.pools[self.replica_id]
        # After one stale connection, no second one: the engine may have closed them all.
        connection = None if self._stale_retried else pool.take_idle()
        if connection is None:
            pool.dial(self)
        else:
            self._send(connection)

    def on_connected(self, connection: UpstreamConnection) -> None:
        if self._ended:
            connection.pool.put_back(connection)
            return
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
        self._connection = None
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
        if status >= 500 or self._refuses_text:
            self._on_failure(error)
            return
        # It is well, and takes no partial answers: a template may insist on the user's turn.
        self._refuses_text = True
        decision = self._go_on(error, None)
        if isinstance(decision, GiveUp):
            assert self.replica_id is not None
            self._give_up(of_replica(error, self.replica_id, decision.because, answer_begun=True))

    def _start_over(self) -> None:
        """Nothing of this attempt may reach the client any more; the next replica, please."""
        self._release_slot()
        if self._splice is None:
            self._release_out()
            self.answer = None
            self._whole_body.clear()
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

    def _may_try_more(self) -> bool:
        deployment = self.deployment
        assert deployment is not None
        return deployment.retry_budget.take(
            self._gateway.now_s(), in_flight(deployment), deployment.failover.load_factor_max
        )

    # --- going on at another replica ------------------------------------------------------------------

    def hand_over(self, replica_id: str, because: str) -> None:
        """Go on at another replica, if it is at this one and if that can be."""
        is_here = not self._ended and self.replica_id == replica_id and self._connection is not None
        if not is_here or self.whole or self._stays:
            return
        self._move_on(EngineBroke(because))

    def _look_for_stall(self, now_s: float) -> None:
        """Once a second, of a stream that flows."""
        assert self.deployment is not None
        assert self.replica_id is not None
        failover = self.deployment.failover
        if self._stays or self.activity_s <= self.sent_s or self._paused or self._held or self.whole:
            return
        limit_s = stall_limit_s(self._longest_pause_s, failover.stall_after_s, failover.stall_factor)
        if now_s - self.activity_s > limit_s and has_ready_besides(self.deployment, self.replica_id):
            error = EngineTimeout(f"it has sent nothing for {limit_s:.0f} s")
            self._gateway.on_replica_failure(self.replica_id, error.message)
            self._move_on(error)

    def _move_on(self, error: EngineError) -> None:
        """Leave a replica that has not failed, if there is another one that can go on."""
        assert self.replica_id is not None
        assert self.deployment is not None
        if not has_ready_besides(self.deployment, self.replica_id) and self._who_else() is None:
            return
        if not self.relaying:
            head = self._head
            if isinstance(self._decide_retry(), Retry):
                self._leave()
                self._start_over()
            else:
                self._head = head  # it stays, and may have been answered in part
            return
        self._go_on(error, None)

    def _go_on(self, error: EngineError, reads: int | None) -> Retry | GiveUp:
        """A stream that has begun: another replica goes on, or why not. Of what has come since there were `reads`, the
        sound part still goes to the client."""
        answer, deployment, request = self.answer, self.deployment, self.request
        assert answer is not None
        assert deployment is not None
        assert request is not None
        assert self._pool is not None
        assert self.replica_id is not None
        if self.whole or not answer.is_stream:
            return GiveUp("part of the answer has gone out")
        decision = decide_resume(
            wanted=deployment.failover.resume,
            resumes=self.resumes,
            resumes_max=deployment.failover.resumes_max,
        )
        if isinstance(decision, GiveUp):
            return decision
        sound = b""
        if reads is not None:
            answer.finish_reason()  # for the outcome, if it ends here
            taken = answer.take_back(reads)
            answer.discard()
            if sound := sound_part(taken):
                sound = answer.feed(sound)
        delivered = answer.delivered()
        if delivered is None:
            return GiveUp("part of the answer has gone out")
        if delivered.is_told:
            self._end_stream(sound)
            return decision
        ids = None if self._ids is None else self._ids.told
        tokens = answer.tokens_delivered() if ids is None else ids
        elsewhere = self._who_else()
        at = elsewhere or deployment
        continuation = NOWHERE if self._refuses_text else at.continuation
        model = None if elsewhere is None else elsewhere.upstream_model
        exact = None if self._ids is None or elsewhere is not None else self._ids.so_far
        asks_ids = self._ids is not None
        leg = next_leg(
            self.route, self._asked, delivered, tokens, continuation, model, asks_ids=asks_ids, ids=exact
        )
        if isinstance(leg, NotResumed):
            self._gateway.metrics.count_resume(deployment.name, error.code, None)
            self._stays = True
            return GiveUp(f"part of the answer has gone out, and {leg.because}")
        if not self._may_try_more():
            return GiveUp(
                "part of the answer has gone out, and too much fails now (failover.load_factor_max)"
            )
        self._leave()
        if sound:
            self._pass_on(sound, False)
        if self._ended:  # by a filter
            return decision
        self.resumes += 1
        self._gateway.metrics.count_resume(deployment.name, error.code, leg.way)
        log.info(
            "stream_resumed",
            request=self.arrival.id,
            deployment=deployment.name,
            left=self.replica_id,
            because=error.message,
            by=leg.way,
            tokens=tokens,
        )
        if not self._refuses_text:
            self._tried[self.replica_id] = self._pool
        self._splice, self._body, self._elsewhere = leg.splice, leg.body, elsewhere
        self._path = leg.route.path
        if self._ids is not None:
            self._ids.next_leg(exact=leg.way == TOKEN_IDS)
        self._start_over()
        return decision

    def _end_stream(self, sound: bytes) -> None:
        """All is said but [DONE]."""
        assert self.answer is not None
        self._leave()
        self.whole = True
        self.answer.discard()
        self._pass_on(sound + self.answer.feed(DONE), True)

    def _who_else(self) -> ServedDeployment | None:
        """Another deployment with the same model, if this one has no other replica now."""
        deployment, course = self.deployment, self.course
        assert deployment is not None
        assert self.request is not None
        left = [*spent(self._tried, self._gateway), self.replica_id or ""]
        if course is None or deployment.balancer.usable(left) or self.request.model in deployment.lora_models:
            return None
        return next((each for each in course.peers if each.balancer.usable(left)), None)

    def _pass_on(self, events: bytes, complete: bool) -> None:
        if self._out is None:
            self.forward(events, complete)
        else:
            self._out.feed(events, complete)
