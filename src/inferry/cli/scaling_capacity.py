"""What one replica carries within the objectives of `scaling: slo:`, as the planner says it of requests like those that
come: asked once enough of them have ended to know what they are like."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable

import structlog

from inferry.core.deployment_base import ManagedBase
from inferry.core.errors import ConfigError
from inferry.core.scaling_settings import Scaling, ScalingSlo
from inferry.fleet.launch_notes import Foresight
from inferry.fleet.plan import DeploymentPlan
from inferry.planner.answers import Performance
from inferry.planner.capacity import capacity_of, strain
from inferry.planner.load import Load, Slo
from inferry.policy.scaling.decision import ReplicaCapacity
from inferry.policy.scaling.observation import Traffic

log = structlog.get_logger()

LOOK_S = 5.0
ENDED_MIN = 50
"""Requests, before their mean lengths are taken for what is asked here."""
FLOOD = 1e6
"""Requests/s that no replica serves: what comes out then is the most that can."""


class PlannedCapacities:
    """One task, `run`. Asked once for each deployment and its settings; what is seen corrects the figure from then on."""

    def __init__(
        self,
        plans: Callable[[], Iterable[DeploymentPlan]],
        traffic: Callable[[str], Traffic | None],
        foresee: Callable[[DeploymentPlan], Foresight | None],
        on_known: Callable[[str], None],
    ) -> None:
        """`traffic`: of a deployment, as last seen. `foresee` blocks, and is called in a thread. `on_known`: there is a
        figure for this deployment now."""
        self._plans = plans
        self._traffic = traffic
        self._foresee = foresee
        self._on_known = on_known
        self._asked: dict[str, tuple[DeploymentPlan, Scaling]] = {}
        self._known: dict[str, ReplicaCapacity] = {}

    def of(self, plan: DeploymentPlan, scaling: Scaling) -> ReplicaCapacity | None:
        """None: not known yet, or never."""
        return self._known.get(plan.name) if self._asked.get(plan.name) == (plan, scaling) else None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for plan in list(self._plans()):
                await self._look_at(plan)
            await asyncio.sleep(LOOK_S)

    async def _look_at(self, plan: DeploymentPlan) -> None:
        deployment = plan.deployment
        scaling = deployment.scaling if isinstance(deployment, ManagedBase) else None
        if scaling is None or scaling.slo is None or scaling.slo.requests_per_s is not None:
            return
        traffic = self._traffic(plan.name)
        if self._asked.get(plan.name) == (plan, scaling) or traffic is None or traffic.ended < ENDED_MIN:
            return
        self._asked[plan.name] = (plan, scaling)
        self._known.pop(plan.name, None)
        try:
            found = await asyncio.to_thread(self._ask, plan, scaling.slo, traffic)
        except Exception:  # it scales without the figure, too, and serving must not end for want of it
            log.exception("replica_capacity_broke", deployment=plan.name)
            return
        if found is not None:
            log.info("replica_capacity", deployment=plan.name, requests_per_s=found.requests_per_s)
            self._known[plan.name] = found
            self._on_known(plan.name)

    def _ask(self, plan: DeploymentPlan, slo: ScalingSlo, traffic: Traffic) -> ReplicaCapacity | None:
        try:
            foresight = self._foresee(plan)
        except ConfigError as error:
            log.info("replica_capacity_unknown", deployment=plan.name, because=error.message)
            return None
        if foresight is None or foresight.performance is None:
            return None
        return planned_capacity(foresight.performance, slo, traffic)


def planned_capacity(
    performance: Callable[[Load], Performance], slo: ScalingSlo, traffic: Traffic
) -> ReplicaCapacity | None:
    """Of one replica, for requests of the mean lengths that ended. None: not even a few of them keep the objectives, as
    the planner sees it, or it is never at its end."""
    prompt_tokens = traffic.prompt_tokens / traffic.ended
    output_tokens = max(traffic.output_tokens / traffic.ended, 1.0)
    wanted = Slo(ttft_ms=slo.ttft_ms, itl_ms=slo.itl_ms, percentile=slo.attainment)

    def look(requests_per_s: float) -> tuple[Performance, float]:
        load = Load(prompt_tokens, output_tokens, requests_per_s=requests_per_s)
        found = performance(load)
        return found, strain(found, load, wanted)

    most = look(FLOOD)[0].requests_per_s.value
    if not 0 < most < math.inf:
        return None
    carried = capacity_of(look, most, whole=False).requests_per_s
    if carried <= 0:
        return None
    return ReplicaCapacity(carried, prompt_tokens, output_tokens, "planner")
