"""The scaling of a simulated deployment: it is looked at as in production, and the same classes decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from inferry.core.scaling_settings import Scaling
from inferry.fleet.scaler_look import Seen, observe
from inferry.policy.scaling.autoscaler import FileAutoscaler
from inferry.policy.scaling.decision import Autoscaler, ScalingDecision
from inferry.policy.scaling.observation import Traffic
from inferry.policy.scaling.slo import SloSizer
from inferry.simulate.result import SimulatedDecision
from inferry.simulate.service import Service
from inferry.simulate.service_budget import SharedBudget
from inferry.simulate.service_replicas import Replicas
from inferry.simulate.timeline import Timeline

READ_S = 0.5
"""How old readings of engines are at a look: they are asked once a second."""
GPU_WINDOW_S = 1.0
"""A GPU's use is that of about the last second (NVML's sample is between 1/6 and 1 s)."""


class ServiceScaler:
    """One deployment's. Without an autoscaler, `wanted` stays what it was."""

    def __init__(
        self,
        service: Service,
        autoscaler: Autoscaler | None,
        replicas: Replicas,
        timeline: Timeline,
        traffic: Callable[[], Traffic | None],
        begin_wall_s: float,
        budget: SharedBudget,
        *,
        is_polled: bool,
    ) -> None:
        """`is_polled`: replicas are asked once a second anyway; else they are asked for each look, which comes to the
        same."""
        self.decisions: list[SimulatedDecision] = []
        self.direction_changes = 0
        self.gateways_silent_until_s = 0.0
        self._service = service
        self._replicas = replicas
        self._timeline = timeline
        self._traffic = traffic
        self._begin_wall_s = begin_wall_s
        self._budget = budget
        self._is_polled = is_polled
        self._autoscaler = autoscaler
        self._direction = 0
        self._alerts: frozenset[str] = frozenset()

    @property
    def wanted(self) -> int:
        return self._replicas.wanted

    def begin(self) -> None:
        if self._autoscaler is not None:
            self._plan(self._timeline.now_s)

    def _plan(self, look_s: float) -> None:
        timeline = self._timeline
        read_s = look_s - READ_S
        if not self._is_polled and read_s - GPU_WINDOW_S >= timeline.now_s:
            timeline.at(read_s - GPU_WINDOW_S, self._replicas.begin_reading)
            timeline.at(read_s, self._replicas.read)
        timeline.at(look_s, self._look)

    def _look(self) -> None:
        autoscaler, now_s = self._autoscaler, self._timeline.now_s
        assert autoscaler is not None
        scaling = self._service.scaling
        seen = Seen(
            now_s=now_s,
            wall_s=self._begin_wall_s + now_s,
            wanted=self._replicas.wanted,
            replicas=[(each.view, each.reading) for each in self._replicas.lives.values()],
            traffic=None if now_s < self.gateways_silent_until_s else self._traffic(),
            start_s=self._replicas.starts.start_s(self._service.name),
            failing=self._replicas.starts.failing(self._service.name, now_s),
            engines_tell=True,
        )
        decision = autoscaler.decide(observe(seen, _NO_SCALING if scaling is None else scaling))
        if decision.is_change:
            waits = seen.traffic is not None and seen.traffic.waiting > 0
            granted, why = self._budget.grant(self._service.name, decision.to, waits=waits)
            if why:
                decision = replace(decision, to=granted, because=f"{decision.because}; {why}")
        self._note(decision)
        if decision.is_change and self._replicas.wanted:
            self._replicas.scale_to(decision.to)
        self._plan(now_s + autoscaler.every_s)

    def _note(self, decision: ScalingDecision) -> None:
        alerts = frozenset(each.rule for each in decision.alerts)
        if decision.is_change:
            direction = 1 if decision.to > decision.was else -1
            self.direction_changes += direction == -self._direction
            self._direction = direction
        if decision.is_change or alerts - self._alerts:
            self.decisions.append(
                SimulatedDecision(
                    decision.at_s,
                    decision.was,
                    decision.to,
                    decision.rule,
                    decision.because,
                    tuple(f"{each.rule}: {each.because}" for each in decision.alerts),
                )
            )
        self._alerts = alerts


_NO_SCALING = Scaling.model_construct(max=1, schedule=[])


def autoscaler_of(service: Service) -> Autoscaler | None:
    """Its decider, new; None: it keeps the replicas that it has."""
    if service.autoscaler is not None:
        return service.autoscaler()
    if service.scaling is None:
        return None
    slo = None if service.scaling.slo is None else SloSizer(service.scaling, service.capacity)
    return FileAutoscaler(service.scaling, gpus_per_replica=service.gpus_per_replica, slo=slo)
