"""One request from its last byte in to its last byte out: decode, let in, route, relay, and end in one outcome.

    open ───── refused by its head ──────────────────────────────────► ended
    begin ──── rejected ─────────────────────────────────────────────► ended
      └─► entering ── refused by a filter, a limit or the queue ─────► ended
            └─► trying ── first piece of body ► relaying ── last byte ► ended
                 │  ▲ └─ no replica, or given up ────────────────────► ended
                 └──┘ a replica failed before the answer began: the next one
    from anywhere: the client went away ─────────────────────────────► ended

Callbacks only, on one event loop's thread: no task, no await, no lock. `_end` is reached exactly once, on every
path, before the answer's last byte goes out: the outcome is in the journal when the client has its answer.
"""

from __future__ import annotations

from inferry.core.errors import (
    EngineError,
    EngineTimeout,
    InferryError,
    Rejected,
)
from inferry.core.outcome import Ending
from inferry.core.request import Route
from inferry.gateway.account import Account, ending_of, outcome_of
from inferry.gateway.answer import Answer
from inferry.gateway.decode import body_for_engine, decode_request
from inferry.gateway.edge import Arrival
from inferry.gateway.entry import Entry
from inferry.gateway.errors import of_replica, render_error, render_error_event
from inferry.gateway.host import Host
from inferry.gateway.outgoing import StreamOut, WholeOut, way_out
from inferry.gateway.response_head import own_lines, refusal_lines, relayed_head
from inferry.gateway.sink import ClientSink
from inferry.gateway.upstream import Headers, UpstreamConnection, UpstreamPool
from inferry.ledger.keyring import require_deployment
from inferry.policy.retry import GiveUp, Retry, decide_retry
from inferry.policy.routing import NoReplica


