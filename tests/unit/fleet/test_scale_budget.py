"""Another number of replicas, asked for by hand, and the memory budget."""

from __future__ import annotations

import pytest

from inferry.core.errors import LifecycleRefused
from inferry.core.local_engines import SimulatedDeployment
from inferry.engines.registry import adapter_for
from inferry.fleet.memory_need import Need, NeedSource
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.scale_budget import check_scale
from inferry.policy.model_swap import Holder

GIB = 2**30


def test_what_needs_no_memory_is_never_too_much() -> None:
    """Even beside others that are above the budget already; the same with a need is refused."""
    deployment = SimulatedDeployment(engine="simulated", replicas=2)
    plan = DeploymentPlan("chat", deployment, adapter_for("chat", deployment), None)
    others = [Holder("other", 9 * GIB, True)]
    check_scale(plan, Need(0, NeedSource.UNKNOWN), others, 8 * GIB, ["other"])
    with pytest.raises(LifecycleRefused, match=r"others 9\.0 GiB"):
        check_scale(plan, Need(1, NeedSource.WEIGHTS), others, 8 * GIB, ["other"])
