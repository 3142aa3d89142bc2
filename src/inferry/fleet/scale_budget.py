"""Whether another number of replicas, asked for by hand, stays within the memory budget."""

from __future__ import annotations

from collections.abc import Sequence

from inferry.core.deployment_base import ManagedBase
from inferry.core.errors import LifecycleRefused
from inferry.fleet.memory_need import Need
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.replica_set import seats
from inferry.policy.model_swap import Holder, in_gib


def check_scale(
    plan: DeploymentPlan,
    need: Need,
    others: Sequence[Holder],
    budget_bytes: int | None,
    loaded: Sequence[str],
) -> None:
    """Raises LifecycleRefused, with the sum, the budget and the way out, if `plan` does not fit beside `others`.

    `need` is that of `plan`; `loaded` names those of the others that can be unloaded by hand. What needs nothing, as
    far as is known, is never too much, whatever the others need.
    """
    if not need.need_bytes:
        return
    others_bytes = sum(each.need_bytes for each in others)
    total_bytes = need.need_bytes + others_bytes
    if budget_bytes is None or total_bytes <= budget_bytes:
        return
    count = len(seats(plan))  # standby ones, too
    beside = ", ".join(f"'{each.name}' {in_gib(each.need_bytes)}" for each in others if each.need_bytes)
    ways = ["raise host.memory_budget in the file"]
    assert isinstance(plan.deployment, ManagedBase)
    fewer = (budget_bytes - others_bytes) * count // need.need_bytes - plan.deployment.standby
    if fewer >= 1:
        ways.insert(0, f"scale to {fewer} at most")
    if loaded:
        ways.append(f"unload others first (inferry unload {loaded[0]})")
    raise LifecycleRefused(
        f"Too much memory: {count} replica(s) of '{plan.name}' need {in_gib(need.need_bytes)}"
        + (f", others {in_gib(others_bytes)} ({beside})" if others_bytes else "")
        + f". That is {in_gib(total_bytes)}, and host.memory_budget is {in_gib(budget_bytes)}. Nothing was changed: "
        f"{', or '.join(ways)}."
    )
