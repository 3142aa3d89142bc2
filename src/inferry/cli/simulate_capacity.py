"""The decider of a simulated deployment with `scaling: slo:`: it is told what one replica carries when it would be in
production, once enough requests have ended for the planner to be asked about requests like them."""

from __future__ import annotations

from collections.abc import Callable

from inferry.cli.scaling_capacity import ENDED_MIN, planned_capacity
from inferry.core.scaling_settings import Scaling
from inferry.planner.answers import Performance
from inferry.planner.load import Load
from inferry.policy.scaling.autoscaler import FileAutoscaler
from inferry.policy.scaling.decision import ReplicaCapacity, ScalingDecision
from inferry.policy.scaling.observation import Observation, Traffic
from inferry.policy.scaling.slo import SloSizer


class PlannedAutoscaler:
    """An `Autoscaler` that begins anew with the planner's figure, as the fleet's does."""

    def __init__(
        self, scaling: Scaling, gpus_per_replica: int, performance: Callable[[Load], Performance]
    ) -> None:
        """`scaling` has an `slo` that does not say by itself what a replica carries."""
        self._scaling = scaling
        self._gpus_per_replica = gpus_per_replica
        self._performance = performance
        self._is_asked = False
        self._decider = self._make(None)

    @property
    def every_s(self) -> float:
        return self._scaling.every_s

    def decide(self, seen: Observation) -> ScalingDecision:
        if not self._is_asked and seen.traffic is not None and seen.traffic.ended >= ENDED_MIN:
            self._is_asked = True
            found = self._ask(seen.traffic)
            if found is not None:
                self._decider = self._make(found)
        return self._decider.decide(seen)

    def _ask(self, traffic: Traffic) -> ReplicaCapacity | None:
        assert self._scaling.slo is not None
        return planned_capacity(self._performance, self._scaling.slo, traffic)

    def _make(self, capacity: ReplicaCapacity | None) -> FileAutoscaler:
        slo = SloSizer(self._scaling, capacity)
        return FileAutoscaler(self._scaling, gpus_per_replica=self._gpus_per_replica, slo=slo)
