"""Autoscaling over the control API: how it stands and why, what happened, what other rules would do, and back to it
after a number by hand. The same as `inferry scale`, as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from inferry.admin.scaling_view import (
    DryRunView,
    HistoryView,
    Moment,
    ScalingView,
    view_decision,
    view_past,
    view_state,
)
from inferry.core.clock import Clock
from inferry.core.errors import LifecycleRefused, UnknownReplica
from inferry.core.scaling_settings import Scaling
from inferry.core.suggest import did_you_mean
from inferry.fleet.scaler_watch import ScalerState
from inferry.fleet.scaling_journal import read_journal
from inferry.policy.scaling.decision import ScalingDecision


class Scales(Protocol):
    """What is asked of the fleet's scaler."""

    def states(self) -> list[ScalerState]: ...

    def explain(self, name: str) -> ScalerState | None: ...

    def dry_run(self, name: str, scaling: Scaling) -> Sequence[ScalingDecision]: ...


class DryRunWanted(BaseModel):
    model_config = ConfigDict(extra="forbid")

    scaling: Scaling | None = Field(
        None, description="As in the deployment file; null: what is in force now. Nothing is changed."
    )


class AutoView(BaseModel):
    deployment: str
    message: str = Field(description="For people.")


def make_scaling_router(
    scaler: Scales,
    auto: Callable[[str], Awaitable[str]],
    deployments: Callable[[], Iterable[str]],
    *,
    journal_folder: Path,
    run: str,
    clock: Clock,
) -> APIRouter:
    """`auto(name)` ends a number by hand, and says so; `deployments`: all names of the file; `run`: this life of
    Inferry, as the journal has it."""
    router = APIRouter(tags=["scaling"])

    def state_of(name: str) -> ScalerState:
        state = scaler.explain(name)
        if state is not None:
            return state
        known = list(deployments())
        if name not in known:
            raise UnknownReplica(f"There is no deployment '{name}'.{did_you_mean(name, known)}")
        raise LifecycleRefused(
            f"'{name}' is not scaled by itself: its deployment has no 'scaling' in the file. "
            f"By hand: inferry scale {name} N"
        )

    @router.get("/scaling")
    async def list_scaling() -> list[ScalingView]:
        moment = Moment.of(clock)
        return [view_state(state, moment) for state in scaler.states()]

    @router.get("/scaling/history")
    async def history(deployment: str | None = None, since: float | None = None) -> HistoryView:
        past = await asyncio.to_thread(read_journal, journal_folder, run)
        return view_past(past, deployment=deployment, since=since, known=deployments())

    @router.get("/deployments/{name}/scaling")
    async def explain(name: str) -> ScalingView:
        return view_state(state_of(name), Moment.of(clock))

    @router.post("/deployments/{name}/scaling/dry-run")
    async def dry_run(name: str, wanted: DryRunWanted) -> DryRunView:
        state = scaler.explain(name)
        scaling = wanted.scaling or state_of(name).scaling
        moment = Moment.of(clock)
        looks = [view_decision(each, moment) for each in scaler.dry_run(name, scaling)]
        return DryRunView(deployment=name, simulated=state is not None and state.simulated, looks=looks)

    @router.post("/deployments/{name}/scaling/auto")
    async def back_to_auto(name: str) -> AutoView:
        state_of(name)
        return AutoView(deployment=name, message=await auto(name))

    return router
