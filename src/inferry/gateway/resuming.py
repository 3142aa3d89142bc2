"""The part of an exchange that goes on with a stream at another replica, when the client has a part of it already.

How it is gone on with: next_leg.py. What is the same before and after: the client's stream, its filter, its bill.
"""

from __future__ import annotations

from abc import abstractmethod

import structlog

from inferry.core.errors import EngineBroke, EngineError
from inferry.core.request import Route
from inferry.engines.continuation import NOWHERE
from inferry.gateway.attempts import has_died, in_flight, spent
from inferry.gateway.edge import Arrival
from inferry.gateway.holding import Holding
from inferry.gateway.host import Host
from inferry.gateway.next_leg import TOKEN_IDS, NothingLeft, NotResumed, next_leg
from inferry.gateway.served import ServedDeployment
from inferry.gateway.sound_part import sound_part
from inferry.gateway.splice import Splice
from inferry.gateway.sse import DONE
from inferry.gateway.token_ids import TokenIds
from inferry.gateway.upstream import UpstreamPool
from inferry.policy.retry import GiveUp, Retry, decide_resume

log = structlog.get_logger()

DEADLY = "engines end as soon as they have this request"
SHORT_TOKENS = 16
"""An engine that dies after fewer tokens may have died of them."""
DEATHS_MAX = 3
"""So many engines in a row that died so soon are bad luck. One more, and the request is not tried on the next."""


class Resuming(Holding):
    """See the module."""

    __slots__ = (
        "_asked", "_body", "_deaths", "_elsewhere", "_full", "_ids", "_leg_reads", "_leg_tokens", "_path", "_pool",
        "_refuses_text", "_splice", "_stays", "_tried",
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
        self._splice: Splice | None = None
        """Makes what comes now the rest of what was sent before."""
        self._refuses_text = False
        """Replicas of this deployment do not go on with a text."""
        self._elsewhere: ServedDeployment | None = None
        """A deployment that goes on with what another one began, for the client that is one stream of the first."""
        self._stays = False
        """What it asks for can't be gone on with."""
        self._leg_reads = self._leg_tokens = 0
        """What the client had when this replica began."""
        self._full: set[str] = set()
        """Of the tried ones, those that took no more: they may, a second later."""
        self._deaths: list[tuple[str, UpstreamPool]] = []
        """Replicas in a row that were lost soon after they got the request."""

    @abstractmethod
    def forward(self, data: bytes, complete: bool) -> None: ...

    @abstractmethod
    def _start_over(self) -> None: ...

    def _go_on(self, error: EngineError, reads: int | None, *, again: bool = False) -> Retry | GiveUp:
        """A stream that has begun: another replica goes on, or why not. Of what has come since there were `reads`, the
        sound part still goes to the client. `again`: it may as well be the same replica."""
        answer, deployment, request = self.answer, self.deployment, self.request
        assert answer is not None
        assert deployment is not None
        assert request is not None
        assert self._pool is not None
        assert self.replica_id is not None
        if self.whole or not answer.is_stream:
            return GiveUp("part of the answer has gone out")
        if self._is_deadly():
            return GiveUp(DEADLY)
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
        if answer.reads > self._leg_reads:
            self._tried.clear()  # they failed another part of it, and may be well by now
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
        if isinstance(leg, NothingLeft):
            self._end_stream(sound)
            return decision
        if isinstance(leg, NotResumed):
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
        if not again:
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

    def _pass_on(self, events: bytes, complete: bool) -> None:
        if self._out is None:
            self.forward(events, complete)
        else:
            self._out.feed(events, complete)

    def _who_else(self) -> ServedDeployment | None:
        """Another deployment with the same model, if this one has no other replica now."""
        deployment, course = self.deployment, self.course
        assert deployment is not None
        assert self.request is not None
        left = [*spent(self._tried, self._gateway), self.replica_id or ""]
        if course is None or deployment.balancer.usable(left) or self.request.model in deployment.lora_models:
            return None
        return next((each for each in course.peers if each.balancer.usable(left)), None)

    def look_again(self) -> None:
        if (
            self.relaying
            and not self._ended
            and self._waits_since_s is not None
            and self._who_else() is not None
        ):
            self._lost_replica = False
            if isinstance(self._go_on(EngineBroke("no replica came back"), None), Retry):
                return
        for replica_id in self._full:
            self._tried.pop(replica_id, None)
        self._full.clear()
        super().look_again()

    def _may_try_more(self) -> bool:
        deployment = self.deployment
        assert deployment is not None
        return deployment.retry_budget.take(
            self._gateway.now_s(), in_flight(deployment), deployment.failover.load_factor_max
        )

    def _is_deadly(self) -> bool:
        """Whether one engine after the other dies as soon as it has this request. To be asked once for each that was
        lost; one whose connection broke and that serves on has not died."""
        if not self._lost_replica:
            return False
        assert self.deployment is not None
        assert self.replica_id is not None
        assert self._pool is not None
        tokens = 0 if self.answer is None else self.answer.tokens_so_far
        if tokens - self._leg_tokens >= SHORT_TOKENS:
            self._deaths.clear()
        dead = [each for each in self._deaths if has_died(self.deployment, self._gateway, *each)]
        self._deaths.append((self.replica_id, self._pool))
        return len(dead) >= DEATHS_MAX

    def _count_given_up(self, error: EngineError) -> None:
        if (
            self.relaying
            and self.deployment is not None
            and self.answer is not None
            and self.answer.is_stream
        ):
            self._gateway.metrics.count_resume(self.deployment.name, error.code, None)