class Exchange(Account):
    """The life of one inference request. A front creates it, feeds it, and gives it a sink."""

    __slots__ = (
        "_body", "_connection", "_ended", "_gateway", "_head", "_held", "_out", "_paused", "_pool", "_sink", "_stale_retried", "_tried",
        "activity_s",
    )  # fmt: skip

    def __init__(self, gateway: Host, sink: ClientSink, route: Route, arrival: Arrival) -> None:
        super().__init__(route, arrival)
        self.activity_s = 0.0
        self._gateway = gateway
        self._sink = sink
        self._connection: UpstreamConnection | None = None
        self._out: StreamOut | WholeOut | None = None
        self._held = False
        self._body = b""
        self._tried: dict[str, UpstreamPool] = {}
        self._pool: UpstreamPool | None = None
        self._stale_retried = False
        self._head: tuple[int, bytes, int | None] | None = None
        self._ended = False
        self._paused = False

    # --- from the front -------------------------------------------------------------------------------

    def open(self) -> InferryError | None:
        """The head is here. Why the request is refused already, for the front to hand to `reject`; None: go on."""
        try:
            if self.arrival.refusal is not None:
                raise self.arrival.refusal
            self.caller = self._gateway.callers.find(self.arrival)
        except Rejected as error:
            return error
        return None

    def begin(self, body: bytes) -> None:
        """The whole body is here."""
        gateway = self._gateway
        gateway.active.add(self)
        self._stamp()
        caller = self.caller
        assert caller is not None
        try:
            names = gateway.names_for(caller.key)
            request = self.request = decode_request(self.route, body, self.arrival.request_id, names)
            deployment = self.deployment = gateway.deployment_for(request.model, caller.key)
            if caller.key is not None and caller.key.deployments is not None:
                require_deployment(caller.key, deployment.name)
            deployment.require_route(self.route, request.model)
        except Rejected as error:
            self._fail(error, Ending.REJECTED)
            return
        self.entry = Entry(self, gateway, caller, deployment, request)
        self.entry.begin()

    def reject(self, error: InferryError) -> None:
        """The front will not take the request (too large, too slow, no key): answer `error` and end."""
        self._stamp()
        self._fail(error, Ending.REJECTED)

    def _stamp(self) -> None:
        self.received_s = self.activity_s = self._gateway.now_s()
        self.received_wall_s = self._gateway.wall_s()

    def on_client_lost(self) -> None:
        """The client went away. Whatever the engine still does is in vain: stop it."""
        if not self._ended:
            if not self.received_s:  # before its body was here
                self._stamp()
            self._end(Ending.CANCELLED, 499, "client_disconnected")

    def pause(self) -> None:
        """The client reads more slowly than the engine writes."""
        self._paused = True
        self.activity_s = self._gateway.now_s()
        self._read_or_not()

    def resume(self) -> None:
        self._paused = False
        self.activity_s = self._gateway.now_s()
        self._read_or_not()

    # --- from the gateway -----------------------------------------------------------------------------

    def check(self, now_s: float) -> None:
        """Once a second: end the request if its engine (or a client that does not read) was silent for too long."""
        settings = self._gateway.settings
        if self.slot is None or self._ended:
            return
        if self.answer is not None and self.entry is not None:
            self.entry.progress(self.answer.tokens_so_far)
        if self._paused:
            if now_s - self.activity_s > settings.idle_timeout_s:
                self._end(Ending.CANCELLED, self.status, "client_not_reading")
                self._sink.cut()
            return
        limit_s = settings.idle_timeout_s if self.relaying else settings.first_byte_timeout_s
        if now_s - self.activity_s > limit_s:
            what = "in the middle of the answer" if self.relaying else "before the answer began"
            self._give_up(EngineTimeout(f"The engine was silent for {limit_s:g} s {what}."))

    def abort(self, error: InferryError) -> None:
        """The gateway goes down: end with `error` now."""
        if not self._ended:
            self._give_up(error)

    # --- entering -------------------------------------------------------------------------------------

    def on_refused(self, error: InferryError) -> None:
        """A filter, a limit or the queue says no."""
        self._fail(error, Ending.REJECTED)

    def on_entered(self) -> None:
        """Nothing stands in the way any more."""
        request, deployment = self.request, self.deployment
        assert request is not None
        assert deployment is not None
        assert self.entry is not None
        self.entered_s = self.activity_s = self._gateway.now_s()
        try:
            self._body = body_for_engine(
                request, deployment.upstream_model, deployment.asks_usage, self.entry.length_max
            )
        except Rejected as error:
            self._fail(error, Ending.REJECTED)
            return
        self._try_next()

    # --- trying ---------------------------------------------------------------------------------------

    def _try_next(self) -> None:
        deployment = self.deployment
        assert deployment is not None
        choice = deployment.balancer.choose(self._spent())
        if isinstance(choice, NoReplica):
            self._fail(self._gateway.no_replica(deployment, choice.because), Ending.FAILED)
            return
        self.slot = choice
        self.replica_id = choice.id
        self.attempts += 1
        self.book_slot = self._gateway.on_sent(self, choice.id, self.attempts)
        pool = self._pool = self._gateway.pools[choice.id]
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
            connection.pool.head(self.route.path), self.arrival.forward, len(self._body),
        )  # fmt: skip
        if self._paused:
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
        assert self.replica_id is not None
        self._gateway.on_replica_failure(self.replica_id, error.message)
        decision = self._decide_retry()
        if isinstance(decision, Retry):
            self._start_over()
            return
        self._give_up(of_replica(error, self.replica_id, decision.because, self.relaying))

    def _start_over(self) -> None:
        """Nothing of this attempt may reach the client any more; the next replica, please."""
        self._release()
        self.answer = None
        self._try_next()

    def _decide_retry(self) -> Retry | GiveUp:
        """Whether another replica shall take what this one did not answer."""
        assert self.deployment is not None
        assert self.replica_id is not None
        assert self._pool is not None
        self._tried[self.replica_id] = self._pool
        self._head = None
        return decide_retry(
            answer_begun=self.relaying,
            attempts=self.attempts,
            attempts_max=self._gateway.settings.attempts_max,
            others=self.deployment.balancer.usable(self._spent()),
        )

    def _spent(self) -> list[str]:
        """Replicas that failed this request and are still what they were; one that has restarted since, with
        another endpoint and so another pool, is as good as any."""
        pools = self._gateway.pools
        return [replica_id for replica_id, pool in self._tried.items() if pools.get(replica_id) is pool]

    # --- relaying -------------------------------------------------------------------------------------

    def on_upstream_head(self, status: int, headers: Headers, length: int | None) -> None:
        deployment, request = self.deployment, self.request
        assert deployment is not None
        assert request is not None
        assert self.replica_id is not None
        if status == 503 and isinstance(self._decide_retry(), Retry):
            # Loading, or full: somebody else may not be.
            if self._connection is not None:
                self._connection.abandon()
                self._connection = None
            self._start_over()
            return
        self.status = status
        lines, is_events = relayed_head(headers, self.arrival.id_line, self.replica_id)
        drop_usage = deployment.asks_usage and self.route.asks_usage and not request.client_wants_usage
        assert self.book_slot is not None
        self.answer = Answer(request, is_events, drop_usage, self._gateway.counts, self.book_slot)
        # Kept until there is something to send: engines send a head at once and compute the prompt then, and
        # until the client has seen anything, another replica can take the request.
        self._head = (status, lines, None if is_events else length)
        self._out = way_out(self, self, self._gateway)

    def on_upstream_data(self, data: bytes, complete: bool) -> None:
        if self._ended:
            return
        self.activity_s = self._gateway.now_s()
        answer = self.answer
        assert answer is not None
        if data:
            data = answer.feed(data)
        if complete:
            self._connection = None
            self.whole = True
            data += answer.finish()
        if self._out is None:
            self.forward(data, complete)
        else:
            self._out.feed(data, complete)

    def forward(self, data: bytes, complete: bool) -> None:
        """Send on what the client may have."""
        if self._ended:
            return
        if not self.relaying:
            if not data and not complete:
                return
            self._begin_relaying(b"")
        if not complete:
            if data:
                self._sink.write(data)
            return
        self._end(*ending_of(self.status))
        self._sink.end(data)

    def _begin_relaying(self, more_lines: bytes) -> None:
        self.relaying = True
        self.first_byte_s = self._gateway.now_s()
        assert self._head is not None
        status, lines, length = self._head
        self._sink.start(status, lines + own_lines(self, self._gateway) + more_lines, length)

    # --- where somebody looks at the answer first -----------------------------------------------------

    def forward_whole(self, body: bytes, lines: bytes) -> None:
        """The answer, judged; `lines` are more header lines for it."""
        assert self._head is not None
        status, head, _ = self._head
        self._head = (status, head, len(body))
        self._begin_relaying(lines)
        self.forward(body, True)

    def end_filtered(self, data: bytes) -> None:
        """A filter has ended the stream with these last words; the engine may stop."""
        if not self.relaying:
            self._begin_relaying(b"")
        self._end(Ending.COMPLETED, self.status, "content_filter")
        self._sink.end(data)

    def refuse_answer(self, error: InferryError) -> None:
        """The engine has answered, but the client may not have it."""
        self.relaying = True
        self._fail(error, Ending.REJECTED)

    def hold_upstream(self, held: bool) -> None:
        """Too much waits for an outside verdict: don't read more."""
        if held != self._held:
            self._held = held
            self._read_or_not()

    def _read_or_not(self) -> None:
        if self._connection is not None and not self._connection.lost:
            if self._paused or self._held:
                self._connection.transport.pause_reading()
            else:
                self._connection.transport.resume_reading()

    # --- endings --------------------------------------------------------------------------------------

    def _give_up(self, error: InferryError) -> None:
        """No answer, or no rest of it."""
        if not self.relaying:
            self._fail(error, Ending.FAILED)
            return
        answer = self.answer
        assert answer is not None
        self._end(Ending.FAILED, self.status, error.code)
        if answer.is_stream:
            answer.discard()
            self._sink.end(render_error_event(error, self.route.dialect))
        else:
            self._sink.cut()

    def _fail(self, error: InferryError, ending: Ending) -> None:
        body = render_error(error, self.route.dialect)
        lines = refusal_lines(self, self._gateway, error)
        self._end(ending, error.status, error.code)
        self._sink.start(error.status, lines, len(body))
        self._sink.end(body)

    def _release(self) -> None:
        if self.slot is not None:
            assert self.deployment is not None
            self.deployment.balancer.release(self.slot)
            self.slot = None
        if self._out is not None:
            self._out.cancel()
            self._out = None
        self._held = False

    def _end(self, ending: Ending, status: int, error_code: str | None) -> None:
        """The one place where a request ends."""
        assert not self._ended, f"{self.arrival.id} ended twice"
        self._ended = True
        gateway = self._gateway
        gateway.active.discard(self)
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None
        self._release()
        outcome = outcome_of(self, ending, status, error_code, gateway.now_s())
        if self.entry is not None:
            self.entry.settle(outcome.prompt_tokens or 0, outcome.completion_tokens or 0, outcome.cost_nano)
        gateway.on_outcome(self, outcome)
        # They refer back to this: without the cycle, all of it is freed now, and not by the collector some day.
        self.entry = None
