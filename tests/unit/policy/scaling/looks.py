"""A deployment as a test says it is, looked at as often as its file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inferry.core.latency_counts import LatencyCounts
from inferry.core.scaling_settings import Scaling
from inferry.policy.scaling.autoscaler import FileAutoscaler
from inferry.policy.scaling.decision import ScalingDecision
from inferry.policy.scaling.observation import Observation, ReplicaReading, Traffic
from inferry.policy.scaling.sizer import Sizer

FIELD_RULES: list[dict[str, Any]] = [
    {"metric": "gpu_use", "above": 0.8, "for_s": 300, "add": 1},
    {"metric": "gpu_use", "below": 0.3, "for_s": 600, "remove": 1},
    {"metric": "queue_depth", "above": 50, "add": 2},
    {"metric": "e2e_ms", "above": 2000, "add": 1},
    {"metric": "error_rate", "above": 0.05, "alert": True},
]
"""The table that operators write: min 2, max 10 beside it."""


def scaling_of(*rules: dict[str, Any], **keys: Any) -> Scaling:
    """A `scaling:` section; 1 to 10 replicas, no wait before fewer, if nothing else is said."""
    return Scaling.model_validate({"max": 10, "down": {}, "rules": list(rules), **keys})


@dataclass
class Looks:
    """Its state; a test changes it between looks."""

    scaling: Scaling
    wanted: int = 2
    coming: int = 0
    starts: bool = False
    """Replicas that are decided on only come (`coming`) until the test says otherwise."""
    gpu_use: float | None = 0.5
    gpu_uses: list[float | None] | None = None
    """One for each replica, instead of one for all."""
    running: int | None = 4
    own: Mapping[str, float] = field(default_factory=dict)
    at_engines: int | None = 0
    """Requests that wait there, at each."""
    at_gateways: int = 0
    told: bool = True
    """Replicas tell their readings; otherwise they last did at the last look that they did."""
    gateways: bool = True
    per_s: float = 10.0
    latency_s: float = 0.5
    failed_share: float = 0.0
    failing: str = ""
    week_minutes: Mapping[str, int] = field(default_factory=dict)
    obeyed: bool = True
    """What is decided is done at once."""
    gpus_per_replica: int = 0
    slo: Sizer | None = None
    now_s: float = 0.0
    counts: Traffic = field(default_factory=Traffic)
    read_s: float | None = None

    def __post_init__(self) -> None:
        self.policy = FileAutoscaler(self.scaling, gpus_per_replica=self.gpus_per_replica, slo=self.slo)
        self.seen: list[Observation] = []

    @property
    def serving(self) -> int:
        return max(self.wanted - self.coming, 0)

    def observe(self) -> Observation:
        """The deployment, now; time goes on."""
        self._count()
        if self.told:
            self.read_s = self.now_s
        gpu_uses = self.gpu_uses or [self.gpu_use] * self.serving
        readings = tuple(
            ReplicaReading(
                f"chat-{number}",
                self.read_s,
                running=self.running,
                waiting=self.at_engines,
                gpu_use=gpu_use,
                own=self.own,
            )
            for number, gpu_use in enumerate(gpu_uses)
        )
        seen = Observation(
            self.now_s,
            self.wanted,
            readings,
            self.coming,
            self.counts if self.gateways else None,
            week_minutes=self.week_minutes,
            failing=self.failing,
        )
        self.now_s += self.scaling.every_s
        self.seen.append(seen)
        return seen

    def look(self) -> ScalingDecision:
        decision = self.policy.decide(self.observe())
        if self.obeyed and decision.is_change:
            if self.starts:
                self.coming = max(self.coming + decision.to - decision.was, 0)
            self.wanted = decision.to
        return decision

    def looks(self, duration_s: float) -> list[ScalingDecision]:
        """All decisions of so long, from now on."""
        end_s = self.now_s + duration_s
        decisions = []
        while self.now_s < end_s:
            decisions.append(self.look())
        return decisions

    def changes(self, duration_s: float) -> list[tuple[float, int]]:
        """When it was changed to what, in so long."""
        return [(each.at_s, each.to) for each in self.looks(duration_s) if each.is_change]

    def _count(self) -> None:
        before, came = self.counts, round(self.per_s * self.scaling.every_s)
        latencies = LatencyCounts(before.e2e.counts)
        for _ in range(came):
            latencies.observe(self.latency_s)
        self.counts = Traffic(
            arrived=before.arrived + came,
            ended=before.ended + came,
            failed=before.failed + round(came * self.failed_share),
            waiting=self.at_gateways,
            in_flight=0,
            ttft=latencies,
            itl=latencies,
            e2e=latencies,
        )
