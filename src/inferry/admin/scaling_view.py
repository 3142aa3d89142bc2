"""Autoscaling for people and programs: how it stands, what happened, and what other rules would have done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, Field

from inferry.core.clock import Clock
from inferry.core.errors import UnknownReplica
from inferry.core.suggest import did_you_mean
from inferry.fleet.scaler_watch import ScalerState
from inferry.fleet.scaling_journal import Past, PastEvent
from inferry.policy.scaling.decision import Alert, ScalingDecision, Wish
from inferry.policy.scaling.observation import Observation, ReplicaReading


class WishView(BaseModel):
    rule: str
    to: int | None = Field(description="Replicas that it wants; null: it can't tell.")
    because: str


class AlertView(BaseModel):
    rule: str
    because: str


class DecisionView(BaseModel):
    at: float = Field(description="Wall seconds since 1970.")
    was: int
    to: int
    rule: str = Field(description="The one that decided; empty: none wanted a change.")
    because: str
    serving: int
    coming: int
    inputs: dict[str, float | None] = Field(description="What was looked at; null: missing, or too old.")
    wishes: list[WishView]
    alerts: list[AlertView]


class ReadingView(BaseModel):
    """Of a replica that serves; null where its engine does not tell."""

    replica: str
    age_s: float | None = Field(description="Since its engine was asked, at the last look; null: never.")
    running: int | None
    waiting: int | None
    kv_cache_use: float | None
    gpu_use: float | None
    gpu_memory_use: float | None
    own: dict[str, float] = Field(description="Metrics of the engine that rules name.")


class GatewayCounts(BaseModel):
    """At all gateways together."""

    waiting: int
    in_flight: int
    arrived: int = Field(description="Requests let in since they began.")
    ended: int
    failed: int


class ScalingView(BaseModel):
    """How the scaling of one deployment stands."""

    deployment: str
    simulated: bool = Field(False, description="Whether its engine is.")
    wanted: int = Field(description="Replicas that it is to have; 0: its model is not loaded.")
    min: int = Field(description="As the file says; a schedule may say otherwise at times.")
    max: int
    by_hand: int | None = Field(description="The number that somebody set: scaling rests. Null: nobody did.")
    leader: str = Field(description="Who decides, where that is another process; empty: this one does.")
    not_done: str = Field(
        description="Why the last decision can't be carried out now; empty: nothing is left."
    )
    every_s: float
    looked_s_ago: float | None = Field(description="Since the last look; null: there was none.")
    next_look_in_s: float
    start_s: float | None = Field(description="What replicas took to start here; null: not known yet.")
    failing: str = Field(description="Why replicas don't come up; empty: they do.")
    gateways: GatewayCounts | None = Field(description="Null: they did not answer in time.")
    readings: list[ReadingView]
    decision: DecisionView | None = Field(description="At the last look; null: there was none.")


class EventView(BaseModel):
    run: str = Field(description="Which life of Inferry; events are numbered within it.")
    number: int
    at: float = Field(description="Wall seconds since 1970.")
    deployment: str
    kind: str = Field(description="change, not done, alert, alert over, by hand or auto.")
    was: int
    to: int
    rule: str
    because: str
    outcome: str = Field(description="What became of it; empty while it is under way.")
    took_s: float | None
    came: list[str] = Field(description="Replicas that were started for it.")
    leaving: list[str] = Field(description="Replicas that were sent away for it.")
    serving: int
    coming: int
    inputs: dict[str, float | None]
    wishes: list[WishView]


class HistoryView(BaseModel):
    events: list[EventView] = Field(description="Oldest first.")
    damaged: int = Field(description="Lines of the journal that can't be read: cut by a kill or a full disk.")


class DryRunView(BaseModel):
    deployment: str
    simulated: bool = Field(False, description="Whether its engine is.")
    looks: list[DecisionView] = Field(
        description="What these rules would have decided at each of the last looks, oldest first; the last one is now."
    )


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, on both clocks."""

    now_s: float
    wall_s: float

    @classmethod
    def of(cls, clock: Clock) -> Moment:
        return cls(clock.now_s(), clock.wall_s())

    def wall_of(self, then_s: float) -> float:
        """The wall reading of a moment on the monotonic clock."""
        return self.wall_s - (self.now_s - then_s)


