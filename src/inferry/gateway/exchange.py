"""One request from its last byte in to its last byte out: decode, let in, route, relay, and end in one outcome.

    open ───── refused by its head ──────────────────────────────────► ended
    begin ──── rejected ─────────────────────────────────────────────► ended
      └─► entering ── refused by a filter, a limit or the queue ─────► ended
            └─► trying ── first piece of body ► relaying ── last byte ► ended
                 │  ▲ └─ no replica, or given up   │ ▲ └─ given up ──► ended
                 └──┘ a replica failed: the next   └─┘ the next goes on
    from anywhere: the client went away ─────────────────────────────► ended

Callbacks only, on one event loop's thread: no task, no await, no lock. `_end` is reached exactly once, on every
path, before the answer's last byte goes out: the outcome is in the journal when the client has its answer.
"""

from __future__ import annotations

from inferry.core.errors import (
    EngineBroke,
    EngineError,
    EngineStreamError,
    EngineTimeout,
    InferryError,
    Rejected,
)
from inferry.core.outcome import Ending
from inferry.core.request import Route
from inferry.gateway.account import ending_of, outcome_of
from inferry.gateway.answer import Answer
from inferry.gateway.decode import body_for_engine, decode_request
from inferry.gateway.edge import Arrival
from inferry.gateway.entering import Entering
from inferry.gateway.errors import render_error, render_error_event
from inferry.gateway.host import Host
from inferry.gateway.next_leg import RESUMABLE
from inferry.gateway.outgoing import way_out
from inferry.gateway.response_head import own_lines, refusal_lines, relayed_head
from inferry.gateway.sink import ClientSink
from inferry.gateway.sound_part import sound_part
from inferry.gateway.sse import without_done
from inferry.gateway.token_ids import TokenIds, with_token_ids
from inferry.gateway.upstream import Headers
from inferry.policy.retry import Retry

RETRIED = frozenset({500, 502, 503, 504})
"""What an engine may answer that another one need not. If all do, the client gets the last one's own words."""
WHOLE_BYTES_MAX = 256 * 1024
"""Of an answer that is no stream: above that, it goes on as it comes."""


