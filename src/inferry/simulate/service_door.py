"""One deployment at one simulated gateway process: the way of a request, by the classes that real ones go by.

    arrive ── a limit ───────────────────────────────► over
      └─► a turn, or the model ── full, too long ────► over
            └─► try ── ended ────────────────────────► over
                 ▲ └─ its replica is lost: the next one takes it, or goes on; or it waits for one ── in vain ─► over
                 └──────┘

The order is that of gateway/entry.py, trying.py, resuming.py and holding.py. Prompts are counted exactly, and clients say
nothing of how long their answers may be. What is left out: filters, names with several deployments behind them, stalled
streams, requests that kill every engine, clients that leave, and that the queue hears each second how far long streams
have got (it hears so at their end).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from inferry.core.errors import (
    EngineError,
    EngineRejected,
    EngineTimeout,
    InferryError,
    NoReadyReplica,
    Rejected,
)
from inferry.core.outcome import Ending
from inferry.gateway.attempts import has_ready_besides, in_flight, is_one_coming
from inferry.gateway.served import ServedDeployment, ServedSpec
from inferry.gateway.turns import Answer, Ticket
from inferry.policy.retry import GiveUp, Retry, decide_resume, decide_retry
from inferry.policy.routing import NO_FACTS, Balancer, NoReplica, RouteFacts, Seen
from inferry.simulate.arrivals import Arrival
from inferry.simulate.service_request import ServedRequest
from inferry.simulate.service_sides import Gatekeeper, Ledger, Places
from inferry.simulate.timeline import Timeline


class Door:
    """See the module. `served` is the gateway's own class, with its queue, balancer and budgets."""

    def __init__(
        self,
        spec: ServedSpec,
        gateway: Gatekeeper,
        places: Places,
        ledger: Ledger,
        timeline: Timeline,
        *,
        has_limits: bool,
        seed: str,
        on_load_wanted: Callable[[str], None],
    ) -> None:
        self.served = ServedDeployment(spec, None, on_load_wanted)
        self.served.balancer = Balancer(spec.routing, Random(seed))
        self._balancer = self.served.balancer
        self._wants = self._balancer.wants
        self.gateway = gateway
        self._places = places
        self._ledger = ledger
        self._timeline = timeline
        self._has_limits = has_limits
        self._on_demand = spec.load_wait_s is not None
        self._learns = has_limits or "answer_tokens" in self._wants
        self._unanswered: deque[tuple[float, int, ServedRequest]] = deque()
        """By when they were sent, each with the attempt that it was."""

    # --- in -------------------------------------------------------------------------------------------

    def arrive(self, arrival: Arrival) -> None:
        request = ServedRequest(
            arrival.at_s,
            arrival.prompt_tokens,
            arrival.answer_tokens,
            arrival.blocks,
            door=self,
            tenant=arrival.tenant,
            session=arrival.session,
            priority=arrival.priority,
        )
        self._ledger.arrived(request)
        if self._has_limits:
            error = self.gateway.ask_limits(request, self.served)
            if error is not None:
                self.refuse(request, error)
                return
        request.is_let_in = True
        self.served.demand.arrived += 1
        if self._on_demand and self.served.awaits_model:
            self._park(request)
        else:
            self._ask_turn(request)

    def _park(self, request: ServedRequest) -> None:
        full = self.served.parked.add(request, self._timeline.now_s)
        if full is not None:
            self.refuse(request, full)
        else:
            self.gateway.on_waiting()

    def on_loaded(self, request: ServedRequest) -> None:
        if request.ticket is not None and request.ticket.is_running:
            self.enter(request)
        else:
            self._ask_turn(request)

    def _ask_turn(self, request: ServedRequest) -> None:
        turns = self.served.turns
        if turns.slots is None:
            self.enter(request)
            return
        ticket = request.ticket = Ticket(
            request,
            request.tenant,
            request.prompt_tokens,
            None,
            request.priority,
            self.gateway.weight(request.tenant),
        )
        result = turns.ask(ticket, self._timeline.now_s)
        if result is Answer.GO:
            self.enter(request)
        elif result is Answer.WAIT:
            self.gateway.on_waiting()
        else:
            self.refuse(request, result)

    def enter(self, request: ServedRequest) -> None:
        """Nothing stands in its way any more."""
        if request.entered_s is None:
            request.entered_s = self._timeline.now_s
        self._try_next(request)

    def refuse(self, request: ServedRequest, error: InferryError) -> None:
        ending = Ending.REJECTED if isinstance(error, Rejected) else Ending.FAILED
        self._end(request, ending, error)

    # --- a replica ------------------------------------------------------------------------------------

    def _try_next(self, request: ServedRequest) -> None:
        now_s = self._timeline.now_s
        facts = self._facts(request) if self._wants else NO_FACTS
        choice = self._balancer.choose(self._spent(request) if request.tried else (), facts, now_s)
        if isinstance(choice, NoReplica):
            self._no_replica(request, choice)
            return
        if request.waits_since_s is not None:
            self._stop_waiting(request)
        request.slot, request.facts, request.chosen_s, request.leg_ttft_s = choice, facts, now_s, None
        request.attempts += 1
        if request.attempts == 1:
            self.served.retry_budget.begin(now_s)
        life = self._places.submit(request, choice.id)
        if life is None:
            self._end(request, Ending.REJECTED, EngineRejected("it is longer than the engine's memory"))
            return
        request.life = life
        self._unanswered.append((now_s, request.attempts, request))

    def _no_replica(self, request: ServedRequest, choice: NoReplica) -> None:
        if not request.attempts and self._on_demand and self.served.awaits_model:
            self._park(request)
        elif self._may_wait(request):
            if request.waits_since_s is None:
                request.waits_since_s = self._timeline.now_s
                self.served.stranded[request] = None
        else:
            self._end(request, Ending.FAILED, NoReadyReplica(choice.because))

    def on_first_token(self, request: ServedRequest) -> None:
        now_s = self._timeline.now_s
        slot = request.slot
        assert slot is not None
        ttft_s = request.leg_ttft_s = now_s - request.chosen_s
        self._balancer.first_byte(slot, request.facts, ttft_s, now_s)
        if request.first_byte_s is None:
            request.first_byte_s = now_s
            self.served.demand.observe_first_token(now_s - request.arrival_s)
            request.first_cached_tokens = request.cached_tokens

    def on_ended(self, request: ServedRequest) -> None:
        """Its replica has given the whole answer."""
        slot = request.slot
        assert slot is not None
        now_s = self._timeline.now_s
        ttft_s, facts = request.leg_ttft_s, request.facts
        if facts is NO_FACTS:
            seen = Seen(True, False, ttft_s, now_s - request.chosen_s)
        else:
            seen = Seen(
                True,
                False,
                ttft_s,
                now_s - request.chosen_s,
                request.prompt_tokens,
                request.cached_tokens,
                request.answer_tokens,
            )
        self._balancer.release(slot, facts, seen, now_s)
        request.slot = None
        self.gateway.on_success(slot.id, None if request.resumes else ttft_s)
        self._end(request, Ending.COMPLETED, None)

    # --- another replica ------------------------------------------------------------------------------

    def on_lost(self, request: ServedRequest, error: EngineError) -> None:
        """Its replica has failed it, and has it no more."""
        assert request.slot is not None
        self.gateway.on_failure(request.slot.id, error.message)
        request.is_replica_lost = not isinstance(error, EngineTimeout)
        self._next_one(request, error)

    def hand_over(self, request: ServedRequest) -> None:
        """Its replica hangs, or must go: somebody else takes it, if that can be now."""
        slot = request.slot
        if slot is None or not has_ready_besides(self.served, [*self._spent(request), slot.id]):
            return
        request.is_replica_lost = False
        decision = self._decide(request)
        if isinstance(decision, Retry):
            self._places.leave(request)
            self._go_on(request)

    def _next_one(self, request: ServedRequest, error: EngineError) -> None:
        decision = self._decide(request)
        if isinstance(decision, Retry):
            self._go_on(request)
        else:
            self._release(request)
            self._end(request, Ending.FAILED, error)

    def _decide(self, request: ServedRequest) -> Retry | GiveUp:
        slot, served = request.slot, self.served
        assert slot is not None
        tried = request.tried
        if tried is None:
            tried = request.tried = {}
        decision: Retry | GiveUp
        if request.first_byte_s is None:
            tried[slot.id] = request.life
            decision = decide_retry(
                answer_begun=False,
                attempts=request.attempts,
                attempts_max=self.gateway.attempts_max,
                others=served.balancer.usable(self._spent(request)),
                may_wait=self._may_wait(request),
            )
        else:
            failover = served.failover
            decision = decide_resume(
                wanted=failover.resume, resumes=request.resumes, resumes_max=failover.resumes_max
            )
        if isinstance(decision, Retry) and not served.retry_budget.take(
            self._timeline.now_s, in_flight(served), served.failover.load_factor_max
        ):
            return GiveUp("too much fails now (failover.load_factor_max)")
        return decision

    def _go_on(self, request: ServedRequest) -> None:
        """What was said up to now is prompt for the next one."""
        slot = request.slot
        assert slot is not None
        tried = request.tried
        assert tried is not None
        self._release(request)
        if request.first_byte_s is not None:
            if request.leg_ttft_s is not None:
                tried.clear()  # they failed another part of it, and may be well by now
            said = min(request.said, request.answer_tokens - 1)
            request.delivered += said
            request.prompt_tokens += said
            request.answer_tokens -= said
            request.resumes += 1
        tried[slot.id] = request.life
        self._try_next(request)

    def _release(self, request: ServedRequest) -> None:
        slot = request.slot
        assert slot is not None
        now_s = self._timeline.now_s
        self._balancer.release(
            slot, request.facts, Seen(request.leg_ttft_s is not None, True, request.leg_ttft_s), now_s
        )
        request.slot = None

    def _spent(self, request: ServedRequest) -> list[str]:
        tried = request.tried
        if not tried:
            return []
        return [name for name, life in tried.items() if self._places.life_of(name) == life]

    # --- waiting for a replica ------------------------------------------------------------------------

    def _may_wait(self, request: ServedRequest) -> bool:
        if not request.attempts or not request.is_replica_lost:
            return False
        since_s = request.waits_since_s
        waited_s = 0.0 if since_s is None else self._timeline.now_s - since_s
        return waited_s < self.served.failover.wait_max_s and is_one_coming(self.served, waited_s)

    def _stop_waiting(self, request: ServedRequest) -> None:
        request.waits_since_s = None
        self.served.stranded.pop(request, None)

    def look_again(self, request: ServedRequest) -> None:
        if request.waits_since_s is not None and not request.is_over:
            self._try_next(request)

    # --- as time passes -------------------------------------------------------------------------------

    def check(self, now_s: float) -> None:
        """Once a second: who waits for a replica, who is silent, how far streams have got."""
        for stranded in list(self.served.stranded):
            stranded.look_again()
        self.served.tick(now_s)
        unanswered, timeout_s = self._unanswered, self.gateway.first_byte_timeout_s
        while unanswered:
            sent_s, attempt, request = unanswered[0]
            if not (request.is_over or request.leg_ttft_s is not None or request.attempts != attempt):
                if now_s - sent_s <= timeout_s:
                    break
                self._give_up_silent(request, timeout_s)
            unanswered.popleft()

    def _give_up_silent(self, request: ServedRequest, timeout_s: float) -> None:
        slot = request.slot
        if slot is None:
            return
        error = EngineTimeout(f"it was silent for {timeout_s:g} s before the answer began")
        self.gateway.on_failure(slot.id, error.message)
        self._places.leave(request)
        self._release(request)
        self._end(request, Ending.FAILED, error)

    # --- over -----------------------------------------------------------------------------------------

    def _end(self, request: ServedRequest, ending: Ending, error: InferryError | None) -> None:
        """The one place where a request ends."""
        assert not request.is_over, "a request ended twice"
        request.is_over = True
        now_s = self._timeline.now_s
        if request.slot is not None:
            self._release(request)
        if request.waits_since_s is not None:
            self._stop_waiting(request)
        request.ended_s = now_s
        answer_tokens = self._answered(request, ending)
        if request.ticket is not None:
            self._give_back_turn(request.ticket, request.whole_prompt_tokens, answer_tokens, ending, now_s)
        if request.admitted is not None:
            self.gateway.settle(request, answer_tokens, self.served)
        if self._learns and ending is Ending.COMPLETED:
            self.served.estimates.learn(b"", request.whole_prompt_tokens, answer_tokens)
        code, status = (None, 200) if error is None else (error.code, error.status)
        self._ledger.over(request, ending, code, status, answer_tokens)

    def _answered(self, request: ServedRequest, ending: Ending) -> int:
        if ending is Ending.COMPLETED:
            return request.delivered + request.answer_tokens
        return request.delivered

    def _give_back_turn(
        self, ticket: Ticket, prompt_tokens: int, answer_tokens: int, ending: Ending, now_s: float
    ) -> None:
        turns = self.served.turns
        if ticket.is_running:
            done = ending is Ending.COMPLETED or answer_tokens > 0
            turns.done(ticket, prompt_tokens if done else 0, answer_tokens, now_s)
        else:
            turns.leave(ticket, now_s)

    def _facts(self, request: ServedRequest) -> RouteFacts:
        wants, blocks = self._wants, request.blocks
        session = None
        if "session" in wants:
            session = request.session
            if session is None and blocks:
                # As a gateway tells conversations apart that have no name: by how they begin. The first block is
                # often the same for all.
                session = str(blocks[:2][-1])
        return RouteFacts(
            request.prompt_tokens if "prompt_tokens" in wants else 0,
            self.served.estimates.completion_tokens(None, 1) if "answer_tokens" in wants else 0,
            blocks if "blocks" in wants else (),
            session,
        )
