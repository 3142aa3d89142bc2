"""Keeps the number of replicas where `scaling:` wants it: looks, has it decided, and acts.

One task (`run`). What decides is policy/scaling, the same in simulations; here are only its eyes and hands:

- What can't be done now (a rollout is under way, memory is short) stays the wish: the next look decides again by what
  is there then.
- Nothing here waits for a replica: those that come are capacity on the way, those that leave finish what they have.
- 0 replicas and back is not decided here but in fleet/model_swap.py, by requests; while a model is not loaded, or is
  just being loaded, nothing here takes it away (superlinked/sie#293: scaled to zero while the model loads, in a loop).
- A number by hand rests it; it goes on looking, so that alerts are still told.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from inferry.core.clock import Clock
from inferry.core.deployment_base import ManagedBase
from inferry.core.errors import ConfigError
from inferry.core.host_settings import Host
from inferry.core.replica import ReplicaLoad, ReplicaView
from inferry.core.scaling_settings import Scaling
from inferry.fleet.member import Member
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.resize import LeastToLose, Resized
from inferry.fleet.scaler_budget import Holding, grants
from inferry.fleet.scaler_event import EventKind, ScalingEvent
from inferry.fleet.scaler_look import Seen, observe
from inferry.fleet.scaler_starts import Starts
from inferry.fleet.scaler_victims import by_loss
from inferry.fleet.scaler_watch import ScalerState, Watch
from inferry.policy.scaling.decision import Autoscaler, ScalingDecision
from inferry.policy.scaling.observation import Traffic

log = structlog.get_logger()

LOOK_MAX_S = 1.0
"""So often, at least, it sees what became of its decisions, and what the file and people say."""
TRAFFIC_WAIT_S = 2.0
"""For the gateways' numbers; without them, it is decided by what replicas tell."""
HISTORY_KEPT = 1000

Replicas = Iterable[tuple[ReplicaView, ReplicaLoad | None]]


@dataclass(frozen=True, slots=True)
class ScalerSurroundings:
    """What it sees and what it may do; called on the event loop."""

    plans: Callable[[], Sequence[DeploymentPlan]]
    """What the file in force says."""
    replicas: Callable[[], Replicas]
    """All of them, draining ones too, each with what its engine and GPUs told last."""
    traffic: Callable[[], Awaitable[Mapping[str, Traffic | None]]]
    """By deployment, now; None, or no entry: the gateways did not answer."""
    held: Callable[[str], int]
    """How many requests a replica holds, as far as is known."""
    wanted: Callable[[str], int]
    """How many replicas a deployment is to have now; 0: its model is not loaded."""
    by_hand: Callable[[str], int | None]
    resize: Callable[[str, int, int, str, float, LeastToLose], Awaitable[Resized]]
    """Of a deployment, from so many to so many."""
    drain_s: Callable[[], float]
    host: Callable[[], Host]
    make: Callable[[DeploymentPlan, Scaling], Autoscaler]
    """The decider of a deployment, new."""
    leader: Callable[[], str] = lambda: ""
    """Another process that decides for this fleet; empty: this one does."""
    on_event: Callable[[ScalingEvent], None] = lambda event: None
    """Something happened, or the outcome of something is known. Must not block or raise."""


