"""LoRA adapters that are loaded while engines run: at every replica that serves, and at each one that comes later.

They live as long as Inferry does. What shall be there after a restart belongs into `lora` of the file.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from inferry.core.errors import LifecycleRefused, UnknownReplica
from inferry.core.replica import Endpoint, ReplicaState, ReplicaView
from inferry.core.suggest import did_you_mean
from inferry.engines.adapter import WarmupRequest
from inferry.engines.lora_live import load_call, unload_call
from inferry.engines.lora_names import lora_models
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.probe import Prober

log = structlog.get_logger()

_NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)
_SERVES = frozenset({ReplicaState.READY, ReplicaState.SUSPECT})


@dataclass(frozen=True, slots=True)
class LoraAdapter:
    """One adapter, for people."""

    deployment: str
    name: str
    path: str
    model: str | None
    """What clients send as `model`; None: its engine has no name for one."""
    from_file: bool
    missing: Mapping[str, str] = field(default_factory=dict)
    """Replicas that serve without it, each with its engine's reason."""


class LiveLora:
    """One change at a time for each deployment. All raise LifecycleRefused or UnknownReplica with words."""

    def __init__(
        self,
        prober: Prober,
        plans: Callable[[], Sequence[DeploymentPlan]],
        views: Callable[[], Sequence[ReplicaView]],
    ) -> None:
        self._prober = prober
        self._plans = plans
        self._views = views
        self._live: dict[str, dict[str, str]] = {}
        """By deployment: paths by adapter."""
        self._missing: dict[tuple[str, str], dict[str, str]] = {}
        """By (deployment, adapter): reasons by replica."""
        self._locks: dict[str, asyncio.Lock] = {}
        self.names: Callable[[], Collection[str]] = tuple
        """Those of `names:` in the file."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when `models` says something else."""

    def models(self) -> dict[str, dict[str, str]]:
        """By deployment: what its engine wants as `model`, by what clients send."""
        found = {}
        for plan in self._plans():
            live = self._live.get(plan.name)
            if live:
                found[plan.name] = lora_models(plan.name, plan.deployment, live)
        return found

    def adapters(self) -> list[LoraAdapter]:
        """Those of the file, and those that were loaded since."""
        found: list[LoraAdapter] = []
        for plan in self._plans():
            in_file: dict[str, str] = getattr(plan.deployment, "lora", {})
            live = self._live.get(plan.name, {})
            public = {
                name.rpartition("/")[2]: name
                for name in lora_models(plan.name, plan.deployment, [*in_file, *live])
            }
            for name, path in {**live, **in_file}.items():
                missing = self._missing.get((plan.name, name), {})
                found.append(
                    LoraAdapter(plan.name, name, path, public.get(name), name in in_file, dict(missing))
                )
        return found

    async def load(self, deployment: str, adapter: str, path: str) -> list[str]:
        """Returns the replicas that have it now; those that come later get it before they serve. If one of them
        refuses, none keeps it."""
        plan = self._plan(deployment)
        call = load_call(deployment, plan.deployment, adapter, path)
        self._check(plan, adapter, path)
        async with self._lock(deployment):
            if adapter in self._live.get(deployment, {}):
                raise LifecycleRefused(
                    f"'{deployment}' has an adapter '{adapter}' already. First: inferry lora unload {deployment} {adapter}"
                )
            serving = self._serving(deployment)
            refusals = await self._ask_all(serving, call)
            if refusals:
                took = [view for view in serving if view.id not in refusals]
                await self._ask_all(took, unload_call(deployment, plan.deployment, adapter))
                raise LifecycleRefused(_refused(f"'{adapter}' was not loaded", refusals))
            self._live.setdefault(deployment, {})[adapter] = path
        log.info("lora_loaded", deployment=deployment, adapter=adapter, path=path)
        self.on_change()
        return [view.id for view in serving]

    async def unload(self, deployment: str, adapter: str) -> list[str]:
        """Clients can't name it from now on; returns the replicas that have dropped it."""
        plan = self._plan(deployment)
        call = unload_call(deployment, plan.deployment, adapter)
        if adapter in getattr(plan.deployment, "lora", {}):
            raise LifecycleRefused(
                f"'{adapter}' is in the file: take it out of deployments.{deployment}.lora."
            )
        async with self._lock(deployment):
            live = self._live.get(deployment, {})
            if adapter not in live:
                raise LifecycleRefused(
                    f"'{deployment}' has no adapter '{adapter}'.{did_you_mean(adapter, list(live))}"
                )
            del live[adapter]
            missing = self._missing.pop((deployment, adapter), {})
            self.on_change()
            having = [view for view in self._serving(deployment) if view.id not in missing]
            refusals = await self._ask_all(having, call)
        log.info("lora_unloaded", deployment=deployment, adapter=adapter, refusals=refusals)
        if refusals:
            raise LifecycleRefused(
                _refused(f"Nobody can ask for '{adapter}' any more, but it stays", refusals)
            )
        return [view.id for view in having]

    async def before_ready(self, view: ReplicaView, endpoint: Endpoint) -> None:
        """A replica's engine is up, and is about to get requests: give it what the others have. What it refuses is
        noted and does not hold it up: the model itself is well."""
        # Not looked at before: one that is being loaded is not there yet, and passes by whoever is not ready yet.
        async with self._lock(view.deployment):
            live = self._live.get(view.deployment)
            if not live:
                return
            plan = self._plan(view.deployment)
            in_file = getattr(plan.deployment, "lora", {})
            for adapter, path in live.items():
                missing = self._missing.setdefault((view.deployment, adapter), {})
                missing.pop(view.id, None)
                if adapter in in_file:
                    continue
                try:
                    call = load_call(view.deployment, plan.deployment, adapter, path)
                except LifecycleRefused as error:  # the file has changed its engine
                    missing[view.id] = error.message
                    continue
                trouble = await self._prober.warm_up(endpoint, call, call.timeout_s)
                if trouble is not None:
                    missing[view.id] = trouble.reason
                    log.warning("lora_not_loaded", replica=view.id, adapter=adapter, because=trouble.reason)

    async def _ask_all(self, views: Sequence[ReplicaView], call: WarmupRequest) -> dict[str, str]:
        """Reasons by replica of those that refused."""
        refusals: dict[str, str] = {}

        async def ask(view: ReplicaView) -> None:
            assert view.endpoint is not None
            trouble = await self._prober.warm_up(view.endpoint, call, call.timeout_s)
            if trouble is not None:
                refusals[view.id] = trouble.reason

        async with asyncio.TaskGroup() as group:
            for view in views:
                group.create_task(ask(view))
        return refusals

    def _check(self, plan: DeploymentPlan, adapter: str, path: str) -> None:
        if not _NAME.fullmatch(adapter):
            raise LifecycleRefused(
                f"'{adapter}' can't be an adapter's name: use letters, digits and . _ -, 100 at most."
            )
        if adapter in getattr(plan.deployment, "lora", {}):
            raise LifecycleRefused(f"'{plan.name}' has an adapter '{adapter}' in the file.")
        public = f"{plan.name}/{adapter}"
        for other in self._plans():
            if public in other.deployment.aliases:
                raise LifecycleRefused(f"'{public}' is an alias of '{other.name}'.")
        if public in self.names():
            raise LifecycleRefused(
                f"'{public}' is in the file already, below 'names': load the adapter under another name."
            )
        if not (Path(path) / "adapter_config.json").is_file():
            raise LifecycleRefused(
                f"There is no adapter in {path}: it needs adapter_config.json, on the machine on which Inferry runs."
            )

    def _serving(self, deployment: str) -> list[ReplicaView]:
        return [
            view
            for view in self._views()
            if view.deployment == deployment and view.state in _SERVES and view.endpoint is not None
        ]

    def _plan(self, name: str) -> DeploymentPlan:
        plans = {plan.name: plan for plan in self._plans()}
        if name not in plans:
            raise UnknownReplica(f"There is no deployment '{name}'.{did_you_mean(name, list(plans))}")
        return plans[name]

    def _lock(self, deployment: str) -> asyncio.Lock:
        return self._locks.setdefault(deployment, asyncio.Lock())


def _refused(what: str, refusals: Mapping[str, str]) -> str:
    reasons = "; ".join(f"{replica_id}: {reason}" for replica_id, reason in sorted(refusals.items()))
    return f"{what}: {reasons}"