class Exchange(Entering):
    """The life of one inference request. A front creates it, feeds it, and gives it a sink."""

    __slots__ = ("_sink",)

    def __init__(self, gateway: Host, sink: ClientSink, route: Route, arrival: Arrival) -> None:
        super().__init__(gateway, route, arrival)
        self._sink = sink

    # --- from the front -------------------------------------------------------------------------------

    def open(self) -> InferryError | None:
        """The head is here. Why the request is refused already, for the front to hand to `reject`; None: go on."""
        try:
            if self.arrival.refusal is not None:
                raise self.arrival.refusal
            self.caller = self._gateway.callers.find(self.arrival)
        except Rejected as error:
            return error.with_traceback(None)  # it holds this frame, and whoever calls us holds it: a cycle
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
            self.request = decode_request(self.route, body, self.arrival.request_id, names)
            deployment = gateway.public_names.destination(self)
        except Rejected as error:
            self._fail(error, Ending.REJECTED)
            return
        self._enter(deployment)

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

    # --- from the gateway -----------------------------------------------------------------------------

    def check(self, now_s: float) -> None:
        """Once a second: end the request if its engine (or a client that does not read) was silent for too long."""
        settings = self._gateway.settings
        if self._waits_since_s is not None:
            self.look_again()
            return
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
            assert self.replica_id is not None
            self._gateway.on_replica_failure(self.replica_id, f"it was silent for {limit_s:g} s {what}")
            self._give_up(EngineTimeout(f"The engine was silent for {limit_s:g} s {what}."))
        elif self.relaying:
            self._look_for_stall(now_s)

    def abort(self, error: InferryError) -> None:
        """The gateway goes down: end with `error` now."""
        if not self._ended:
            self.course = None  # nobody else shall begin with it
            self._give_up(error)

    # --- entering -------------------------------------------------------------------------------------

    def on_refused(self, error: InferryError) -> None:
        """A filter, a limit or the queue says no, or its model can't be loaded."""
        self._fail(error, Ending.REJECTED if isinstance(error, Rejected) else Ending.FAILED)

    def on_entered(self) -> None:
        """Nothing stands in the way any more."""
        request, deployment = self.request, self.deployment
        assert request is not None
        assert deployment is not None
        assert self.entry is not None
        self.activity_s = self._gateway.now_s()
        self._path = self.route.path  # a front knows its route only now
        if self.entered_s is None:  # the time at a deployment that it had to leave was no waiting
            self.entered_s = self.activity_s
        try:
            self._body = self._asked = body_for_engine(
                request,
                deployment.lora_models.get(request.model, deployment.upstream_model),
                deployment.asks_usage,
                self.entry.length_max,
                deployment.tokenize_field,
            )
            if deployment.asks_token_ids and request.stream and self.route in RESUMABLE:
                self._ask_for_ids()
        except Rejected as error:
            self._fail(error, Ending.REJECTED)
            return
        if self.course is not None:
            self.course.on_entered(request, self.arrival)
        self._try_next()

    def _ask_for_ids(self) -> None:
        body = with_token_ids(self._asked)
        if body is not None:
            self._body = self._asked = body
            self._ids = TokenIds()

    # --- relaying -------------------------------------------------------------------------------------

    def on_upstream_head(self, status: int, headers: Headers, length: int | None) -> None:
        deployment, request = self.deployment, self.request
        assert deployment is not None
        assert request is not None
        assert self.replica_id is not None
        if self._splice is not None:
            self._on_next_head(status, headers)
            return
        if status >= 500 and status != 503:  # that is loading, or full: no more
            self._gateway.on_replica_failure(self.replica_id, f"it answered with status {status}")
        self._lost_replica = False
        if status in RETRIED and isinstance(self._decide_retry(), Retry):
            # Loading, full, or broken: somebody else may not be.
            self._leave()
            self._start_over()
            return
        if status >= 500 and self._go_elsewhere(EngineBroke(f"it answered with status {status}")):
            return
        self.status = status
        lines, is_events = relayed_head(headers, self.arrival.id_line, self.replica_id)
        drop_usage = deployment.asks_usage and self.route.asks_usage and not request.client_wants_usage
        assert self.book_slot is not None
        resumable = deployment.failover.resume and self.route in RESUMABLE
        self.answer = Answer(request, is_events, drop_usage, self._gateway.counts, self.book_slot, resumable)
        # Kept until there is something to send: engines send a head at once and compute the prompt then, and
        # until the client has seen anything, another replica can take the request.
        self._head = (status, lines, None if is_events else length)
        self._out = way_out(self, self, self._gateway)

    def on_upstream_data(self, data: bytes, complete: bool) -> None:
        if self._ended:
            return
        now_s = self._gateway.now_s()
        if self.relaying and now_s - self.activity_s > self._longest_pause_s:
            self._longest_pause_s = now_s - self.activity_s
        self.activity_s = now_s
        if self.reservation is not None and not self.reservation.answered:
            self.reservation.on_first_byte(now_s)
        answer = self.answer
        assert answer is not None
        reads = answer.reads
        if self._ids is not None:
            data = self._ids.feed(data) + (self._ids.finish() if complete else b"")
        if self._splice is not None:
            data = self._splice.feed(data) + (self._splice.finish() if complete else b"")
            if self._splice.differs is not None:
                self._leave()
                self._give_up(
                    EngineBroke(f"Another replica was asked once more, and {self._splice.differs}.")
                )
                return
        if data:
            data = answer.feed(data)
        if complete:
            self._connection = None
            data += answer.finish()
        if (complete or answer.worth_a_look) and not self.whole:
            over = complete or answer.done
            assert self.deployment is not None
            failure = None if self.status >= 400 else answer.failure(over, self.deployment.reason_needed)
            if failure is not None:
                self._on_no_answer(data, failure, reads)
                return
            self.whole = over
        if self._out is not None:
            self._out.feed(data, complete)
        elif answer.is_stream or self.relaying or (complete and not self._whole_body):
            self.forward(data, complete)
        else:
            self._collect(data, complete)

    def _on_no_answer(self, last: bytes, failure: InferryError, reads: int) -> None:
        """The engine has ended its answer, or begun it with an error, and it is none; `last` came with its end, when
        there had been so many `reads`."""
        self._leave()
        if isinstance(failure, EngineError):
            self._on_failure(failure, last, reads)
        else:
            self._give_up_with(failure, last)

    def _collect(self, data: bytes, complete: bool) -> None:
        """A short answer goes on when it is whole: until then, another replica can give it."""
        body = self._whole_body
        body.append(data)
        if complete or sum(map(len, body)) > WHOLE_BYTES_MAX:
            data = b"".join(body)
            body.clear()
            self.forward(data, complete)

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
        if self.answer is not None and self.answer.is_stream and self.deployment is not None:
            self.deployment.demand.observe_first_token(self.first_byte_s - self.received_s)
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

    # --- endings --------------------------------------------------------------------------------------

    def _give_up_with(self, error: InferryError, last: bytes) -> None:
        """`last` came with the end of an answer that is none."""
        answer = self.answer
        assert answer is not None
        # An error frame of its own goes on as it came; an answer that is no stream says why it ends.
        told = not answer.is_stream or isinstance(error, EngineStreamError | Rejected)
        if answer.is_stream and self.relaying:
            last = sound_part(last) if isinstance(error, EngineBroke) else without_done(last)
            if self._out is not None:
                self._out.feed(last, False)
                last, told = b"", False
        if not self._ended:  # by a filter
            self._give_up(error, last, told)

    def _give_up(self, error: InferryError, last: bytes = b"", told: bool = False) -> None:
        """No answer, or no rest of it. The client still gets `last`; `told`: that tells it of the error."""
        ending = Ending.REJECTED if isinstance(error, Rejected) else Ending.FAILED
        if not self.relaying:
            self._fail(error, ending)
            return
        if self.whole and self._out is None:  # only its connection did not end as it should
            self.forward(b"", True)
            return
        answer = self.answer
        assert answer is not None
        self._end(ending, self.status, error.code)
        if answer.is_stream:
            answer.discard()
            self._sink.end(last if told else last + render_error_event(error, self.route.dialect))
        elif told:
            self._sink.end(last)
        else:
            self._sink.cut()

    def _fail(self, error: InferryError, ending: Ending) -> None:
        if self._go_elsewhere(error):
            return
        body = render_error(error, self.route.dialect)
        lines = refusal_lines(self, self._gateway, error)
        self._end(ending, error.status, error.code)
        self._sink.start(error.status, lines, len(body))
        self._sink.end(body)

    def _end(self, ending: Ending, status: int, error_code: str | None) -> None:
        """The one place where a request ends."""
        assert not self._ended, f"{self.arrival.id} ended twice"
        self._ended = True
        gateway = self._gateway
        gateway.active.discard(self)
        self._leave()
        self._release_slot(failed=ending is Ending.FAILED)
        self._release_out()
        if self._waits_since_s is not None:
            self._stop_waiting()
        outcome = outcome_of(self, ending, status, error_code, gateway.now_s())
        if self.entry is not None:
            self.entry.settle(outcome.prompt_tokens or 0, outcome.completion_tokens or 0, outcome.cost_nano)
        gateway.on_outcome(self, outcome)
        # They refer back to this: without the cycle, all of it is freed now, and not by the collector some day.
        self.entry = None