class Scaler:
    """See the module. Everything but `run` and `look` is instant."""

    def __init__(self, around: ScalerSurroundings, clock: Clock) -> None:
        self.history: deque[ScalingEvent] = deque(maxlen=HISTORY_KEPT)
        """What happened in this life of the process, oldest first."""
        self._around = around
        self._clock = clock
        self._starts = Starts()
        self._watches: dict[str, Watch] = {}
        self._under_way: list[ScalingEvent] = []
        """Changes of which the outcome is not known."""
        self._count = 0
        self._led = True

    # --- what others say and ask ----------------------------------------------------------------------

    def on_view(self, view: ReplicaView) -> None:
        """A replica has changed."""
        self._starts.on_view(view, self._clock.now_s())

    def on_gone(self, replica_id: str) -> None:
        """A replica has left for good."""
        self._starts.on_gone(replica_id)

    def begin_anew(self, name: str) -> None:
        """What this one's decider is made from has changed."""
        if (watch := self._watches.get(name)) is not None:
            watch.begin_anew()

    def states(self) -> list[ScalerState]:
        """Of all deployments that are scaled, in the file's order."""
        return [self._state(watch) for watch in self._watches.values()]

    def explain(self, name: str) -> ScalerState | None:
        """Of one; None: there is none of that name, or it has no `scaling`."""
        watch = self._watches.get(name)
        return None if watch is None else self._state(watch)

    def dry_run(self, name: str, scaling: Scaling) -> list[ScalingDecision]:
        """What these settings would have decided at each of the last looks, the last one now; nothing is done.

        Each look is as it was: with the replicas that there were, not with those that these settings would have wanted.
        """
        watch = self._watches.get(name)
        plan = next((plan for plan in self._around.plans() if plan.name == name), None)
        if watch is None or plan is None:
            return []
        policy = self._around.make(plan, scaling)
        return [policy.decide(seen) for seen in watch.seen]

    def _state(self, watch: Watch) -> ScalerState:
        return ScalerState(
            watch.name,
            watch.scaling,
            self._around.wanted(watch.name),
            watch.by_hand,
            self._around.leader(),
            watch.seen[-1] if watch.seen else None,
            watch.decision,
            watch.not_done,
            watch.due_s,
            watch.simulated,
        )

    # --- life -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            pause_s = LOOK_MAX_S
            try:
                await self.look()
            except ConfigError as error:  # the fleet does not run yet, or is being stopped
                log.info("scaling_waits", because=error.message)
            except Exception:  # a fault of ours must not stop all scaling for good
                log.exception("scaler_broke")
            else:
                pause_s = self._pause_s()
            await asyncio.sleep(pause_s)

    async def look(self) -> None:
        """See what became of former decisions, and decide for those whose time it is."""
        self._follow_file()
        self._follow_hand()
        self._follow_effects()
        now_s = self._clock.now_s()
        due = [watch for watch in self._watches.values() if watch.due_s <= now_s]
        if not self._leads():
            for watch in due:
                watch.plan_next(now_s)
            return
        if not due:
            return
        traffic = await self._ask_traffic()
        self._follow_file()  # both may have changed while it waited
        self._follow_hand()
        due = [watch for watch in self._watches.values() if watch.due_s <= now_s]
        replicas = list(self._around.replicas())
        decisions = []
        for watch in due:
            try:
                decisions.append((watch, self._decide(watch, replicas, traffic.get(watch.name))))
            except Exception:  # a fault of ours at one deployment, and none of the others
                log.exception("scaling_decision_broke", deployment=watch.name)
            watch.plan_next(self._clock.now_s())
        if self._around.leader():  # it took so long that another one may have begun
            return
        for watch, decision, why in self._within_budget(decisions, replicas):
            try:
                await self._act(watch, decision, why)
            except ConfigError:  # the whole fleet's
                raise
            except Exception as error:  # no reason to leave the others as they are
                log.exception("scaling_broke", deployment=watch.name)
                watch.not_done = f"internal error: {error!r}"

    def _pause_s(self) -> float:
        next_s = min((watch.due_s for watch in self._watches.values()), default=float("inf"))
        return min(max(next_s - self._clock.now_s(), 0.01), LOOK_MAX_S)

    def _leads(self) -> bool:
        leads = not self._around.leader()
        if self._led and not leads:
            # What they remember gets older than what another one decides, and alerts are that one's to tell.
            for watch in self._watches.values():
                watch.begin_anew()
        self._led = leads
        return leads

    # --- following ------------------------------------------------------------------------------------

    def _follow_file(self) -> None:
        now_s = self._clock.now_s()
        before, self._watches = self._watches, {}
        for plan in self._around.plans():
            deployment = plan.deployment
            scaling = deployment.scaling if isinstance(deployment, ManagedBase) else None
            if scaling is None:
                continue
            make = _maker(self._around.make, plan, scaling)
            watch = before.get(plan.name)
            if watch is None:
                watch = Watch(plan.name, scaling, make, now_s)
            elif watch.scaling != scaling:
                watch.change(scaling, make, now_s)
            watch.simulated = deployment.engine == "simulated"
            watch.engines_tell = plan.adapter.metrics_path is not None
            self._watches[plan.name] = watch

    def _follow_hand(self) -> None:
        for watch in self._watches.values():
            by_hand = self._around.by_hand(watch.name)
            if by_hand == watch.by_hand:
                continue
            before, watch.by_hand = watch.by_hand, by_hand
            watch.begin_anew()
            wanted = self._around.wanted(watch.name)
            if by_hand is None:
                event = self._event(watch, EventKind.AUTO, wanted, wanted, because="scaling goes on")
            else:
                event = self._event(
                    watch,
                    EventKind.BY_HAND,
                    watch.wanted if before is None else before,
                    by_hand,
                    because="somebody set the number",
                )
            self._tell(event)

    def _follow_effects(self) -> None:
        if not self._under_way:
            return
        views = [view for view, _ in self._around.replicas()]
        for event in [each for each in self._under_way if each.follow(views, self._clock.now_s())]:
            self._under_way.remove(event)
            log.info("scaled", deployment=event.deployment, to=event.to, outcome=event.outcome)
            self._around.on_event(event)

    # --- deciding and acting --------------------------------------------------------------------------

    async def _ask_traffic(self) -> Mapping[str, Traffic | None]:
        try:
            async with asyncio.timeout(TRAFFIC_WAIT_S):
                return await self._around.traffic()
        except TimeoutError:
            log.warning("scaling_without_gateways", because="they do not answer")
            return {}

    def _decide(self, watch: Watch, replicas: Replicas, traffic: Traffic | None) -> ScalingDecision:
        now_s = self._clock.now_s()
        seen = Seen(
            now_s,
            self._clock.wall_s(),
            self._around.wanted(watch.name),
            [(view, load) for view, load in replicas if view.deployment == watch.name],
            traffic,
            self._starts.start_s(watch.name),
            self._starts.failing(watch.name, now_s),
            watch.engines_tell,
        )
        watch.wanted = seen.wanted
        decision = watch.decide(observe(seen, watch.scaling))
        self._note_alerts(watch, decision)
        return decision

    def _within_budget(
        self, decisions: Sequence[tuple[Watch, ScalingDecision]], replicas: Replicas
    ) -> list[tuple[Watch, ScalingDecision, str]]:
        """The same, each with why nothing of it can be paid for, or an empty word; what can be in part is cut."""
        wishes = {
            watch.name: (decision.to, bool((traffic := watch.seen[-1].traffic) and traffic.waiting))
            for watch, decision in decisions
            if decision.is_change and watch.by_hand is None
        }
        there = Counter(view.deployment for view, _ in replicas if not view.drained)
        holdings = []
        for plan in self._around.plans():
            wanted = self._around.wanted(plan.name)
            wish, waits = wishes.get(plan.name, (None, False))
            holdings.append(Holding(plan, wanted, max(there[plan.name] - wanted, 0), wish, waits))
        granted = grants(self._around.host(), holdings)
        within = []
        for watch, decision in decisions:
            grant = granted.get(watch.name)
            why = "" if grant is None or watch.name not in wishes else grant.because
            if why and grant is not None and grant.to != decision.was:
                decision = replace(decision, to=grant.to, because=f"{decision.because}; {why}")
                why = ""
            within.append((watch, decision, why))
        return within

    async def _act(self, watch: Watch, decision: ScalingDecision, why_not: str) -> None:
        """`why_not`: nothing of it can be paid for."""
        if watch.by_hand is not None or not decision.is_change:
            watch.not_done = ""
            return
        because = f"scaled to {decision.to}: {decision.because}"
        done = Resized(why_not=why_not)
        if not why_not:
            done = await self._around.resize(
                watch.name, decision.was, decision.to, because, self._around.drain_s(), self._least_to_lose
            )
        if not done.why_not:
            event = self._event(watch, EventKind.CHANGE, decision.was, decision.to, decision=decision)
            event.came, event.leaving = done.came, done.leaving
            self._under_way.append(event)
            self._tell(event)
        elif done.why_not != watch.not_done:  # told once, not at each look
            event = self._event(watch, EventKind.NOT_DONE, decision.was, decision.to, decision=decision)
            event.outcome = done.why_not
            self._tell(event)
        watch.not_done = done.why_not

    def _least_to_lose(self, members: Sequence[Member]) -> Sequence[Member]:
        now_s = self._clock.now_s()
        return by_loss(members, self._around.held, lambda each: self._starts.served_s(each, now_s))

    # --- telling --------------------------------------------------------------------------------------

    def _note_alerts(self, watch: Watch, decision: ScalingDecision) -> None:
        """When one begins, and when it is over."""
        before, watch.alerts = watch.alerts, {alert.rule: alert.because for alert in decision.alerts}
        began = [(EventKind.ALERT, rule, watch.alerts[rule]) for rule in watch.alerts if rule not in before]
        over = [
            (EventKind.ALERT_OVER, rule, f"no longer so: {before[rule]}")
            for rule in before
            if rule not in watch.alerts
        ]
        for kind, rule, because in began + over:
            event = self._event(watch, kind, decision.was, decision.was, decision=decision)
            event.rule, event.because = rule, because
            self._tell(event)

    def _event(
        self,
        watch: Watch,
        kind: EventKind,
        was: int,
        to: int,
        *,
        because: str = "",
        decision: ScalingDecision | None = None,
    ) -> ScalingEvent:
        """A new one, not told yet."""
        self._count += 1
        event = ScalingEvent(
            self._count, self._clock.now_s(), self._clock.wall_s(), watch.name, kind, was, to, because=because
        )
        if decision is not None:
            event.rule, event.because = decision.rule, decision.because
            event.inputs, event.wishes = decision.inputs, decision.wishes
            event.serving, event.coming = decision.serving, decision.coming
        return event

    def _tell(self, event: ScalingEvent) -> None:
        log.info(
            "scaling",
            deployment=event.deployment,
            what=event.kind.value,
            was=event.was,
            to=event.to,
            rule=event.rule,
            because=event.outcome or event.because,
        )
        self.history.append(event)
        self._around.on_event(event)


def _maker(
    make: Callable[[DeploymentPlan, Scaling], Autoscaler], plan: DeploymentPlan, scaling: Scaling
) -> Callable[[], Autoscaler]:
    return lambda: make(plan, scaling)
