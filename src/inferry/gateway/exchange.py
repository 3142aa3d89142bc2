"""One request from its last byte in to its last byte out: decode, route, relay, and end in one outcome.

    begin ── rejected ───────────────────────────────────────────────► ended
      └─► trying ── first piece of body ► relaying ── last byte ─────► ended
           │  ▲ └─ no replica, or given up ──────────────────────────► ended
           └──┘ a replica failed before the answer began: the next one
    from anywhere: the client went away ─────────────────────────────► ended

Everything here runs in callbacks of the event loop, without tasks or awaits: a chunk from the engine goes out
to the client in the call stack in which it came in.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from inferry.core.clock import Clock
from inferry.core.errors import (
    EngineError,
    EngineTimeout,
    InferryError,
    NoReadyReplica,
    Rejected,
    UnsupportedRoute,
)
from inferry.core.gateway_settings import Gateway as GatewaySettings
from inferry.core.outcome import Ending, Outcome
from inferry.core.request import InferenceRequest, Route
from inferry.gateway.decode import body_for_engine, decode_request
from inferry.gateway.errors import error_headers, render_error, render_error_event
from inferry.gateway.response_head import relayed_head
from inferry.gateway.served import ServedDeployment
from inferry.gateway.sink import ClientSink
from inferry.gateway.sse import EventGate
from inferry.gateway.upstream import Headers, UpstreamConnection, UpstreamPool
from inferry.gateway.usage import Usage, read_usage
from inferry.policy.retry import GiveUp, Retry, decide_retry
from inferry.policy.routing import NoReplica, Slot

_NO_REPLICA_RETRY_S = 2.0


class Host(Protocol):
    """What an exchange needs of the gateway around it."""

    settings: GatewaySettings
    clock: Clock
    loop: asyncio.AbstractEventLoop
    pools: dict[str, UpstreamPool]
    active: set[Exchange]
    """Exchanges add and remove themselves."""
    names: Sequence[str]
    on_replica_failure: Callable[[str, str], None]

    def deployment_for(self, model: str) -> ServedDeployment: ...

    def why_none(self, deployment: ServedDeployment, because: str) -> str: ...

    def on_outcome(self, outcome: Outcome) -> None: ...


class Exchange:
    """The life of one inference request. A front creates it, feeds it, and gives it a sink."""

    __slots__ = (
        "_attempts", "_body", "_connection", "_deployment", "_ended", "_first_byte_s", "_first_chunk", "_forward", "_gate",
        "_gateway", "_head", "_is_stream", "_last_chunks", "_paused", "_pool", "_received_wall_s", "_relaying",
        "_replica_id", "_request", "_sink", "_slot", "_stale_retried", "_status", "_tried",
        "activity_s", "received_s", "request_id", "route",
    )  # fmt: skip

    def __init__(
        self, gateway: Host, sink: ClientSink, route: Route, request_id: str, forward_lines: bytes
    ) -> None:
        self._gateway = gateway
        self._sink = sink
        self.route = route
        self.request_id = request_id
        self._forward = forward_lines
        self._request: InferenceRequest | None = None
        self._deployment: ServedDeployment | None = None
        self._slot: Slot | None = None
        self._replica_id: str | None = None
        self._connection: UpstreamConnection | None = None
        self._gate: EventGate | None = None
        self._body = b""
        self._tried: dict[str, UpstreamPool] = {}
        self._pool: UpstreamPool | None = None
        self._attempts = 0
        self._stale_retried = False
        self._head: tuple[int, bytes, int | None] | None = None
        self._first_chunk = b""
        self._relaying = False
        self._ended = False
        self._paused = False
        self._is_stream = False
        self._status = 0
        self._first_byte_s: float | None = None
        self._last_chunks: deque[bytes] = deque(maxlen=4)
        self.received_s = self.activity_s = gateway.loop.time()
        self._received_wall_s = gateway.clock.wall_s()

    # --- from the front -------------------------------------------------------------------------------

    def begin(self, body: bytes) -> None:
        """The whole body is here."""
        gateway = self._gateway
        gateway.active.add(self)
        self.received_s = self.activity_s = gateway.loop.time()
        self._received_wall_s = gateway.clock.wall_s()
        try:
            request = decode_request(self.route, body, self.request_id, gateway.names)
            deployment = gateway.deployment_for(request.model)
            if self.route.path not in deployment.routes:
                raise UnsupportedRoute(
                    f"'{request.model}' runs on {deployment.engine}, which does not serve {self.route.path}. "
                    f"It serves: {', '.join(sorted(deployment.routes))}.",
                    param="model",
                )
            self._body = body_for_engine(request, deployment.upstream_model, deployment.asks_usage)
        except Rejected as error:
            self._fail(error, Ending.REJECTED)
            return
        self._request, self._deployment = request, deployment
        self._try_next()

    def reject(self, error: InferryError) -> None:
        """The front will not take the request (too large, too slow): answer `error` and end."""
        self._fail(error, Ending.REJECTED)

    def on_client_lost(self) -> None:
        """The client went away. Whatever the engine still does is in vain: stop it."""
        if not self._ended:
            self._end(Ending.CANCELLED, 499, "client_disconnected")

    def pause(self) -> None:
        """The client reads more slowly than the engine writes."""
        self._paused = True
        self.activity_s = self._gateway.loop.time()
        if self._connection is not None and not self._connection.lost:
            self._connection.transport.pause_reading()

    def resume(self) -> None:
        self._paused = False
        self.activity_s = self._gateway.loop.time()
        if self._connection is not None and not self._connection.lost:
            self._connection.transport.resume_reading()

    # --- from the gateway -----------------------------------------------------------------------------

    def check_silence(self, now_s: float) -> None:
        """End the request if its engine (or a client that does not read) was silent for too long."""
        settings = self._gateway.settings
        if self._slot is None or self._ended:
            return
        if self._paused:
            if now_s - self.activity_s > settings.idle_timeout_s:
                self._sink.cut()
                self._end(Ending.CANCELLED, self._status, "client_not_reading")
            return
        limit_s = settings.idle_timeout_s if self._relaying else settings.first_byte_timeout_s
        if now_s - self.activity_s > limit_s:
            what = "in the middle of the answer" if self._relaying else "before the answer began"
            self._give_up(EngineTimeout(f"The engine was silent for {limit_s:g} s {what}."))

    def abort(self, error: InferryError) -> None:
        """The gateway goes down: end with `error` now."""
        if not self._ended:
            self._give_up(error)

    # --- trying ---------------------------------------------------------------------------------------

    def _try_next(self) -> None:
        deployment = self._deployment
        assert deployment is not None
        choice = deployment.balancer.choose(self._spent())
        if isinstance(choice, NoReplica):
            self._fail(
                NoReadyReplica(
                    f"'{deployment.name}' has no replica that takes requests now: "
                    f"{self._gateway.why_none(deployment, choice.because)}. Try again soon.",
                    retry_after_s=_NO_REPLICA_RETRY_S,
                ),
                Ending.FAILED,
            )
            return
        self._slot = choice
        self._replica_id = choice.id
        self._attempts += 1
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
        pool = connection.pool
        head = (
            b"POST " + pool.base_path + self.route.path_bytes + b" HTTP/1.1\r\n" + pool.head_lines + self._forward
            + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(self._body)
        )  # fmt: skip
        if self._paused:
            connection.transport.pause_reading()
        connection.send(self, head, self._body)

    def on_upstream_failed(self, error: EngineError, stale: bool) -> None:
        if self._ended:
            return
        self._connection = None
        if stale and not self._stale_retried:
            # The engine closed an idle connection just as we used it: the replica may be as well as ever.
            self._stale_retried = True
            self._release()
            self._attempts -= 1
            self._try_next()
            return
        assert self._replica_id is not None
        self._gateway.on_replica_failure(self._replica_id, error.message)
        decision = self._decide_retry()
        if isinstance(decision, Retry):
            self._release()
            self._try_next()
            return
        self._give_up(
            type(error)(
                f"Replica {self._replica_id} failed: {error.message}; {decision.because}.",
                retry_after_s=None if self._relaying else _NO_REPLICA_RETRY_S,
            )
        )

    def _decide_retry(self) -> Retry | GiveUp:
        """Whether another replica shall take what this one did not answer."""
        assert self._deployment is not None
        assert self._replica_id is not None
        assert self._pool is not None
        self._tried[self._replica_id] = self._pool
        self._head = None
        return decide_retry(
            answer_begun=self._relaying,
            attempts=self._attempts,
            attempts_max=self._gateway.settings.attempts_max,
            others=self._deployment.balancer.usable(self._spent()),
        )

    def _spent(self) -> list[str]:
        """Replicas that failed this request and are still what they were; one that has restarted since, with
        another endpoint and so another pool, is as good as any."""
        pools = self._gateway.pools
        return [replica_id for replica_id, pool in self._tried.items() if pools.get(replica_id) is pool]

    # --- relaying -------------------------------------------------------------------------------------

    def on_upstream_head(self, status: int, headers: Headers, length: int | None) -> None:
        deployment = self._deployment
        assert deployment is not None
        assert self._replica_id is not None
        if status == 503 and isinstance(self._decide_retry(), Retry):
            # Loading, or full: somebody else may not be.
            if self._connection is not None:
                self._connection.abandon()
                self._connection = None
            self._release()
            self._try_next()
            return
        self._status = status
        lines, is_events = relayed_head(headers, self.request_id, self._replica_id)
        if is_events:
            request = self._request
            assert request is not None
            self._is_stream = True
            asked = deployment.asks_usage and request.route.asks_usage and not request.client_wants_usage
            self._gate = EventGate(drop_usage=asked)
            length = None
        else:
            self._is_stream, self._gate = False, None
        # Kept until there is something to send: engines send a head at once and compute the prompt then, and
        # until the client has seen anything, another replica can take the request.
        self._head = (status, lines, length)

    def on_upstream_data(self, data: bytes, complete: bool) -> None:
        if self._ended:
            return
        self.activity_s = self._gateway.loop.time()
        if data:
            self._last_chunks.append(data)
            if self._gate is not None:
                data = self._gate.feed(data)
        if not self._relaying:
            if not data and not complete:
                return
            assert self._head is not None
            self._relaying = True
            self._first_byte_s = self.activity_s
            self._first_chunk = data
            self._sink.start(*self._head)
        if not complete:
            if data:
                self._sink.write(data)
            return
        self._connection = None
        if self._gate is not None:
            data += self._gate.finish()
        self._sink.end(data)
        if self._status < 400:
            self._end(Ending.COMPLETED, self._status, None)
        elif self._status < 500:
            self._end(Ending.REJECTED, self._status, "engine_rejected")
        else:
            self._end(Ending.FAILED, self._status, "engine_error")

    # --- endings --------------------------------------------------------------------------------------

    def _give_up(self, error: InferryError) -> None:
        """No answer, or no rest of it."""
        if not self._relaying:
            self._fail(error, Ending.FAILED)
            return
        if self._is_stream and self._gate is not None:
            self._gate.discard()
            self._sink.end(render_error_event(error, self.route.dialect))
        else:
            self._sink.cut()
        self._end(Ending.FAILED, self._status, error.code)

    def _fail(self, error: InferryError, ending: Ending) -> None:
        body = render_error(error, self.route.dialect)
        lines = (
            b"content-type: application/json\r\nx-request-id: " + self.request_id.encode("ascii") + b"\r\n"
        )
        self._sink.start(error.status, lines + error_headers(error), len(body))
        self._sink.end(body)
        self._end(ending, error.status, error.code)

    def _release(self) -> None:
        if self._slot is not None:
            assert self._deployment is not None
            self._deployment.balancer.release(self._slot)
            self._slot = None

    def _end(self, ending: Ending, status: int, error_code: str | None) -> None:
        """The one place where a request ends."""
        assert not self._ended, f"{self.request_id} ended twice"
        self._ended = True
        gateway = self._gateway
        gateway.active.discard(self)
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None
        self._release()
        usage = read_usage(self._last_chunks) or Usage()
        if usage.prompt_tokens is None and self._is_stream:
            # Anthropic's streams say it in their first event.
            usage.prompt_tokens = (read_usage([self._first_chunk]) or usage).prompt_tokens
        now_s = gateway.loop.time()
        gateway.on_outcome(
            Outcome(
                id=self.request_id,
                request_id=self.request_id,
                route=self.route.path,
                deployment=self._deployment.name if self._deployment else None,
                replica_id=self._replica_id,
                ending=ending,
                status=status,
                stream=self._is_stream,
                received_wall_s=self._received_wall_s,
                duration_s=now_s - self.received_s,
                ttft_s=self._first_byte_s - self.received_s
                if self._is_stream and self._first_byte_s
                else None,
                attempts=self._attempts,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                error_code=error_code,
            )
        )
