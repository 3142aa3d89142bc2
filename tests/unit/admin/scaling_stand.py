"""A scaler that has looked at a deployment some times, decided by the real policy; nothing runs behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter

from inferry.admin.scaling_api import make_scaling_router
from inferry.core.latency_counts import LatencyCounts
from inferry.core.scaling_settings import Scaling
from inferry.fleet.scaler_watch import ScalerState
from inferry.policy.scaling.autoscaler import FileAutoscaler
from inferry.policy.scaling.decision import ScalingDecision
from inferry.policy.scaling.observation import Observation, ReplicaReading, Traffic
from inferry.testing.manual_clock import ManualClock

SCALING = Scaling.model_validate(
    {
        "max": 4,
        "rules": [
            {"metric": "queue_depth", "above": 10, "add": 1},
            {"metric": "engine:vllm:num_preemptions_total", "above": 5, "for_s": 60, "add": 1},
            {"metric": "error_rate", "above": 0.05, "alert": True},
        ],
    }
)
RUN = "1000.000"


def look(now_s: float, waiting: int) -> Observation:
    """One of two replicas has told its load; a tenth of all requests fails."""
    told = ReplicaReading("chat-0", now_s - 0.5, 3, 1, 0.25, 0.5, own={"vllm:num_preemptions_total": 2.0})
    ended = int(now_s)
    traffic = Traffic(
        arrived=ended + waiting,
        ended=ended,
        failed=ended // 10,
        waiting=waiting,
        in_flight=3,
        e2e=LatencyCounts({5: ended}),
    )
    return Observation(now_s, 2, (told, ReplicaReading("chat-1")), coming=0, traffic=traffic, start_s=4.0)


class StandInScaler:
    """Knows `chat`, which is scaled, and `plain`, which is not; its clock stands where the last look was, plus 4 s."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.by_hand: int | None = None
        self.released: list[str] = []
        begin_s = self.clock.now_s()
        self.seen = [look(begin_s + 10 * number, waiting=0) for number in range(20)]
        self.seen += [look(begin_s + 200, waiting=20)]
        self.decisions = self.dry_run("chat", SCALING)
        self.clock.advance(204.0)
        self.router: APIRouter = make_scaling_router(
            self, self.auto, lambda: ("chat", "plain"), journal_folder=folder, run=RUN, clock=self.clock
        )

    def states(self) -> list[ScalerState]:
        state = self.explain("chat")
        return [] if state is None else [state]

    def explain(self, name: str) -> ScalerState | None:
        if name != "chat":
            return None
        seen = self.seen[-1]
        return ScalerState(
            "chat", SCALING, 2, self.by_hand, "", seen, self.decisions[-1], "", seen.now_s + 10.0
        )

    def dry_run(self, name: str, scaling: Scaling) -> Sequence[ScalingDecision]:
        policy = FileAutoscaler(scaling)
        return [policy.decide(seen) for seen in self.seen] if name == "chat" else []

    async def auto(self, name: str) -> str:
        self.released.append(name)
        return f"'{name}' scales by itself again."
