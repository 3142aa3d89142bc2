"""Which models are loaded: on demand, within the memory budget, and not for longer than they are used.

unloaded ── wanted, and there is room ► loading ── a replica serves ► loaded
    ▲                                      │ none ever will              │ idle for too long, its memory is needed,
    └── all have left ◄ unloading ◄────────┴─────────────────────────────┘ or somebody says so

One task (`run`) moves all of them. Gateways say each second what requests wait for; whoever can't be loaded hears
why. Deployments that are always loaded only count: they are never touched here.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from inferry.core.clock import Clock
from inferry.core.deployment_base import ManagedBase
from inferry.core.errors import ConfigError, LifecycleRefused, UnknownReplica
from inferry.core.replica import ReplicaState, ReplicaView
from inferry.core.suggest import did_you_mean
from inferry.fleet.memory_need import MemoryNeeds
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.replica_set import seats
from inferry.fleet.scale_budget import check_scale
from inferry.fleet.swap_model import LoadState, Phase, SwapModel, Use
from inferry.policy.model_swap import (
    CannotLoad,
    Holder,
    LoadNow,
    UnloadFirst,
    WaitForMemory,
    decide_load,
    is_idle_too_long,
)

log = structlog.get_logger()

TICK_S = 1.0
WANTED_FOR_S = 3.0
"""Gateways say each second that requests wait; who is silent for longer wants nothing any more."""
AFTER_FAILURE_S = 15.0
"""After a load that failed, others are refused for so long: an engine that can't start would be started forever."""
_SERVES = (ReplicaState.READY, ReplicaState.SUSPECT)


