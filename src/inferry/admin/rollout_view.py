"""How far the replacement of a deployment's replicas is, for people and programs."""

from __future__ import annotations

from pydantic import BaseModel, Field

from inferry.fleet.rollout_progress import RolloutProgress


class RolloutView(BaseModel):
    deployment: str
    phase: str = Field(
        description="starting, canary, settling, replacing, rolling_back, done, rolled_back or stuck."
    )
    reason: str = Field(description="Who or what began it.")
    replaced: int = Field(description="New replicas that are well.")
    total: int = Field(description="New replicas that there are to be.")
    new: list[str] = Field(description="Their ids.")
    because: str = Field(description="What the last decision rested on; at the end, why it was taken back.")
    began: float = Field(description="Wall seconds since 1970.")
    ended: float | None = Field(description="The same; null while it is under way.")
    steps: list[str] = Field(
        default_factory=list, description="What was done, one line each; only in GET /rollouts."
    )


def view_rollout(progress: RolloutProgress, *, with_steps: bool = False) -> RolloutView:
    return RolloutView(
        deployment=progress.deployment,
        phase=progress.phase.value,
        reason=progress.reason,
        replaced=progress.replaced,
        total=progress.total,
        new=list(progress.new),
        because=progress.because,
        began=progress.began_wall_s,
        ended=progress.ended_wall_s,
        steps=list(progress.steps) if with_steps else [],
    )
