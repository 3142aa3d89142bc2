"""How much memory a deployment takes when it is loaded, and how that is known."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from inferry.core.deployment_base import ManagedBase
from inferry.core.errors import ConfigError
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.replica_set import needs_replacing, seats
from inferry.policy.model_swap import CannotLoad, Holder, decide_load, in_gib

WEIGHT_ENDINGS = (".safetensors", ".gguf", ".bin", ".pt")


class NeedSource(StrEnum):
    FILE = "file"
    """`memory` in the deployment file."""
    MEASURED = "measured"
    """The most that its processes held so far; without what a GPU holds."""
    WEIGHTS = "weights"
    """The size of the model's files: a first guess, until it has been loaded once."""
    UNKNOWN = "unknown"
    """Counted as nothing until it has been loaded once."""


@dataclass(frozen=True, slots=True)
class Need:
    """Of all replicas of a deployment together, standby ones too."""

    need_bytes: int
    source: NeedSource


class MemoryNeeds:
    """What is known of each deployment's need. It learns by `measured`."""

    def __init__(self) -> None:
        self._peaks: dict[str, tuple[DeploymentPlan, int]] = {}
        """The most that one replica held, with the plan that it ran."""

    def of(self, plan: DeploymentPlan) -> Need:
        replicas = len(seats(plan))
        assert isinstance(plan.deployment, ManagedBase)
        if plan.deployment.memory is not None:
            return Need(plan.deployment.memory * replicas, NeedSource.FILE)
        then, peak_bytes = self._peaks.get(plan.name, (plan, 0))
        if peak_bytes and not needs_replacing(then, plan):
            return Need(peak_bytes * replicas, NeedSource.MEASURED)
        weights_bytes = weights_size(plan.model_path)
        if weights_bytes:
            return Need(weights_bytes * replicas, NeedSource.WEIGHTS)
        return Need(0, NeedSource.UNKNOWN)

    def largest(self, plan: DeploymentPlan) -> Need:
        """The larger of that and of what `check_budget` reckons with when the file is read again. What fits by this
        one goes on to fit."""
        return max(self.of(plan), MemoryNeeds().of(plan), key=lambda need: need.need_bytes)

    def measured(self, plan: DeploymentPlan, replica_bytes: int) -> None:
        """A ready replica of it holds so much now."""
        then, peak_bytes = self._peaks.get(plan.name, (plan, 0))
        if needs_replacing(then, plan):
            peak_bytes = 0
        self._peaks[plan.name] = (plan, max(peak_bytes, replica_bytes))


def weights_size(path: Path | None) -> int:
    """Bytes of the model's files; 0 if there are none here."""
    if path is None:
        return 0
    try:
        if path.is_file():
            return path.stat().st_size
        sizes: dict[str, int] = {}
        for file in path.iterdir():
            if file.suffix in WEIGHT_ENDINGS:
                sizes[file.suffix] = sizes.get(file.suffix, 0) + file.stat().st_size
    except OSError:
        return 0
    # One format is loaded, where a repository has several: the first of the list that is there.
    return next((sizes[ending] for ending in WEIGHT_ENDINGS if ending in sizes), 0)


def check_budget(
    budget_bytes: int | None, plans: Mapping[str, DeploymentPlan], to_fetch: Collection[str] = ()
) -> None:
    """Raises ConfigError for what no swapping can make fit, or what can't be reckoned with, all of it.

    `to_fetch`: deployments whose weights are not here yet; what they need will be known by then.
    """
    managed = [plan for plan in plans.values() if not plan.deployment.runs_elsewhere]
    if budget_bytes is None:
        return
    needs = {plan.name: MemoryNeeds().of(plan) for plan in managed}
    always = [
        Holder(plan.name, needs[plan.name].need_bytes, False)
        for plan in managed
        if not plan.deployment.on_demand
    ]
    always_bytes = sum(each.need_bytes for each in always)
    problems = []
    if always_bytes > budget_bytes:
        problems.append(
            f"host.memory_budget is too small for what is always loaded ({', '.join(h.name for h in always)}): "
            f"they need {in_gib(always_bytes)}, which is {in_gib(always_bytes - budget_bytes)} more than the "
            f"{in_gib(budget_bytes)}. Give it more, or let some load on demand (load: on_demand)."
        )
    for plan in managed:
        if not plan.deployment.on_demand:
            continue
        need = needs[plan.name]
        if need.source is NeedSource.UNKNOWN and plan.name not in to_fetch:
            problems.append(
                f"deployments.{plan.name}.memory: host.memory_budget is set, and nobody knows what '{plan.name}' "
                "needs. Say what one replica takes, as 8GiB."
            )
        decision = decide_load(need.need_bytes, budget_bytes, always, 0.0)
        if isinstance(decision, CannotLoad) and always_bytes <= budget_bytes:
            problems.append(f"deployments.{plan.name} can never be loaded: {decision.because}.")
    if problems:
        raise ConfigError("\n".join(problems))