class Loader(Protocol):
    """The fleet: see fleet/loading.py."""

    def is_loaded(self, name: str) -> bool: ...

    def failure(self, name: str) -> str | None: ...

    async def load(self, name: str) -> bool: ...

    async def unload(self, name: str, because: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What decides and what is told; called on the event loop, and must not raise."""

    loader: Loader
    plans: Callable[[], Sequence[DeploymentPlan]]
    budget_bytes: Callable[[], int | None]
    views: Callable[[], Sequence[ReplicaView]]
    use: Callable[[], Awaitable[Mapping[str, Use]]]
    """As it is now, by deployment."""
    tell: Callable[[str, str, float | None], None]
    """(deployment, what is said, refused for so many seconds or None): how a load goes that gateways wait for."""


class ModelSwap:
    """See the module."""

    def __init__(self, around: Surroundings, needs: MemoryNeeds, clock: Clock) -> None:
        self._around = around
        self._needs = needs
        self._clock = clock
        self._models: dict[str, SwapModel] = {}
        self._wake = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._unloads: dict[str, asyncio.Task[None]] = {}
        self._follow_file()

    # --- what others say and ask ----------------------------------------------------------------------

    def want(self, name: str) -> None:
        """Requests wait for this model at a gateway."""
        model = self._models.get(name)
        if model is not None:
            self._note_wanted(model)

    def on_view(self, view: ReplicaView) -> None:
        """A replica has changed."""
        if view.deployment in self._models:
            self._wake.set()

    def states(self) -> dict[str, LoadState]:
        """Of deployments that load on demand."""
        plans = {plan.name: plan for plan in self._around.plans()}
        return {
            model.name: LoadState(
                model.phase,
                model.how_to_undrain if self._is_drained(plans[model.name]) else model.says,
                self._needs.of(plans[model.name]),
            )
            for model in self._models.values()
            if model.name in plans
        }

    async def load(self, name: str) -> None:
        """Returns when it serves. Raises LifecycleRefused where it can't be loaded. Cancelled before its load has
        begun, it is not loaded for this."""
        model, plan = self._find(name)
        if self._is_drained(plan):
            raise LifecycleRefused(f"'{name}' is {model.how_to_undrain}.")
        model.refused_until_s = -math.inf
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        model.by_hand.append(done)
        self._note_wanted(model)
        await done

    async def unload(self, name: str) -> str:
        """Returns when it has finished its requests, and its engines have ended; says what loads it
        again. One that is drained may have left already. Raises LifecycleRefused."""
        model, plan = self._find(name)
        if model.phase is not Phase.UNLOADED:
            await asyncio.shield(self._unload(model, "unloaded by hand"))
        elif not self._is_drained(plan):
            raise LifecycleRefused(f"'{name}' is not loaded.")
        if self._is_drained(plan):
            return f"It stays drained until: inferry undrain {name}"
        return "The next request loads it again, or 'inferry load'."

    def check_scale(self, plan: DeploymentPlan) -> None:
        """`plan` has more replicas than what it runs now. Raises LifecycleRefused if that is too much memory: beside
        what is loaded, or, if it is always loaded, beside one that could then never be."""
        most, model = self._needs.largest, self._models.get(plan.name)
        plans = {each.name: each for each in self._around.plans()}
        held = [replace(h, need_bytes=most(plans[h.name]).need_bytes) for h in self._holders(plan.name)]
        always = [each for each in held if not each.on_demand]
        need, budget_bytes = most(plan), self._around.budget_bytes()
        if model is not None and model.phase is Phase.UNLOADED:
            check_scale(plan, need, always, budget_bytes, [])
            return
        check_scale(plan, need, held, budget_bytes, [each.name for each in held if each.on_demand])
        for other in plans.values():
            if model is None and other.name in self._models:
                one = Holder(other.name, most(other).need_bytes, True)
                check_scale(plan, need, [*always, one], budget_bytes, [])

    def _find(self, name: str) -> tuple[SwapModel, DeploymentPlan]:
        self._follow_file()
        model = self._models.get(name)
        plans = {plan.name: plan for plan in self._around.plans()}
        if name not in plans:
            raise UnknownReplica(f"There is no deployment '{name}'.{did_you_mean(name, plans)}")
        if model is None:
            raise LifecycleRefused(
                f"'{name}' is not loaded on demand: only deployments with 'load: on_demand' can be loaded and "
                f"unloaded by hand. Of those there are: {', '.join(sorted(self._models)) or 'none'}."
            )
        return model, plans[name]

    def _is_drained(self, plan: DeploymentPlan) -> bool:
        """All of its replicas were taken out by hand."""
        drained = [view.drained for view in self._around.views() if view.deployment == plan.name]
        return all(drained) and len(drained) >= len(seats(plan))

    def _note_wanted(self, model: SwapModel) -> None:
        model.wanted_s = self._clock.now_s()
        if model.wanted_since_s is None:
            model.wanted_since_s = model.wanted_s
        self._wake.set()

    # --- life -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as self._group:
            while True:
                try:
                    await self._step()
                except Exception:  # a fault of ours must not keep models from being loaded for good
                    log.exception("model_swap_broke")
                try:
                    async with asyncio.timeout(TICK_S):
                        await self._wake.wait()
                except TimeoutError:
                    continue
                self._wake.clear()

    async def _step(self) -> None:
        self._follow_file()
        if not self._models:
            return
        use = await self._around.use()
        now_s = self._clock.now_s()
        for plan in self._around.plans():
            if plan.name in self._models:
                self._look_at(plan, self._models[plan.name], use.get(plan.name, Use()), now_s)
        self._unload_idle(now_s)
        self._make_fit(now_s)
        self._load_wanted(now_s)

    def _follow_file(self) -> None:
        wanted = {plan.name for plan in self._around.plans() if plan.deployment.on_demand}
        for name in [name for name in self._models if name not in wanted]:
            self._models.pop(name).settle(f"'{name}' is not loaded on demand any more.")
        for name in wanted - self._models.keys():
            phase = Phase.LOADING if self._around.loader.is_loaded(name) else Phase.UNLOADED
            self._models[name] = SwapModel(name, phase, self._clock.now_s())

    def _look_at(self, plan: DeploymentPlan, model: SwapModel, use: Use, now_s: float) -> None:
        if use.held or use.sent > model.sent:
            model.used_s = now_s
        model.held, model.sent = use.held, use.sent
        model.forget_leavers()
        if model.phase not in (Phase.LOADING, Phase.LOADED):
            return
        failure = self._around.loader.failure(model.name)
        if failure is not None:
            self._on_failure(model, failure, now_s)
        elif self._is_drained(plan):  # no engine comes back by itself: its memory is for others
            self._unload(model, "drained by hand")
        elif self._serves(model.name):
            if model.phase is Phase.LOADING:
                model.phase, model.says = Phase.LOADED, ""
                model.loaded_s = model.used_s = now_s
                log.info("model_loaded", deployment=model.name)
            model.wanted_since_s = None
            model.settle()

    def _on_failure(self, model: SwapModel, failure: str, now_s: float) -> None:
        log.warning("model_not_loaded", deployment=model.name, because=failure)
        self._refuse(model, failure, AFTER_FAILURE_S, now_s)
        self._unload(model, failure)

    def _unload_idle(self, now_s: float) -> None:
        for plan in self._around.plans():
            model = self._models.get(plan.name)
            deployment = plan.deployment
            if model is None or not isinstance(deployment, ManagedBase):
                continue
            if is_idle_too_long(self._holder(plan, model), deployment.idle_unload_s, now_s):
                self._unload(model, f"nobody asked for it for {deployment.idle_unload_s:g} s")

    def _make_fit(self, now_s: float) -> None:
        """Engines turned out to take more than was thought when they were loaded: idle ones leave."""
        holders = self._holders()
        decision = decide_load(0, self._around.budget_bytes(), holders, now_s)
        if isinstance(decision, UnloadFirst) and not any(self._models[name].held for name in decision.names):
            for name in decision.names:
                self._unload(self._models[name], "all engines together take more than host.memory_budget")

    # --- what is wanted -------------------------------------------------------------------------------

    def _load_wanted(self, now_s: float) -> None:
        """In the order in which they were asked for: nobody takes the memory that another one waits for."""
        before: list[Holder] = []
        plans = {plan.name: plan for plan in self._around.plans()}
        wanted = [model for model in self._models.values() if model.is_wanted]
        for model in sorted(wanted, key=lambda each: each.wanted_since_s or 0.0):
            plan = plans[model.name]
            if not model.by_hand and now_s - model.wanted_s > WANTED_FOR_S:
                model.wanted_since_s = None
            elif self._is_drained(plan):
                self._refuse_drained(model)
            elif now_s < model.refused_until_s:
                self._refuse(model, model.says, model.refused_until_s - now_s, now_s)
            elif model.phase is Phase.UNLOADED:
                self._ask_policy(plan, model, before, now_s)
            else:
                self._say(model, self._progress(model))
            if model.is_wanted and model.phase in (Phase.UNLOADED, Phase.UNLOADING):
                # It comes before those that were asked for later.
                before.append(Holder(model.name, self._needs.of(plan).need_bytes, True))

    def _ask_policy(
        self, plan: DeploymentPlan, model: SwapModel, before: Sequence[Holder], now_s: float
    ) -> None:
        need_bytes = self._needs.of(plan).need_bytes
        holders = [*self._holders(model.name), *before]
        match decide_load(need_bytes, self._around.budget_bytes(), holders, now_s):
            case LoadNow(because):
                self._load(model, because)
            case UnloadFirst(names, because):
                for name in names:
                    self._unload(self._models[name], f"'{model.name}' is asked for, and {because}")
                self._say(model, f"{', '.join(names)} must be unloaded first")
            case WaitForMemory(because):
                self._say(model, because)
            case CannotLoad(because):
                self._refuse(model, because, AFTER_FAILURE_S, now_s)

    def _holders(self, but: str = "") -> list[Holder]:
        """All that hold memory, or are about to."""
        holders = []
        for plan in self._around.plans():
            if plan.name == but or plan.deployment.runs_elsewhere:
                continue
            model = self._models.get(plan.name)
            if model is None:
                holders.append(Holder(plan.name, self._needs.of(plan).need_bytes, False))
            elif model.phase is not Phase.UNLOADED:
                holders.append(self._holder(plan, model))
        return holders

    def _holder(self, plan: DeploymentPlan, model: SwapModel) -> Holder:
        assert isinstance(plan.deployment, ManagedBase)
        return Holder(
            name=plan.name,
            need_bytes=self._needs.of(plan).need_bytes,
            on_demand=True,
            requests=model.held,
            used_s=model.used_s,
            loaded_s=model.loaded_s,
            loaded_min_s=plan.deployment.loaded_min_s,
            is_leaving=model.phase is Phase.UNLOADING,
        )

    def _progress(self, model: SwapModel) -> str:
        if model.phase is Phase.UNLOADING:
            return "it is being unloaded first"
        messages = [each.message for each in self._around.views() if each.deployment == model.name]
        why = next((each.partition("\n")[0][:200] for each in messages if each), "")
        return f"no replica serves yet ({why})" if why else "its engine is starting"

    def _serves(self, name: str) -> bool:
        return any(
            view.deployment == name and view.state in _SERVES and view.endpoint is not None
            for view in self._around.views()
        )

    def _say(self, model: SwapModel, says: str) -> None:
        model.says = says
        self._around.tell(model.name, says, None)

    def _refuse(self, model: SwapModel, because: str, for_s: float, now_s: float) -> None:
        model.says = because
        model.refused_until_s = now_s + for_s
        model.wanted_since_s = None
        self._around.tell(model.name, because, for_s)
        model.settle(f"'{model.name}' can't be loaded: {because}.")

    def _refuse_drained(self, model: SwapModel) -> None:
        """Nothing is remembered: as soon as it is brought back, requests may wait for it again."""
        model.wanted_since_s = None
        self._around.tell(model.name, "its operator has drained it", AFTER_FAILURE_S)
        model.settle(f"'{model.name}' is {model.how_to_undrain}.")

    # --- doing it -------------------------------------------------------------------------------------

    def _load(self, model: SwapModel, because: str) -> None:
        assert self._group is not None
        model.phase, model.loaded_s, model.sent = Phase.LOADING, None, 0
        log.info("model_load", deployment=model.name, because=because)
        self._say(model, "its engine is starting")
        self._group.create_task(self._do_load(model))

    async def _do_load(self, model: SwapModel) -> None:
        try:
            is_there = await self._around.loader.load(model.name)
        except ConfigError as error:
            self._refuse(model, error.message, AFTER_FAILURE_S, self._clock.now_s())
            is_there = False
        except Exception as error:  # a fault of ours at one model, and none of the others
            log.exception("model_load_broke", deployment=model.name)
            self._refuse(model, f"internal error: {error!r}", AFTER_FAILURE_S, self._clock.now_s())
            is_there = self._around.loader.is_loaded(model.name)
        if not is_there:
            model.phase = Phase.UNLOADED
        self._wake.set()

    def _unload(self, model: SwapModel, because: str) -> asyncio.Task[None]:
        """The one task that does it."""
        assert self._group is not None
        if model.phase is not Phase.UNLOADING:
            log.info("model_unload", deployment=model.name, because=because)
            model.phase, model.says = Phase.UNLOADING, because
            self._unloads[model.name] = self._group.create_task(self._do_unload(model, because))
        return self._unloads[model.name]

    async def _do_unload(self, model: SwapModel, because: str) -> None:
        try:
            await self._around.loader.unload(model.name, because)
        except ConfigError as error:  # it ends as a whole
            log.info("model_not_unloaded", deployment=model.name, because=error.message)
        except Exception:
            log.exception("model_unload_broke", deployment=model.name)
        model.phase, model.loaded_s = Phase.UNLOADED, None
        if self._clock.now_s() >= model.refused_until_s:
            model.says = model.how_to_load
        self._wake.set()
