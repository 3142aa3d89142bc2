"""As many replicas as ever, for comparison: what most deployments do."""

from __future__ import annotations

from inferry.policy.scaling.decision import ScalingDecision
from inferry.policy.scaling.observation import Observation
from inferry.simulate.rivals.hpa import decision


class Static:
    """Always `replicas`."""

    every_s = 3600.0

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas

    def decide(self, seen: Observation) -> ScalingDecision:
        return decision(seen, self._replicas, "static", "always so many")