def view_state(state: ScalerState, moment: Moment) -> ScalingView:
    seen = state.seen
    return ScalingView(
        deployment=state.deployment,
        simulated=state.simulated,
        wanted=state.wanted,
        min=state.scaling.min,
        max=state.scaling.max,
        by_hand=state.by_hand,
        leader=state.leader,
        not_done=state.not_done,
        every_s=state.scaling.every_s,
        looked_s_ago=None if seen is None else moment.now_s - seen.now_s,
        next_look_in_s=max(state.next_look_s - moment.now_s, 0.0),
        start_s=None if seen is None else seen.start_s,
        failing="" if seen is None else seen.failing,
        gateways=None if seen is None else _gateways(seen),
        readings=[] if seen is None else [_reading(each, seen.now_s) for each in seen.serving],
        decision=None if state.decision is None else view_decision(state.decision, moment),
    )


def view_decision(decision: ScalingDecision, moment: Moment) -> DecisionView:
    return DecisionView(
        at=moment.wall_of(decision.at_s),
        was=decision.was,
        to=decision.to,
        rule=decision.rule,
        because=decision.because,
        serving=decision.serving,
        coming=decision.coming,
        inputs=dict(decision.inputs),
        wishes=_wishes(decision.wishes),
        alerts=[_alert(each) for each in decision.alerts],
    )


def view_past(
    past: Past, *, deployment: str | None = None, since: float | None = None, known: Iterable[str] = ()
) -> HistoryView:
    """Of one deployment, or of all; `since`: wall seconds since 1970. Raises UnknownReplica for a deployment of which
    the journal says nothing, and which is none of those that run (`known`)."""
    named = {*known, *(each.event.deployment for each in past.events)}
    if deployment is not None and deployment not in named:
        raise UnknownReplica(
            f"There is no deployment '{deployment}', and nothing of one was written down."
            f"{did_you_mean(deployment, sorted(named))}"
        )
    events = [
        _event(each)
        for each in past.events
        if deployment in (None, each.event.deployment) and (since is None or each.event.at_wall_s >= since)
    ]
    return HistoryView(events=events, damaged=past.damaged)


def _event(past: PastEvent) -> EventView:
    event = past.event
    return EventView(
        run=past.run,
        number=event.number,
        at=event.at_wall_s,
        deployment=event.deployment,
        kind=event.kind.value,
        was=event.was,
        to=event.to,
        rule=event.rule,
        because=event.because,
        outcome=event.outcome,
        took_s=event.took_s,
        came=list(event.came),
        leaving=list(event.leaving),
        serving=event.serving,
        coming=event.coming,
        inputs=dict(event.inputs),
        wishes=_wishes(event.wishes),
    )


def _wishes(wishes: Iterable[Wish]) -> list[WishView]:
    return [WishView(rule=each.rule, to=each.to, because=each.because) for each in wishes]


def _alert(alert: Alert) -> AlertView:
    return AlertView(rule=alert.rule, because=alert.because)


def _gateways(seen: Observation) -> GatewayCounts | None:
    traffic = seen.traffic
    if traffic is None:
        return None
    return GatewayCounts(
        waiting=traffic.waiting,
        in_flight=traffic.in_flight,
        arrived=traffic.arrived,
        ended=traffic.ended,
        failed=traffic.failed,
    )


def _reading(reading: ReplicaReading, looked_s: float) -> ReadingView:
    return ReadingView(
        replica=reading.id,
        age_s=None if reading.read_s is None else max(looked_s - reading.read_s, 0.0),
        running=reading.running,
        waiting=reading.waiting,
        kv_cache_use=reading.kv_cache_use,
        gpu_use=reading.gpu_use,
        gpu_memory_use=reading.gpu_memory_use,
        own=dict(reading.own),
    )
